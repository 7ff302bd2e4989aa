"""Voxel grids in patient space and the way of an array from one grid to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.types import Affine, FloatArray

_REVERSE = np.eye(4)[[2, 1, 0, 3]]
"""Turns homogeneous (k, j, i) into (i, j, k) and back."""


@dataclass(frozen=True)
class Grid:
    """The geometry of an array without its values.

    Parameters
    ----------
    shape_kji : three integers
        Slices, rows, columns.
    affine : float64 array, shape (4, 4)
        Voxel (i, j, k, 1) to patient position, mm, LPS.
    """

    shape_kji: tuple[int, int, int]
    affine: Affine

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along k, j and i, in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel, in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def positions_lps(self, kji: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return patient positions, mm, LPS, shape (..., 3), of voxel indices (k, j, i), shape (..., 3)."""
        ijk = np.asarray(kji, dtype=np.float64)[..., ::-1]
        return np.asarray(ijk @ self.affine[:3, :3].T + self.affine[:3, 3])

    def crop(self, box: tuple[slice, slice, slice]) -> Grid:
        """Return the grid of ``array[box]``; the slices have a start, a stop and no step."""
        start_kji = [int(s.start) for s in box]
        affine = self.affine.copy()
        affine[:3, 3] = self.positions_lps(start_kji)
        k, j, i = (int(s.stop) - int(s.start) for s in box)
        return Grid((k, j, i), affine)


def bounding_box(
    mask: npt.NDArray[np.bool_], margin_mm: float, spacing_mm: tuple[float, float, float]
) -> tuple[slice, slice, slice]:
    """Return the box of a mask's true voxels, widened by a margin, inside the array.

    Parameters
    ----------
    mask : bool array, shape (k, j, i)
        At least one voxel is true.
    margin_mm : float
    spacing_mm : three floats
        Along k, j and i.
    """
    found = []
    for axis in range(3):
        line = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(margin_mm / spacing_mm[axis]))
        start = max(0, int(line[0]) - margin)
        found.append(slice(start, min(mask.shape[axis], int(line[-1]) + 1 + margin)))
    return found[0], found[1], found[2]


def resample(
    array: npt.NDArray[Any],
    source: Grid,
    target: Grid,
    *,
    transform: Affine | None = None,
    order: int = 1,
    outside: float = 0.0,
) -> FloatArray:
    """Return the values of an array at the voxel centres of another grid.

    Parameters
    ----------
    array : array, shape (k, j, i)
        On the source grid.
    source, target : Grid
    transform : float64 array, shape (4, 4), optional
        Takes a point of the target's space, mm, LPS, to the source's space; the identity when absent.
    order : 0, 1 or 3
        Nearest neighbour, trilinear, or a cubic spline.
    outside : float
        Value beyond the source grid; a spline, which would ring there, goes on with the border's instead.

    Returns
    -------
    float32 array, shape of the target grid
    """
    between = np.eye(4) if transform is None else transform
    matrix = _REVERSE @ np.linalg.inv(source.affine) @ between @ target.affine @ _REVERSE
    values = ndimage.affine_transform(
        np.asarray(array, dtype=np.float32),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape_kji,
        output=np.float32,
        order=order,
        mode="nearest" if order > 1 else "grid-constant",
        cval=outside,
        prefilter=order > 1,
    )
    return np.asarray(values, dtype=np.float32)


def smooth_for(array: npt.NDArray[Any], source: Grid, spacing_mm: float) -> FloatArray:
    """Return the array blurred along the axes that a coarser grid would otherwise undersample.

    A Gaussian widens a voxel's full width at half maximum from the source's spacing to the coarser one: fine
    in-plane pixels are averaged and thick slices are left as they are.
    """
    fwhm_to_sigma = 1.0 / np.sqrt(8.0 * np.log(2.0))
    sigma = [
        fwhm_to_sigma * np.sqrt(max(0.0, spacing_mm**2 - own_mm**2)) / own_mm for own_mm in source.spacing_mm
    ]
    if max(sigma) == 0.0:
        return np.asarray(array, dtype=np.float32)
    blurred = ndimage.gaussian_filter(
        np.asarray(array, dtype=np.float32), sigma, mode="nearest", truncate=3.0
    )
    return np.asarray(blurred, dtype=np.float32)
