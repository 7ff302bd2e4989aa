"""How far the mask moves: an interval for the total lesion volume and one for each lesion's probability.

The probability that is reported is the mean over the ensemble's predictions (each member, on the image and on its mirror
image); the mask is that mean cut at the threshold. The intervals say what single predictions would have reported: these, and
that of the joint network, which was trained apart from them.
[ours] No source paper gives a rule; ranges are said plainly in place of a coverage that nothing here could prove.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import bounding_box
from pipelines.flair.lesions import LabelArray, lesion_volume_mm3
from pipelines.flair.preprocess import Brain, Cube, to_native
from pipelines.types import FloatArray, Interval, Lesion

THRESHOLD_LOGIT = float(np.log(0.7 / 0.3))
"""How far the threshold is moved, in logits, where there is but one prediction: 0.5 becomes 0.3 and 0.7."""

Samples = npt.NDArray[np.floating[Any]]
Voxels = npt.NDArray[np.intp]


def at_voxels(samples: Samples, voxels: Voxels, cube: Cube, brain: Brain) -> FloatArray:
    """Return each sample at native voxels, as `preprocess.to_native` would, without making whole volumes.

    Parameters
    ----------
    samples : float array, shape (n, 160, 160, 160)
    voxels : integer array, shape (m, 3)
        Native indices (k, j, i), inside the brain.

    Returns
    -------
    float32 array, shape (n, m)
    """
    inverse = np.linalg.inv(cube.grid.affine)
    places = brain.whole.positions_lps(voxels) @ inverse[:3, :3].T + inverse[:3, 3]
    at_kji = places.T[::-1]
    values = [
        ndimage.map_coordinates(
            np.asarray(sample, dtype=np.float32), at_kji, order=1, mode="grid-constant", prefilter=False
        )
        for sample in samples
    ]
    return np.asarray(values, dtype=np.float32)


def lesions_with_intervals(
    lesions: tuple[Lesion, ...], labels: LabelArray, samples: Samples, cube: Cube, brain: Brain
) -> tuple[Lesion, ...]:
    """Return the lesions, each with the lowest and highest mean probability that a single prediction gives its voxels.

    Unchanged where there is one prediction only.

    Parameters
    ----------
    lesions : tuple of Lesion
        Numbered from 1.
    labels : int32 array, shape (k, j, i) of the native grid
        Their IDs.
    samples : float array, shape (n, 160, 160, 160)
        Lesion probabilities on the cube.
    """
    if len(samples) < 2 or not lesions:
        return lesions
    voxels = np.argwhere(labels > 0)
    ids = labels[tuple(voxels.T)]
    counts = np.bincount(ids, minlength=len(lesions) + 1)
    sums = [
        np.bincount(ids, weights=values, minlength=len(lesions) + 1)
        for values in at_voxels(samples, voxels, cube, brain)
    ]
    basis = f"over {len(samples)} predictions"
    found = []
    for lesion in lesions:
        means = [float(total[lesion.id] / counts[lesion.id]) for total in sums]
        interval = Interval(min(*means, lesion.probability), max(*means, lesion.probability), basis)
        found.append(replace(lesion, probability_interval=interval))
    return tuple(found)


def volume_interval(
    reported_mm3: float,
    probability: FloatArray,
    samples: Samples,
    cube: Cube,
    brain: Brain,
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
    samples : float array, shape (n, 160, 160, 160)
        On the cube, n >= 1.
    threshold : float

    Returns
    -------
    Interval
        In mm3.
    """
    if len(samples) < 2:
        logit = np.log(threshold / (1.0 - threshold))
        low_cut, high_cut = (1.0 / (1.0 + np.exp(-logit - way * THRESHOLD_LOGIT)) for way in (-1.0, 1.0))
        volumes = [
            lesion_volume_mm3(probability >= cut, brain.whole.voxel_volume_mm3) for cut in (low_cut, high_cut)
        ]
        basis = f"at thresholds from {low_cut:.2f} to {high_cut:.2f}"
    else:
        volumes = _volumes(samples, cube, brain, threshold)
        basis = f"over {len(samples)} predictions"
    return Interval(min(*volumes, reported_mm3), max(*volumes, reported_mm3), basis)


def _volumes(samples: Samples, cube: Cube, brain: Brain, threshold: float) -> list[float]:
    """Return the total lesion volume of each sample alone, mm3, on the native grid."""
    # Interpolation is monotone: where no sample reaches the threshold on the cube, none does here.
    possible = to_native(np.asarray(samples.max(axis=0), dtype=np.float32), cube, brain) >= threshold
    if not possible.any():
        return [0.0] * len(samples)
    box = bounding_box(possible, 0.0, brain.whole.spacing_mm)
    voxels = np.argwhere(possible)
    within = tuple((voxels - [part.start for part in box]).T)
    volumes = []
    for values in at_voxels(samples, voxels, cube, brain):
        mask = np.zeros(possible[box].shape, dtype=np.bool_)
        mask[within] = values >= threshold
        volumes.append(lesion_volume_mm3(mask, brain.whole.voxel_volume_mm3))
    return volumes
