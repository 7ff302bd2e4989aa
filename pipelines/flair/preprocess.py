"""Preprocessing: from a FLAIR series to the cube that the networks see, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.brain.bias_field import correct_bias
from pipelines.brain.cube import on_cube
from pipelines.brain.grid import Grid, bounding_box, resample
from pipelines.brain.mask import brain_mask
from pipelines.brain.mni_space import Alignment, turned_cube
from pipelines.flair.intensity import normalise
from pipelines.types import BoolArray, FloatArray, Volume

MARGIN_MM = 10.0
"""Around the brain; what lies further out takes no part."""


@dataclass(frozen=True)
class Brain:
    """The part of a volume that holds the brain.

    Parameters
    ----------
    whole : Grid
        The native grid.
    box : three slices
        The part of it, along k, j and i.
    grid : Grid
        Of the part.
    array : float32 array, shape (k, j, i) of the part
    mask : bool array, shape (k, j, i) of the part
    """

    whole: Grid
    box: tuple[slice, slice, slice]
    grid: Grid
    array: FloatArray
    mask: BoolArray

    @property
    def whole_mask(self) -> BoolArray:
        """The mask on the native grid."""
        full = np.zeros(self.whole.shape_kji, dtype=bool)
        full[self.box] = self.mask
        return full

    def on_whole(self, part: FloatArray) -> FloatArray:
        """Return an array of the part on the native grid, 0 outside."""
        full = np.zeros(self.whole.shape_kji, dtype=part.dtype)
        full[self.box] = part
        return full


@dataclass(frozen=True)
class Cube:
    """Cube that the networks see.

    Parameters
    ----------
    values : float32 array, shape (160, 160, 160)
        Normalised FLAIR; axes towards Superior, Posterior, Left, 1.2 mm.
    mask : bool array, shape (160, 160, 160)
    grid : Grid
    """

    values: FloatArray
    mask: BoolArray
    grid: Grid


def find_brain(volume: Volume, device: str = "cpu") -> Brain | None:
    """Return the brain of a volume, or None when there is none."""
    k, j, i = volume.array.shape
    whole = Grid((k, j, i), np.asarray(volume.affine, dtype=np.float64))
    array = np.nan_to_num(np.asarray(volume.array, dtype=np.float32))
    mask = brain_mask(array, whole.affine, device)
    if not mask.any():
        return None
    box = bounding_box(mask, MARGIN_MM, whole.spacing_mm)
    return Brain(whole, box, whole.crop(box), np.ascontiguousarray(array[box]), mask[box].copy())


def without_bias(brain: Brain) -> FloatArray:
    """Return the brain's part of the volume without its bias field; float32, shape (k, j, i) of the part."""
    return correct_bias(brain.array, brain.mask, brain.grid.spacing_mm)


def to_cube(corrected: FloatArray, brain: Brain, alignment: Alignment) -> Cube:
    """Return the 192 mm cube around a brain."""
    grid = turned_cube(alignment, brain.mask, brain.grid)
    mask = resample(brain.mask, brain.grid, grid) > 0.5
    values = np.zeros(mask.shape, dtype=np.float32)
    if mask.any():
        box = bounding_box(mask, 0.0, grid.spacing_mm)
        values[box] = on_cube(corrected, brain.grid, grid.crop(box), brain.mask)
    return Cube(normalise(values, mask), mask, grid)


def to_native(values: FloatArray, cube: Cube, brain: Brain) -> FloatArray:
    """Return a map of the cube on the native grid, linearly interpolated, 0 outside the brain.

    Parameters
    ----------
    values : float32 array, shape (160, 160, 160)
    cube : Cube
    brain : Brain

    Returns
    -------
    float32 array, shape (k, j, i) of the native grid
    """
    part = resample(values, cube.grid, brain.grid)
    part[~brain.mask] = 0.0
    return brain.on_whole(part)
