"""Scores on a data set: each case, means, thick slices, and what the project asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.device import resolve_device
from pipelines.errors import DataSetError
from pipelines.training.data_sets.cases import read_index
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.scoring.case_results import grouped, line_of, targets_of
from pipelines.training.scoring.case_table import case_table
from pipelines.training.scoring.scorer import OpenScorer
from pipelines.weights import FOLDER

Report = Callable[[str], None]


def evaluate(
    name: str,
    open_scorer: OpenScorer,
    data: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    degrade: Sequence[float] = (),
    report: Report = print,
) -> dict[str, object]:
    """Score weights on a data set.

    Parameters
    ----------
    name : str
        Of the network, for the result.
    open_scorer : callable
        Loads the weights.
    data : Path
        Folder with ``index.csv``; see `pipelines.training.data_sets.cases`.
    weights : Path, optional
        Folder with the weights; those that are installed by default. Several of one network are an ensemble.
    degrade : sequence of float
        Slice thicknesses, mm, at which the cases are scored again.
    report : callable
        Takes a line for each case.

    Returns
    -------
    dict
        ``name``, ``weights``, ``groups`` (see `grouped`) and ``targets``: what is asked, what was reached, by how much it was
        met or missed.

    Raises
    ------
    DataSetError, WeightsError
    """
    for thickness in degrade:
        if not thickness > SPACING_MM:
            raise DataSetError(f"slices of {thickness:g} mm are not thicker than the cube's {SPACING_MM} mm")
    scorer = open_scorer(weights or FOLDER, resolve_device(device))
    results = []
    for entry in read_index(data):
        results.append(scorer.score(entry, degrade))
        report(line_of(results[-1]))
    targets = [target for result in results if not result.seen for target in targets_of(result)]
    return {
        "name": name,
        "weights": scorer.weights,
        "groups": grouped(results),
        "targets": [target.as_dict() for target in targets],
    }


def lines_of(scores: Mapping[str, Any]) -> list[str]:
    """Return what `evaluate` found as lines for the screen."""
    lines = []
    for heading, group in scores["groups"].items():
        lines.append(f"\n{heading}, {len(group['cases'])}")
        lines += case_table(group)
        for part in ("mean", "classes"):
            lines += _figures(part, group[part])
        for thickness, means in group["degraded"].items():
            lines += _figures(f"mean at {thickness}", means)
    if scores["targets"]:
        lines.append("\ntargets, cases never seen in training")
    return [*lines, *(target["text"] for target in scores["targets"])]


def _figures(heading: str, figures: Mapping[str, float]) -> list[str]:
    known = [f"{name} {value:.3f}" for name, value in figures.items() if math.isfinite(value)]
    return [f"  {heading}: {', '.join(known)}"] if known else []
