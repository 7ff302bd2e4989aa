"""What ``dicom-node models`` prints: lines, figures, and a bar that moves beneath them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from pipelines.training.fatsat.training import Stage
    from pipelines.training.recipes import Phase

console = Console(highlight=False, soft_wrap=True)


def print_line(text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False)


def print_scores(scores: Mapping[str, Any]) -> None:
    """Print what an evaluation of a network on FLAIR found (`pipelines.training.evaluation.evaluate`)."""
    for heading, group in scores["groups"].items():
        print_line(f"\n{heading}, {len(group['cases'])}")
        for part in ("mean", "classes"):
            _print_figures(part, group[part])
        for thickness, means in group["degraded"].items():
            _print_figures(f"mean at {thickness}", means)
    if scores["targets"]:
        print_line("\ntargets, cases never seen in training")
    for target in scores["targets"]:
        print_line(target["text"])


def _print_figures(heading: str, figures: dict[str, float]) -> None:
    known = [f"{name} {value:.3f}" for name, value in figures.items() if math.isfinite(value)]
    if known:
        print_line(f"  {heading}: {', '.join(known)}")


@contextmanager
def progress_bar() -> Iterator[
    tuple[Callable[[str], None], Callable[[Phase | Stage, int, dict[str, float]], None]]
]:
    """Give what prints a line above the bar, and what moves the bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as progress:
        bar = progress.add_task("", total=None, visible=False, loss="")

        def watch(phase: Phase | Stage, step: int, parts: dict[str, float]) -> None:
            loss = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
            progress.update(
                bar, description=phase.name, total=phase.steps, completed=step, loss=loss, visible=True
            )

        yield lambda text: progress.console.print(text, markup=False), watch
