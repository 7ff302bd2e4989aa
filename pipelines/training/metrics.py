"""How a mask compares with the truth: overlap, volumes, and lesions found."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import cc3d
import numpy as np

from pipelines.types import BoolArray

SMALLEST_MM3 = 10.0
"""Lesions below it count neither as found nor as missed nor as false."""


@dataclass(frozen=True)
class MaskScores:
    """Scores of one mask.

    Parameters
    ----------
    dice, ppv, tpr : float
        In [0, 1]; nan where nothing defines them.
    volume_difference : float
        |V - V_true| / V_true, on total volumes.
    lesion_f1 : float
        Over lesions of at least 10 mm3: found where a voxel is shared.
    volume_ml, truth_ml, false_ml : float
    """

    dice: float
    ppv: float
    tpr: float
    volume_difference: float
    lesion_f1: float
    volume_ml: float
    truth_ml: float
    false_ml: float

    def as_dict(self) -> dict[str, float]:
        """Return the scores under their names, rounded to 4 places."""
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def lesion_f1(mask: BoolArray, truth: BoolArray, voxel_mm3: float) -> float:
    """Return the F1 of lesions: 26-connected components of at least `SMALLEST_MM3` that share a voxel."""

    def found(of: BoolArray, by: BoolArray) -> tuple[int, int]:
        labels = cc3d.connected_components(np.ascontiguousarray(of), connectivity=26)
        sizes = np.bincount(labels.ravel())
        large = np.flatnonzero(sizes * voxel_mm3 >= SMALLEST_MM3)
        large = large[large > 0]
        touched = np.unique(labels[by & of])
        return len(large), int(np.isin(large, touched).sum())

    real, real_found = found(truth, mask)
    drawn, drawn_true = found(mask, truth)
    recall, precision = _ratio(real_found, real), _ratio(drawn_true, drawn)
    if real == 0 and drawn == 0:
        return float("nan")
    if not recall or not precision or np.isnan(recall) or np.isnan(precision):
        return 0.0
    return 2 * recall * precision / (recall + precision)


def score_mask(mask: BoolArray, truth: BoolArray, voxel_mm3: float) -> MaskScores:
    """Score a mask against the truth, both bool, shape (k, j, i)."""
    both, drawn, real = (float(x.sum()) for x in (mask & truth, mask, truth))
    return MaskScores(
        dice=_ratio(2 * both, drawn + real),
        ppv=_ratio(both, drawn),
        tpr=_ratio(both, real),
        volume_difference=_ratio(abs(drawn - real), real),
        lesion_f1=lesion_f1(mask, truth, voxel_mm3),
        volume_ml=drawn * voxel_mm3 / 1000,
        truth_ml=real * voxel_mm3 / 1000,
        false_ml=(drawn - both) * voxel_mm3 / 1000,
    )


def class_scores(said: list[tuple[str, float]]) -> dict[str, float]:
    """Score classes from pairs of the true class ("MS", "NMOSD") and the probability of NMOSD.

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``sensitivity`` and ``specificity`` (NMOSD positive, threshold 0.5) and ``auc``; nan where
        a class has no case.
    """
    positive = np.array([p for label, p in said if label == "NMOSD"])
    negative = np.array([p for label, p in said if label == "MS"])
    n = len(positive) + len(negative)
    hits, quiet = float((positive > 0.5).sum()), float((negative <= 0.5).sum())
    above = (positive[:, None] > negative[None, :]).sum() + 0.5 * (
        positive[:, None] == negative[None, :]
    ).sum()
    return {
        "n": float(n),
        "accuracy": _ratio(hits + quiet, n),
        "sensitivity": _ratio(hits, len(positive)),
        "specificity": _ratio(quiet, len(negative)),
        "auc": _ratio(float(above), len(positive) * len(negative)),
    }
