"""Uncertainty of the mask: an interval for the total lesion volume and one for each lesion's probability.

The probability that is reported is the mean over the ensemble's predictions (each member, on the image and on its mirror
image); the mask is that mean cut at the threshold. The intervals say what single predictions would have reported: these, and
that of the joint network, which was trained apart from them.
[ours] No source paper gives a rule; ranges are said plainly. They hold the truth less often than one would think: where they
are fitted, the interval of the volume comes from `pipelines.flair.volume_calibration` and that of each lesion's probability
from `pipelines.flair.lesion_calibration`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.flair.lesions import LabelArray, lesion_volume_mm3
from pipelines.flair.native_voxels import Predictions
from pipelines.types import FloatArray, Interval, Lesion

THRESHOLD_LOGIT = float(np.log(0.7 / 0.3))
"""How far the threshold is moved, in logits, where there is but one prediction: 0.5 becomes 0.3 and 0.7."""


def lesions_with_intervals(
    lesions: tuple[Lesion, ...], labels: LabelArray, said: Predictions
) -> tuple[Lesion, ...]:
    """Return the lesions, each with the lowest and highest mean probability that a single prediction gives its voxels.

    Unchanged where there is one prediction only.

    Parameters
    ----------
    lesions : tuple of Lesion
        Numbered from 1.
    labels : int32 array, shape (k, j, i) of the native grid
        Their IDs.
    said : Predictions
        At the voxels of all lesions, and at others.
    """
    if len(said.values) < 2 or not lesions:
        return lesions
    ids = labels[tuple(said.voxels.T)]
    counts = np.bincount(ids, minlength=len(lesions) + 1)
    sums = [np.bincount(ids, weights=values, minlength=len(lesions) + 1) for values in said.values]
    basis = f"over {len(said.values)} predictions"
    found = []
    for lesion in lesions:
        means = [float(total[lesion.id] / counts[lesion.id]) for total in sums]
        interval = Interval(min(*means, lesion.probability), max(*means, lesion.probability), basis)
        found.append(replace(lesion, probability_interval=interval))
    return tuple(found)


def volume_interval(
    reported_mm3: float,
    probability: FloatArray,
    said: Predictions,
    voxel_mm3: float,
    threshold: float,
) -> Interval:
    """Return between which values the total lesion volume moves.

    With several predictions: the smallest and largest total volume that one of them alone gives at the same threshold and by
    the same rules. With one: the volumes where the threshold is moved by `THRESHOLD_LOGIT` down and up. It is the range
    of these analyses and holds the reported volume in any case; it is no confidence interval, and errors that all of them
    share (a lesion that none has learnt to see) do not show in it.

    Parameters
    ----------
    reported_mm3 : float
        Volume of the lesions that are reported.
    probability : float32 array, shape (k, j, i) of the native grid
        That is reported.
    said : Predictions
        One or more.
    voxel_mm3 : float
    threshold : float

    Returns
    -------
    Interval
        In mm3.
    """
    if len(said.values) < 2:
        logit = np.log(threshold / (1.0 - threshold))
        low_cut, high_cut = (1.0 / (1.0 + np.exp(-logit - way * THRESHOLD_LOGIT)) for way in (-1.0, 1.0))
        volumes = [lesion_volume_mm3(probability >= cut, voxel_mm3) for cut in (low_cut, high_cut)]
        basis = f"at thresholds from {low_cut:.2f} to {high_cut:.2f}"
    else:
        volumes = _volumes(said, voxel_mm3, threshold)
        basis = f"over {len(said.values)} predictions"
    return Interval(min(*volumes, reported_mm3), max(*volumes, reported_mm3), basis)


def _volumes(said: Predictions, voxel_mm3: float, threshold: float) -> list[float]:
    """Return the total lesion volume of each prediction alone, mm3."""
    if not len(said.voxels):
        return [0.0] * len(said.values)
    first = said.voxels.min(axis=0)
    within = tuple((said.voxels - first).T)
    mask = np.zeros(said.voxels.max(axis=0) - first + 1, dtype=np.bool_)
    volumes = []
    for values in said.values:
        mask[within] = values >= threshold
        volumes.append(lesion_volume_mm3(mask, voxel_mm3))
    return volumes
