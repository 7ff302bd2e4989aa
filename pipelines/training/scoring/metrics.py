"""Metrics of a mask against the truth (overlap, volumes, borders, lesions found), and of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats
from sklearn.metrics import roc_auc_score

from pipelines.types import BoolArray

SMALLEST_MM3 = 10.0
"""Lesions below it count neither as found nor as missed nor as false in the overall F1."""
SIZES_MM3 = {"f1_below_10": (0.0, 10.0), "f1_10_to_100": (10.0, 100.0), "f1_above_100": (100.0, math.inf)}
"""Lower bound within, upper bound without."""
NOT_DEFINED = float("nan")


@dataclass(frozen=True)
class MaskScores:
    """Scores of one mask; nan where nothing defines them.

    Parameters
    ----------
    dice, ppv, tpr : float
        In [0, 1].
    volume_difference : float
        |V - V_true| / V_true, on total volumes.
    volume_ratio : float
        V / V_true.
    lesion_f1 : float
        Over lesions of at least 10 mm3: found where a voxel is shared.
    f1_below_10, f1_10_to_100, f1_above_100 : float
        The same by size in mm3: sensitivity over the true lesions of that size, precision over the drawn ones.
    hd95_mm : float
        95th percentile of the Hausdorff distance, the larger of both directions.
    volume_ml, truth_ml, false_ml : float
    """

    dice: float
    ppv: float
    tpr: float
    volume_difference: float
    volume_ratio: float
    lesion_f1: float
    f1_below_10: float
    f1_10_to_100: float
    f1_above_100: float
    hd95_mm: float
    volume_ml: float
    truth_ml: float
    false_ml: float

    def as_dict(self) -> dict[str, float]:
        """Return the scores under their names, rounded to 4 places."""
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


def ratio(a: float, b: float) -> float:
    """Return a / b, nan for b = 0."""
    return a / b if b else NOT_DEFINED


def _components(of: BoolArray, by: BoolArray, voxel_mm3: float) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """Return the volume of each 26-connected component, mm3, and whether it shares a voxel with the other mask."""
    labels = cc3d.connected_components(np.ascontiguousarray(of), connectivity=26)
    volumes = np.bincount(labels.ravel())[1:].astype(np.float64) * voxel_mm3
    touched = np.unique(labels[by & of])
    return volumes, np.isin(np.arange(1, len(volumes) + 1), touched)


def lesion_f1(
    mask: BoolArray, truth: BoolArray, voxel_mm3: float, low: float = SMALLEST_MM3, high: float = math.inf
) -> float:
    """Return the F1 of lesions from ``low`` to below ``high`` mm3: components that share a voxel with the other mask.

    nan where neither mask has such a lesion; 0 where only one has.
    """
    counts = []
    for of, by in ((truth, mask), (mask, truth)):
        volumes, touched = _components(of, by, voxel_mm3)
        sized = (volumes >= low) & (volumes < high)
        counts.append((int(sized.sum()), int((sized & touched).sum())))
    (real, real_found), (drawn, drawn_true) = counts
    if not real and not drawn:
        return NOT_DEFINED
    if not real_found or not drawn_true:
        return 0.0
    recall, precision = real_found / real, drawn_true / drawn
    return 2 * recall * precision / (recall + precision)


def hausdorff_95(mask: BoolArray, truth: BoolArray, spacing_mm: Sequence[float]) -> float:
    """Return the 95th percentile of the distances between the borders, the larger of both directions, in mm.

    nan where a mask is empty. ``spacing_mm`` is that of the voxels along k, j and i.
    """
    if not mask.any() or not truth.any():
        return NOT_DEFINED
    one, other = (m & ~ndimage.binary_erosion(m) for m in (mask, truth))
    directed = [
        np.percentile(ndimage.distance_transform_edt(~to, sampling=spacing_mm)[of], 95)
        for of, to in ((one, other), (other, one))
    ]
    return float(max(directed))


def score_mask(mask: BoolArray, truth: BoolArray, spacing_mm: Sequence[float]) -> MaskScores:
    """Score a mask against the truth, both bool, shape (k, j, i), with the spacing along these axes in mm.

    Where the truth holds no lesion there is no overlap to score: Dice, PPV and F1 are nan, ``false_ml`` says what was drawn.
    """
    voxel_mm3 = math.prod(spacing_mm)
    both, drawn, real = (float(x.sum()) for x in (mask & truth, mask, truth))

    def f1(*bounds: float) -> float:
        return lesion_f1(mask, truth, voxel_mm3, *bounds) if real else NOT_DEFINED

    sizes = {name: f1(*bounds) for name, bounds in SIZES_MM3.items()}
    return MaskScores(
        dice=ratio(2 * both, drawn + real) if real else NOT_DEFINED,
        ppv=ratio(both, drawn) if real else NOT_DEFINED,
        tpr=ratio(both, real),
        volume_difference=ratio(abs(drawn - real), real),
        volume_ratio=ratio(drawn, real),
        lesion_f1=f1(),
        hd95_mm=hausdorff_95(mask, truth, spacing_mm),
        volume_ml=drawn * voxel_mm3 / 1000,
        truth_ml=real * voxel_mm3 / 1000,
        false_ml=(drawn - both) * voxel_mm3 / 1000,
        **sizes,
    )


def mean_scores(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the cases that define it, and the correlation of the volumes.

    ``volume_correlation`` is Pearson's, over cases with lesions; nan below three of them.
    """
    means: dict[str, float] = {}
    for name in scored[0] if scored else ():
        values = [s[name] for s in scored if math.isfinite(s[name])]
        means[name] = float(np.mean(values)) if values else NOT_DEFINED
    if scored:
        pairs = [(s["volume_ml"], s["truth_ml"]) for s in scored if s["truth_ml"] > 0]
        drawn, real = np.array(pairs).T if pairs else (np.empty(0), np.empty(0))
        varied = len(pairs) >= 3 and np.ptp(drawn) > 0 and np.ptp(real) > 0
        means["volume_correlation"] = float(stats.pearsonr(drawn, real)[0]) if varied else NOT_DEFINED
    return means


def class_scores(said: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Score classes from pairs of the true class ("MS", "NMOSD") and the probability of NMOSD.

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``sensitivity``, ``specificity``, ``ppv`` and ``npv`` (NMOSD positive, threshold 0.5) and
        ``auc``; nan where nothing defines it.
    """
    positive = np.array([p for label, p in said if label == "NMOSD"])
    negative = np.array([p for label, p in said if label == "MS"])
    n = len(positive) + len(negative)
    hits, quiet = float((positive > 0.5).sum()), float((negative <= 0.5).sum())
    false, missed = len(negative) - quiet, len(positive) - hits
    auc = NOT_DEFINED
    if len(positive) and len(negative):
        truth = [1] * len(positive) + [0] * len(negative)
        auc = float(roc_auc_score(truth, np.concatenate([positive, negative])))
    return {
        "n": float(n),
        "accuracy": ratio(hits + quiet, n),
        "sensitivity": ratio(hits, len(positive)),
        "specificity": ratio(quiet, len(negative)),
        "ppv": ratio(hits, hits + false),
        "npv": ratio(quiet, quiet + missed),
        "auc": auc,
    }


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of repeated measurements and its 95 % confidence interval (Student's t); nan values are left out."""
    known = np.array([v for v in values if math.isfinite(v)])
    if not len(known):
        return NOT_DEFINED, NOT_DEFINED, NOT_DEFINED
    mean = float(known.mean())
    if len(known) == 1 or np.ptp(known) == 0:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / math.sqrt(len(known)))
    return mean, mean - half, mean + half
