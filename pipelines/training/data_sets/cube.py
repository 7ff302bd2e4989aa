"""The cube that cases are trained on: 160 voxels of 1.2 mm along Superior, Posterior and Left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.types import Affine, FloatArray

CUBE = 160
"""Voxels along each edge of the cube."""
SPACING_MM = 1.2


def lps_affine(ras_affine: npt.ArrayLike) -> Affine:
    """Return a NIfTI affine with its result in LPS instead of RAS."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(ras_affine, dtype=np.float64))


def cube_grid(centre_lps: npt.NDArray[np.float64]) -> Grid:
    """Return the grid of the cube around a point, mm, LPS."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = centre_lps - (CUBE - 1) / 2 * SPACING_MM
    return Grid((CUBE, CUBE, CUBE), affine)


def to_cube(
    array: npt.NDArray[np.float32], lps: Affine, centre_lps: npt.NDArray[np.float64], order: int
) -> FloatArray:
    """Sample an array on the cube around a point.

    Parameters
    ----------
    array : float32 array, shape (x, y, z)
    lps : float64 array, shape (4, 4)
        Takes (x, y, z, 1) to mm, LPS.
    centre_lps : float64 array, shape (3,), mm
    order : int
        Of the spline: 0 nearest, 1 linear, 3 cubic, by which small lesions of a mask keep their volume.

    Returns
    -------
    float32 array, shape (k, j, i)
    """
    half = (CUBE - 1) / 2
    inverse = np.linalg.inv(lps)
    matrix = inverse[:3, :3] * SPACING_MM
    offset = inverse[:3, :3] @ (centre_lps - half * SPACING_MM) + inverse[:3, 3]
    sampled = ndimage.affine_transform(array, matrix, offset, (CUBE, CUBE, CUBE), order=order)
    return np.ascontiguousarray(sampled.transpose(2, 1, 0), dtype=np.float32)
