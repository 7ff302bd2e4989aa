"""Curves as PNG: how the members were trained, and how the result depends on their number and on the lesion's contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.training.figures import new_figure, save_figure


def draw_histories(histories: Sequence[Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draw training and validation loss and the validation score of every member over its epochs."""
    figure = new_figure(9, 5)
    axes = figure.subplots(1, 3, sharex=True)
    for axis, key in zip(axes, ("loss", "validation loss", "validation score"), strict=True):
        for history in histories:
            axis.plot(range(1, len(history) + 1), [epoch[key] for epoch in history], linewidth=0.8, alpha=0.7)
        axis.set_title(key)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    save_figure(figure, path)


def draw_members(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Draw balanced accuracy over the number of members, with its range; a line for each set of eyes.

    Parameters
    ----------
    curves : mapping of heading to `optic_nerve_protocol.curve_of_members`
    """
    figure = new_figure(9, 5)
    axis = figure.subplots()
    for heading, points in curves.items():
        counts = [point["members"] for point in points]
        axis.plot(counts, [point["mean"] for point in points], marker=".", label=heading)
        axis.fill_between(
            counts, [point["lowest"] for point in points], [point["highest"] for point in points], alpha=0.2
        )
    axis.set_xlabel("members")
    axis.set_ylabel("balanced accuracy")
    axis.grid(alpha=0.3)
    axis.legend()
    save_figure(figure, path)


def draw_contrasts(curves: Mapping[str, Mapping[float, float]], path: Path) -> None:
    """Draw balanced accuracy over the lesion's contrast; a line for each method."""
    figure = new_figure(9, 5)
    axis = figure.subplots()
    for heading, points in curves.items():
        axis.plot(list(points), list(points.values()), marker="o", label=heading)
    axis.axhline(0.5, color="grey", linewidth=0.8, linestyle="--")
    axis.set_xlabel("lesion over nerve signal")
    axis.set_ylabel("balanced accuracy")
    axis.set_ylim(0.4, 1.02)
    axis.grid(alpha=0.3)
    axis.legend()
    save_figure(figure, path)
