"""Voxel grids in patient space and the way of an array from one grid to another."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.device import threads
from pipelines.types import Affine, FloatArray

_REVERSE = np.eye(4)[[2, 1, 0, 3]]
"""Turns homogeneous (k, j, i) into (i, j, k) and back."""
SPLINE_MARGIN = 12
"""Voxels by which the border is repeated before a spline is fitted: its filter sees no further."""


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

    def along(
        self, direction: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        """Return how far the voxels of a mask lie along a direction, LPS, from the origin of patient space, in mm."""
        i_mm, j_mm, k_mm = direction @ self.affine[:3, :3]
        k, j, i = (np.arange(n, dtype=np.float64) for n in self.shape_kji)
        places = (
            (k * k_mm + float(direction @ self.affine[:3, 3]))[:, None, None] + (j * j_mm)[:, None] + i * i_mm
        )
        return np.asarray(places[mask])

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
    values = np.asarray(array, dtype=np.float32)
    result = np.full(target.shape_kji, outside, dtype=np.float32)
    if order > 1:
        box = tuple(slice(0, n) for n in target.shape_kji)
        values = np.pad(values, SPLINE_MARGIN, mode="edge")
        values = ndimage.spline_filter(values, order, output=np.float64, mode="nearest")
        matrix[:3, 3] += SPLINE_MARGIN
    else:
        box = _reached(matrix, values.shape, target.shape_kji)
    part = result[box]
    origin = matrix[:3, 3] + matrix[:3, :3] @ [s.start for s in box]

    def fill(first: int, last: int) -> None:
        """Give some planes their values: scipy computes on one thread, and lets others go on."""
        ndimage.affine_transform(
            values,
            matrix[:3, :3],
            origin + first * matrix[:3, 0],
            output_shape=part[first:last].shape,
            output=part[first:last],
            order=order,
            mode="nearest" if order > 1 else "grid-constant",
            cval=outside,
            prefilter=False,
        )

    edges = np.linspace(0, len(part), min(threads(), max(1, len(part))) + 1).astype(int)
    planes = [(int(a), int(b)) for a, b in itertools.pairwise(edges) if a < b]
    if part.size and len(planes) == 1:
        fill(*planes[0])
    elif part.size:
        with ThreadPoolExecutor(len(planes)) as pool:
            list(pool.map(fill, *zip(*planes, strict=True)))
    return result


def _reached(
    matrix: Affine, source_kji: tuple[int, ...], target_kji: tuple[int, ...]
) -> tuple[slice, slice, slice]:
    """Return the box of the target that a source reaches by linear interpolation.

    Parameters
    ----------
    matrix : float64 array, shape (4, 4)
        Index (k, j, i, 1) of the target to that of the source.
    source_kji, target_kji : shapes
    """
    inverse = np.linalg.inv(matrix)
    corners = np.array(list(itertools.product(*((-1.0, float(n)) for n in source_kji))))
    at = corners @ inverse[:3, :3].T + inverse[:3, 3]
    low = np.clip(np.floor(at.min(axis=0)), 0, target_kji).astype(int)
    high = np.clip(np.ceil(at.max(axis=0)) + 1, low, target_kji).astype(int)
    k, j, i = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return k, j, i


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
