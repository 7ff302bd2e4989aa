"""An image on the cube that the networks see: its resolution is changed the same way in the pipeline and in a training."""

from __future__ import annotations

import numpy as np

from pipelines.brain.grid import Grid, resample, smooth_for
from pipelines.brain.thin_slices import thinned
from pipelines.types import BoolArray, FloatArray


def on_cube(array: FloatArray, source: Grid, cube: Grid, inside: BoolArray) -> FloatArray:
    """Return an image at the voxel centres of a cube.

    Pixels finer than its voxels are averaged, thick slices divided (see `thin_slices`), and a cubic spline gives what lies
    between voxels: straight lines would blur small lesions once more.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    source : Grid
        Its own.
    cube : Grid
        Of cubic voxels.
    inside : bool array, shape (k, j, i)
        The brain on the source grid.

    Returns
    -------
    float32 array, shape of the cube
        Nowhere below the least value of ``array``.
    """
    spacing_mm = cube.spacing_mm[0]
    thin, divided = thinned(smooth_for(array, source, spacing_mm), source, spacing_mm, inside)
    return np.asarray(np.maximum(resample(thin, divided, cube, order=3), array.min()), dtype=np.float32)


MARGIN = 4
"""Voxels kept around the brain."""


def box_around(inside: BoolArray, step: int) -> tuple[slice, slice, slice]:
    """Return the part of a cube that holds the brain, each edge a multiple of ``step``; all of it without a brain.

    Parameters
    ----------
    inside : bool array, shape (k, j, i)
        The brain; each edge a multiple of ``step``.
    """
    box = []
    for axis, edge in enumerate(inside.shape):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(inside.any(axis=others))
        if not len(filled):
            return (slice(0, inside.shape[0]), slice(0, inside.shape[1]), slice(0, inside.shape[2]))
        low, high = max(int(filled[0]) - MARGIN, 0), min(int(filled[-1]) + 1 + MARGIN, edge)
        size = -(-(high - low) // step) * step
        low = min(low, edge - size)
        box.append(slice(low, low + size))
    return box[0], box[1], box[2]
