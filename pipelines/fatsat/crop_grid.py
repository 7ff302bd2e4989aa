"""Grid of the crop around an optic nerve: where its voxels lie in the series, and what the series holds there.

Paper 0: NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187. The head is split at the midpoint between the globes, the left
half is mirrored, and 40 x 31 x 13 voxels are cut out around the point where the nerve leaves the globe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from pipelines.errors import PipelineError
from pipelines.fatsat.settings import CropKind
from pipelines.types import BoolArray, FloatArray, Laterality, Point, Volume

Floats = npt.NDArray[np.float64]

ANTERIOR, POSTERIOR = 2, 10
"""Slices before and behind that of the junction (authors' code)."""
UP, DOWN = 15, 15
TEMPORAL, NASAL = 15, 24
"""Voxels to each side of the junction (authors' code)."""
SHAPE = (ANTERIOR + 1 + POSTERIOR, UP + 1 + DOWN, TEMPORAL + 1 + NASAL)
"""(k, j, i): anterior to posterior, superior to inferior, temporal to nasal."""
SPACING_MM = (3.0, 0.5, 0.5)
SPACING_TOLERANCE = 0.02
"""A series whose spacing is within this share of the published one is not resampled along that axis."""
SEEN = (10, 30, 38)
"""So many voxels from the start of each axis (k, j, i) reach the network's answer: see `pipelines.fatsat.network`."""
SEEN_PART = tuple(slice(count) for count in SEEN)


@dataclass(frozen=True)
class CropGrid:
    """Places of a crop's voxels on the axes of the series' array.

    Parameters
    ----------
    axes : three integers
        The array axis (0: k, 1: j, 2: i) that runs front to back, down, and from temporal to nasal (or the reverse).
    depth : float64 array, shape (13,)
        Index along ``axes[0]`` of each slice of the crop.
    rows : float64 array, shape (13, 31)
        Index along ``axes[1]``, for each slice.
    columns : float64 array, shape (13, 40)
        Index along ``axes[2]``, for each slice.
    """

    axes: tuple[int, int, int]
    depth: Floats
    rows: Floats
    columns: Floats

    def indices(self) -> Floats:
        """Return the index (k, j, i) in the series' array of every voxel of the crop, shape (13, 31, 40, 3)."""
        shape = (len(self.depth), self.rows.shape[1], self.columns.shape[1])
        found = np.empty((*shape, 3))
        found[..., self.axes[0]] = self.depth[:, None, None]
        found[..., self.axes[1]] = self.rows[:, :, None]
        found[..., self.axes[2]] = self.columns[:, None, :]
        return found


def crop_grid(
    volume: Volume,
    junction_lps: Point,
    course_lps: Floats,
    side: Laterality,
    kind: CropKind,
    margin: int = 0,
) -> CropGrid:
    """Return where the voxels of a crop lie.

    Parameters
    ----------
    margin : int
        So many voxels more on each side within the slice, for shifted crops.

    Raises
    ------
    PipelineError
        The junction lies outside of the series.
    """
    axes, signs = _series_axes(volume, side)
    junction = index_of(volume, np.asarray(junction_lps, dtype=np.float64))
    shape = volume.array.shape
    if any(not -0.5 <= at <= size - 0.5 for at, size in zip(junction, shape, strict=True)):
        raise PipelineError(f"the point given for the {side} eye lies outside of the series")
    steps = [
        _step(volume.spacing_mm[axis], wanted) * sign
        for axis, wanted, sign in zip(axes, SPACING_MM, signs, strict=True)
    ]
    offsets = (
        np.arange(-ANTERIOR, POSTERIOR + 1),
        np.arange(-UP - margin, DOWN + margin + 1),
        np.arange(-TEMPORAL - margin, NASAL + margin + 1),
    )
    centre = [_snapped(junction[axis], step) for axis, step in zip(axes, steps, strict=True)]
    depth: Floats = centre[0] + steps[0] * offsets[0].astype(np.float64)
    middle: Floats = np.tile(np.array(centre[1:]), (len(depth), 1))
    if kind == "along-nerve":
        course = np.array([index_of(volume, point) for point in course_lps])
        middle = middle + _shifts(course, junction, depth, axes, steps)
    rows = middle[:, :1] + steps[1] * offsets[1]
    columns = middle[:, 1:] + steps[2] * offsets[2]
    return CropGrid(axes, depth, rows, columns)


def beyond_midline(
    grid: CropGrid, volume: Volume, midpoint_lps: Point, side: Laterality, junction_lps: Point
) -> BoolArray:
    """Return which voxels belong to the other eye's half of the head.

    Raises
    ------
    PipelineError
        The junction itself does: left and right are swapped.
    """
    lateral = 1.0 if side == "left" else -1.0
    if lateral * (junction_lps[0] - midpoint_lps[0]) <= 0:
        raise PipelineError(
            f"the point given for the {side} eye lies on the other side of the midline; exchange left and right"
        )
    across = volume.position_lps(grid.indices())[..., 0] - midpoint_lps[0]
    return np.asarray(lateral * across < 0)


def values_at(volume: Volume, indices: Floats, beyond: BoolArray | None = None) -> FloatArray:
    """Return the series' values at indices (k, j, i), shape (..., 3), by linear interpolation.

    Outside of the series, and where ``beyond`` is set, stands the mean of the rest.
    """
    last = np.array(volume.array.shape) - 1
    inside = ((indices >= -0.5) & (indices <= last + 0.5)).all(axis=-1)
    if beyond is not None:
        inside &= ~beyond
    at = np.moveaxis(indices, -1, 0)
    values = map_coordinates(np.asarray(volume.array, dtype=np.float32), at, order=1, mode="nearest")
    values[~inside] = values[inside].mean() if inside.any() else 0
    return np.asarray(values, dtype=np.float32)


def _series_axes(volume: Volume, side: Laterality) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return the array axes that run backwards, down and towards the nose, and the sign of each."""
    directions = (volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0))[:, ::-1]
    nasal = -1.0 if side == "left" else 1.0
    wanted = np.array([[0, 1, 0], [0, 0, -1], [nasal, 0, 0]])
    along = wanted @ directions
    axes: tuple[int, ...] = tuple(int(axis) for axis in np.argmax(np.abs(along), axis=1))
    if len(set(axes)) < 3:
        raise PipelineError("the series is so tilted that its axes are neither sagittal, coronal nor axial")
    signs = tuple(1 if along[row, axis] > 0 else -1 for row, axis in enumerate(axes))
    return axes, signs  # type: ignore[return-value]


def index_of(volume: Volume, point: Floats) -> Floats:
    """Return the index (k, j, i), shape (3,), of a patient position, mm, LPS, shape (3,)."""
    return np.asarray(np.linalg.solve(volume.affine[:3, :3], point - volume.affine[:3, 3])[::-1])


def _step(spacing_mm: float, wanted_mm: float) -> float:
    ratio = wanted_mm / spacing_mm
    return 1.0 if abs(ratio - 1) <= SPACING_TOLERANCE else ratio


def _snapped(at: float, step: float) -> float:
    return float(np.round(at)) if abs(step) == 1 else float(at)


def _shifts(
    course: Floats, junction: Floats, depth: Floats, axes: tuple[int, int, int], steps: list[float]
) -> Floats:
    """Return by how much the nerve runs beside the junction in each slice, in voxels of rows and columns, shape (13, 2).

    Before the junction, and beyond the end of the course, it stays where it is there.
    """
    along = (course[:, axes[0]] - junction[axes[0]]) * np.sign(steps[0])
    order = np.argsort(along, kind="stable")
    order = order[along[order] > 0]
    way = np.append(0.0, along[order])
    found = np.empty((len(depth), 2))
    wanted = (depth - junction[axes[0]]) * np.sign(steps[0])
    for column, (axis, step) in enumerate(zip(axes[1:], steps[1:], strict=True)):
        shift = np.append(0.0, course[order, axis] - junction[axis])
        one = np.interp(wanted, way, shift)
        found[:, column] = np.round(one) if abs(step) == 1 else one
    return found
