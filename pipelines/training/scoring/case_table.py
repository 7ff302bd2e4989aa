"""Table of scored cases for the screen: a row for each, then the means."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
