"""The crop around each optic nerve that the network sees: both eyes look alike in it, and it maps back exactly.

Paper 0: NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187. The head is split at the midpoint between the globes, the left
half is mirrored, and 40 x 31 x 13 voxels are cut out around the point where the nerve leaves the globe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, map_coordinates
from scipy.spatial import cKDTree

from pipelines.errors import PipelineError
from pipelines.fatsat.settings import CropKind
from pipelines.types import BoolArray, FloatArray, Laterality, Point, Volume

if TYPE_CHECKING:
    from pipelines.fatsat.eyes import Eyes

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
COURSE_MM = 24.0
"""So far behind the globe the course of the nerve counts for the coverage."""
NERVE_RADIUS_MM = 3.0
"""What lies so near to the nerve's centreline is nerve and sheath (sheath 5.2 mm wide), with half a voxel around."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CropGrid:
    """Where the voxels of a crop lie on the axes of the series' array.

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
    depth: _Floats
    rows: _Floats
    columns: _Floats

    def indices(self) -> _Floats:
        """Return the index (k, j, i) in the series' array of every voxel of the crop, shape (13, 31, 40, 3)."""
        shape = (len(self.depth), self.rows.shape[1], self.columns.shape[1])
        found = np.empty((*shape, 3))
        found[..., self.axes[0]] = self.depth[:, None, None]
        found[..., self.axes[1]] = self.rows[:, :, None]
        found[..., self.axes[2]] = self.columns[:, None, :]
        return found


@dataclass(frozen=True)
class Crop:
    """The crop around one optic nerve.

    Parameters
    ----------
    side : "left" or "right"
        The patient's.
    kind : "published" or "along-nerve"
    values : float32 array, shape (13, 31, 40)
        Intensities of the series; k runs backwards, j down, i from temporal to nasal. The mean of the rest where the series,
        or the eye's half of it, ends [ours].
    positions_lps : float64 array, shape (13, 31, 40, 3), mm, LPS
    coverage : float
        Share of the nerve's course, to 24 mm behind the globe as far as it was found, that lies inside; in [0, 1].
    nerve : bool array, shape (13, 31, 40)
        Within 3 mm of the nerve's course.
    grid : CropGrid
        How it lies in the series' array.
    """

    side: Laterality
    kind: CropKind
    values: FloatArray
    positions_lps: _Floats
    coverage: float
    nerve: BoolArray
    grid: CropGrid


def crop_eye(volume: Volume, eyes: Eyes, side: Laterality, kind: CropKind = "published") -> Crop:
    """Cut out the surroundings of one optic nerve.

    On a grid of 0.5 x 0.5 x 3 mm these are the series' own voxels, around the one nearest to the junction, as published. Along
    axes with another spacing the series is interpolated linearly, with the junction at the centre [ours]. A tilted series is
    cropped along its own axes [ours].

    Parameters
    ----------
    volume : Volume
        Coronal or nearly so.
    eyes : Eyes
        With the eye of this side.
    side : "left" or "right"
        The patient's.
    kind : "published" or "along-nerve"
        "along-nerve": each slice is centred on the nerve's course instead of on the junction [ours], because the nerve leaves
        the published crop some 20 mm behind the globe.

    Raises
    ------
    PipelineError
        There is no eye of this side, the point lies on the other side of the midline, or outside of the series.
    """
    eye = eyes.of(side)
    if eye is None:
        raise PipelineError(f"no {side} eye was found, so there is no crop of it; give its point by hand")
    course = np.asarray(eye.course_lps, dtype=np.float64).reshape(-1, 3)
    grid = crop_grid(volume, eye.junction_lps, course, side, kind)
    beyond = beyond_midline(grid, volume, eyes.midpoint_lps, side, eye.junction_lps)
    indices = grid.indices()
    positions = volume.position_lps(indices)
    return Crop(
        side=side,
        kind=kind,
        values=values_at(volume, indices, beyond),
        positions_lps=positions,
        coverage=_coverage(volume, grid, course),
        nerve=_near(positions, course),
        grid=grid,
    )


def normalised(values: FloatArray) -> FloatArray:
    """Return a crop with mean 0 and standard deviation 1 (authors' code); zeros where all is equal."""
    centred = np.asarray(values, dtype=np.float64) - np.mean(values, dtype=np.float64)
    deviation = float(np.std(centred))
    return np.asarray(centred / deviation if deviation > 0 else 0 * centred, dtype=np.float32)


