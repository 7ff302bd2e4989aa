"""Table of scored cases for the screen: a row for each, then the means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLUMNS = {
    "Dice": ("dice", 2),
    "precision": ("ppv", 2),
    "recall": ("tpr", 2),
    "true mL": ("truth_ml", 1),
    "found mL": ("volume_ml", 1),
    "found/true": ("volume_ratio", 2),
    "lesion F1": ("lesion_f1", 2),
    "false mL": ("false_ml", 2),
}
"""Heading to the score of `MaskScores` and its decimals."""
NOTES = "lesion F1: lesions of 10 mm3 and more, found where they share a voxel; false mL: drawn where the truth has no lesion"
MUCH_ML = 1.0
"""Found in a head without lesions, and told apart."""


def case_table(group: Mapping[str, Any]) -> list[str]:
    """Return the cases of a group with known lesions as lines of a table, with the means and what normal heads got.

    Empty where no case has scores.

    Parameters
    ----------
    group : mapping
        As of `case_results.grouped`.
    """
    cases = {name: figures for name, figures in group["cases"].items() if "dice" in figures}
    if not cases:
        return []
    thick = [f"mean at {thickness}" for thickness in group["degraded"]]
    width = max(map(len, [*cases, *thick, "mean"]))
    lines = [f"  {'':{width}}  " + "  ".join(COLUMNS)]
    lines += [_row(name, figures, width) for name, figures in cases.items()]
    lines.append(_row("mean", group["mean"], width))
    lines += [_row(f"mean at {mm}", means, width) for mm, means in group["degraded"].items()]
    lines.append(f"  {NOTES}")
    lines += _interval_line(list(cases.values())) + _lesion_lines(cases)
    normal = [figures["volume_ml"] for figures in cases.values() if figures["truth_ml"] == 0]
    if normal:
        many = sum(found > MUCH_ML for found in normal)
        lines.append(
            f"  heads without lesions, {len(normal)}: found {np.mean(normal):.2f} mL in the mean, {max(normal):.2f} mL "
            f"at most, above {MUCH_ML:g} mL in {many}"
        )
    return lines


def _row(name: str, figures: Mapping[str, Any], width: int) -> str:
    cells = []
    for heading, (key, decimals) in COLUMNS.items():
        value = float(figures.get(key, math.nan))
        cells.append(f"{'-' if not math.isfinite(value) else f'{value:.{decimals}f}':>{len(heading)}}")
    return f"  {name:{width}}  " + "  ".join(cells)


def _interval_line(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return in how many cases with lesions the interval of the volume held the truth, and how wide it was."""
    stated = [c for c in cases if c["truth_ml"] > 0 and c.get("interval_low_ml", math.nan) > 0]
    if not stated:
        return []
    held = sum(c["interval_holds_truth"] == 1 for c in stated)
    width = np.median([c["interval_high_ml"] / c["interval_low_ml"] for c in stated])
    return [
        f"  interval of the volume: held the truth in {held} of {len(stated)}, the upper end {width:.2f} times the lower one "
        "(median)"
    ]


def _lesion_lines(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how many listed lesions are true, by their probabilities and in truth, and counts in slices of each thickness."""
    listed = [c for c in cases.values() if c.get("lesions", 0) > 0]
    lines = []
    if listed:
        total, said, true = (
            sum(c[key] for c in listed) for key in ("lesions", "lesions_said", "lesions_true")
        )
        lines.append(
            f"  listed lesions: {total:.0f}, by their probabilities {said:.1f} of them true, {true:.0f} share a voxel with one"
        )
    for name, figures in cases.items():
        if "lesions_sized" in figures and "degraded" in figures:
            thick = [f"{scores['lesions_sized']:.0f} at {mm}" for mm, scores in figures["degraded"].items()]
            lines.append(
                f"  lesions of 10 mm3 and more in {name}: {figures['lesions_sized']:.0f}, {', '.join(thick)}"
            )
    return lines
