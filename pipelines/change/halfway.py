"""Common grid of two scans, half way between them, so that both are resampled alike.

References
----------
Reuter et al., Within-subject template estimation for unbiased longitudinal image analysis, NeuroImage 2012 (the way to the
middle is what keeps a comparison from favouring one of the two).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, ndimage

from pipelines.brain.grid import Grid, bounding_box, resample, smooth_for
from pipelines.brain.thin_slices import thinned
from pipelines.comparison import Examined
from pipelines.types import Affine, BoolArray, FloatArray

LEAST_PIXEL_MM = 1.0
"""Finer pixels are averaged to it: what counts as a change has ten times its volume, and time goes with its square."""
MARGIN_MM = 4.0
THIN_MM = 1.5
"""Thicker slices are divided before they are laid anew, so that each new one is the mean over its own extent."""
_REVERSE = np.eye(4)[[2, 1, 0, 3]]


@dataclass(frozen=True)
class Halfway:
    """Grid half way between two scans.

    Parameters
    ----------
    grid : Grid
        Of the coarser slices and the finer pixels.
    to_first, to_second : float64 array, shape (4, 4)
        A point of the middle, mm, to the patient position, mm, LPS, of each scan.
    """

    grid: Grid
    to_first: Affine
    to_second: Affine


@dataclass(frozen=True)
class OnCommonGrid:
    """One of both scans on the common grid, shape (k, j, i) each.

    Parameters
    ----------
    image : float32 array
        0 outside the field of view.
    probability : float32 array
    brain : bool array
    covered : bool array
        Inside the field of view.
    """

    image: FloatArray
    probability: FloatArray
    brain: BoolArray
    covered: BoolArray


def native_grid(examined: Examined) -> Grid:
    """Return the grid of an examination's volume."""
    k, j, i = examined.volume.array.shape
    return Grid((k, j, i), np.asarray(examined.volume.affine, dtype=np.float64))


def half_of(transform: Affine) -> Affine:
    """Return the transform that gives another one when it is done twice."""
    return np.asarray(linalg.sqrtm(transform).real, dtype=np.float64)


def halfway(first: Examined, second: Examined, first_to_second: Affine) -> Halfway:
    """Return the common grid of two scans, with the axes of the one of thicker slices."""
    if np.array_equal(first_to_second, np.eye(4)):
        to_second = to_first = np.eye(4)
    else:
        to_second = half_of(first_to_second)
        to_first = np.asarray(np.linalg.inv(to_second), dtype=np.float64)
    grids = native_grid(first), native_grid(second)
    thicker = 1 if grids[1].spacing_mm[0] > grids[0].spacing_mm[0] else 0
    examined, grid, to_own = (first, second)[thicker], grids[thicker], (to_first, to_second)[thicker]
    part = grid.crop(bounding_box(examined.brain, MARGIN_MM, grid.spacing_mm))
    pixel_mm = max(LEAST_PIXEL_MM, min(min(of.spacing_mm[1:]) for of in grids))
    affine, shape = np.linalg.inv(to_own) @ part.affine, list(part.shape_kji)
    for axis in (1, 2):
        own_mm = part.spacing_mm[axis]
        step = affine[:3, 2 - axis].copy()
        count = int(np.ceil(shape[axis] * own_mm / pixel_mm - 1e-6))
        # The middle of the box stays where it is.
        affine[:3, 3] += step * ((shape[axis] - 1) - (count - 1) * pixel_mm / own_mm) / 2
        affine[:3, 2 - axis] = step * (pixel_mm / own_mm)
        shape[axis] = count
    return Halfway(Grid((shape[0], shape[1], shape[2]), affine), to_first, to_second)


def _averaged(
    values: npt.NDArray[Any], source: Grid, target: Grid, to_source: Affine, order: int
) -> FloatArray:
    """Return values at another grid's voxels, as the mean over the thickness that its slices have more than the source's.

    The variance of the places that are averaged makes up the difference of both profiles.
    """
    thick_mm = target.spacing_mm[0]
    normal = np.linalg.inv(source.affine[:3, :3]) @ to_source[:3, :3] @ target.affine[:3, 2] / thick_mm
    own_mm = 1.0 / float(np.linalg.norm(normal))
    parts = max(2, round(thick_mm / own_mm))
    spread = np.sqrt(max(0.0, thick_mm**2 - own_mm**2) / (parts**2 - 1)) / thick_mm
    if thick_mm < 1.1 * own_mm:
        parts, spread = 1, 0.0
    array = np.asarray(values, dtype=np.float32)
    if order > 1:
        array = ndimage.spline_filter(array, order=order, output=np.float32)
    total = np.zeros(target.shape_kji, dtype=np.float32)
    for part in range(parts):
        shifted = target.affine.copy()
        shifted[:3, 3] += target.affine[:3, 2] * spread * (part - (parts - 1) / 2)
        matrix = _REVERSE @ np.linalg.inv(source.affine) @ to_source @ shifted @ _REVERSE
        total += ndimage.affine_transform(
            array,
            matrix[:3, :3],
            matrix[:3, 3],
            output_shape=target.shape_kji,
            output=np.float32,
            order=order,
            mode="nearest",
            prefilter=False,
        )
    return np.asarray(total / np.float32(parts))


def on_common_grid(examined: Examined, common: Grid, to_own: Affine) -> OnCommonGrid:
    """Return a scan on the common grid: intensities by a cubic spline, probabilities linearly, both over the thicker slices."""
    whole = native_grid(examined)
    box = bounding_box(examined.brain, 3 * MARGIN_MM, whole.spacing_mm)
    own = whole.crop(box)
    pixel_mm = common.spacing_mm[1]
    image = np.nan_to_num(examined.volume.array[box])
    if pixel_mm > own.spacing_mm[1]:
        image = smooth_for(image, own, pixel_mm)
    inside = ndimage.binary_dilation(examined.brain[box])
    image, thin = thinned(image, own, THIN_MM, inside)
    covered = resample(np.ones(whole.shape_kji, dtype=np.float32), whole, common, transform=to_own) > 0.5
    brain = _averaged(examined.brain[box].astype(np.float32), own, common, to_own, 1) > 0.5
    values = np.maximum(_averaged(image, thin, common, to_own, 3), 0)
    return OnCommonGrid(
        image=np.where(covered, values, np.float32(0)),
        probability=_averaged(examined.probability[box], own, common, to_own, 1) * covered,
        brain=brain & covered,
        covered=covered,
    )