def crop_grid(
    volume: Volume,
    junction_lps: Point,
    course_lps: _Floats,
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
    junction = _index_of(volume, np.asarray(junction_lps, dtype=np.float64))
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
    depth: _Floats = centre[0] + steps[0] * offsets[0].astype(np.float64)
    middle: _Floats = np.tile(np.array(centre[1:]), (len(depth), 1))
    if kind == "along-nerve":
        course = np.array([_index_of(volume, point) for point in course_lps])
        middle = middle + _shifts(course, junction, depth, axes, steps)
    rows = middle[:, :1] + steps[1] * offsets[1]
    columns = middle[:, 1:] + steps[2] * offsets[2]
    return CropGrid(axes, depth, rows, columns)


def values_at(volume: Volume, indices: _Floats, beyond: BoolArray | None = None) -> FloatArray:
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


def to_native(values: npt.NDArray[np.floating], crop: Crop, volume: Volume) -> FloatArray:
    """Carry a map of the crop back to the series, float32 (k, j, i); 0 outside of the crop.

    Where the series was not resampled, each value lands on the very voxel that it came from; else it is interpolated linearly.

    Parameters
    ----------
    values : float array, shape (13, 31, 40)
    """
    grid = crop.grid
    shape = [volume.array.shape[axis] for axis in grid.axes]
    weights = _weights(grid.depth, shape[0])
    native = np.zeros(shape, dtype=np.float64)
    for number, layer in enumerate(np.asarray(values, dtype=np.float64)):
        touched = np.flatnonzero(weights[:, number])
        if not len(touched):
            continue
        image = _weights(grid.rows[number], shape[1]) @ layer @ _weights(grid.columns[number], shape[2]).T
        native[touched] += weights[touched, number, None, None] * image
    return np.asarray(np.moveaxis(native, (0, 1, 2), grid.axes), dtype=np.float32)


def outline(crop: Crop, volume: Volume) -> BoolArray:
    """Return the voxels of the series, bool (k, j, i), that are the edge of the crop within their slice."""
    inside = to_native(np.ones(crop.values.shape), crop, volume) > 0.5
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1, 1, :] = cross[1, :, 1] = True
    return np.asarray(inside & ~binary_erosion(inside, cross))


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


def _index_of(volume: Volume, point: _Floats) -> _Floats:
    """Return the index (k, j, i) of a patient position."""
    return np.asarray(np.linalg.solve(volume.affine[:3, :3], point - volume.affine[:3, 3])[::-1])


def _step(spacing_mm: float, wanted_mm: float) -> float:
    ratio = wanted_mm / spacing_mm
    return 1.0 if abs(ratio - 1) <= SPACING_TOLERANCE else ratio


def _snapped(at: float, step: float) -> float:
    return float(np.round(at)) if abs(step) == 1 else float(at)


def _shifts(
    course: _Floats, junction: _Floats, depth: _Floats, axes: tuple[int, int, int], steps: list[float]
) -> _Floats:
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


def _coverage(volume: Volume, grid: CropGrid, course_lps: _Floats) -> float:
    length = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(course_lps, axis=0), axis=1)))
    at = np.arange(0.0, min(COURSE_MM, float(length[-1])) + 1e-9, 0.25)
    points = np.stack([np.interp(at, length, course_lps[:, axis]) for axis in range(3)], axis=1)
    indices = np.array([_index_of(volume, point) for point in points])[:, grid.axes]
    depth, rows, columns = indices.T
    nearest = np.abs(depth[:, None] - grid.depth).argmin(axis=1)
    slices = abs(grid.depth[1] - grid.depth[0])
    inside = np.abs(depth - grid.depth[nearest]) <= slices / 2 + 1e-6
    inside &= (depth >= -0.5) & (depth <= volume.array.shape[grid.axes[0]] - 0.5)
    for value, edges in ((rows, grid.rows[nearest]), (columns, grid.columns[nearest])):
        half = np.abs(edges[:, 1] - edges[:, 0]) / 2
        low, high = edges[:, [0, -1]].min(axis=1), edges[:, [0, -1]].max(axis=1)
        inside &= (value >= low - half) & (value <= high + half)
    return float(inside.mean())


def _near(positions: _Floats, course_lps: _Floats) -> BoolArray:
    away, _ = cKDTree(course_lps).query(positions.reshape(-1, 3))
    return np.asarray((away <= NERVE_RADIUS_MM).reshape(positions.shape[:3]))


def _weights(at: _Floats, size: int) -> _Floats:
    """Return the weight of each voxel of the crop on each index of a native axis, shape (size, n); linear, rows sum to 1 or 0.

    ``at`` holds the native index of each voxel of the crop, evenly spaced.
    """
    step = at[1] - at[0]
    own = (np.arange(size) - at[0]) / step
    inside = (own >= -0.5 - 1e-6) & (own <= len(at) - 0.5 + 1e-6)
    own = np.clip(own, 0, len(at) - 1)
    hat = np.clip(1 - np.abs(own[:, None] - np.arange(len(at))), 0, None)
    return np.asarray(hat * inside[:, None])
