"""Lesion probabilities of the cube at native voxels, between the cube's voxels by a cubic spline of their logits.

[ours] A small lesion fills a few voxels of the cube. Linear interpolation flattens such a peak: a ball of 3 mm loses three
tenths of its volume. A spline through the logits, which vary more evenly than the probabilities, keeps it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import expit, logit

from pipelines.brain.grid import bounding_box, resample
from pipelines.device import threads
from pipelines.flair.preprocess import Brain, Cube, to_native
from pipelines.types import FloatArray

LOGIT_LIMIT = 5.0
"""Logits are limited to it on both sides: what a network is sure of weighs no more on its neighbours for being surer."""
FAINT = 0.1
"""Of the threshold. Where no voxel of the cube nearby reaches so much there is no lesion, and linear interpolation will do."""

REACH = 32
"""Voxels of the cube beyond which a spline's filter weighs less than the last digit of a float64."""

Samples = npt.NDArray[np.floating[Any]]
Voxels = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Predictions:
    """Single predictions at the native voxels in and around all that may be a lesion.

    Parameters
    ----------
    voxels : integer array, shape (m, 3)
        Indices (k, j, i) on the native grid.
    values : float32 array, shape (n, m)
        Lesion probability by each prediction.
    """

    voxels: Voxels
    values: FloatArray


def lesion_probability(probability: FloatArray, cube: Cube, brain: Brain, threshold: float) -> FloatArray:
    """Return the lesion probability on the native grid, 0 outside the brain.

    Parameters
    ----------
    probability : float32 array, shape (160, 160, 160)
        On the cube.
    threshold : float
        Of a lesion.

    Returns
    -------
    float32 array, shape (k, j, i)
    """
    native = to_native(probability, cube, brain)
    found = predictions(probability[None], cube, brain, threshold)
    native[tuple(found.voxels.T)] = found.values[0]
    return native


def predictions(samples: Samples, cube: Cube, brain: Brain, threshold: float) -> Predictions:
    """Return each sample at the native voxels that are a lesion, or near one, by any of them.

    Parameters
    ----------
    samples : float array, shape (n, 160, 160, 160)
        Lesion probabilities on the cube.
    threshold : float
        Of a lesion.
    """
    widened = ndimage.maximum_filter(np.asarray(samples.max(axis=0), dtype=np.float32), size=3)
    told = widened >= FAINT * threshold
    if not told.any():
        none = np.empty((0, 3), dtype=np.intp)
        return Predictions(none, at_voxels(samples, none, cube, brain))
    # with the voxels beside, that a linear interpolation reaches for
    box = bounding_box(told, cube.grid.spacing_mm[0], cube.grid.spacing_mm)
    near = resample(widened[box], cube.grid.crop(box), brain.grid) >= FAINT * threshold
    starts = [s.start for s in brain.box]
    voxels = np.argwhere(near & brain.mask) + np.array(starts, dtype=np.intp)
    return Predictions(voxels, at_voxels(samples, voxels, cube, brain))


def at_voxels(samples: Samples, voxels: Voxels, cube: Cube, brain: Brain) -> FloatArray:
    """Return each sample at native voxels; nowhere more than at the cube's voxels around, beyond which a spline may overshoot.

    Parameters
    ----------
    samples : float array, shape (n, 160, 160, 160)
        Probabilities on the cube.
    voxels : integer array, shape (m, 3)
        Native indices (k, j, i), inside the cube.

    Returns
    -------
    float32 array, shape (n, m)
    """
    values = np.empty((len(samples), len(voxels)), dtype=np.float32)
    if not len(voxels):
        return values
    inverse = np.linalg.inv(cube.grid.affine)
    places = brain.whole.positions_lps(voxels) @ inverse[:3, :3].T + inverse[:3, 3]
    at_kji = places.T[::-1]
    nearest_kji = np.clip(np.rint(at_kji).astype(np.intp), 0, np.array(cube.values.shape)[:, None] - 1)
    # only what the spline sees: lesions mostly lie in a part of the cube
    first = np.maximum(nearest_kji.min(axis=1) - REACH, 0)
    last = nearest_kji.max(axis=1) + REACH
    box = tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))
    at_kji, nearest = at_kji - first[:, None], tuple(nearest_kji - first[:, None])
    certain = float(expit(LOGIT_LIMIT))

    def fill(value: FloatArray, sample: npt.NDArray[Any]) -> None:
        logits = logit(np.clip(np.asarray(sample[box], dtype=np.float32), 1.0 - certain, certain))
        ndimage.map_coordinates(logits, at_kji, output=value, order=3, mode="mirror")
        np.minimum(value, ndimage.maximum_filter(logits, size=3)[nearest], out=value)

    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(fill, values, samples))
    return np.asarray(expit(values), dtype=np.float32)
