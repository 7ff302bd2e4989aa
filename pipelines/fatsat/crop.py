"""The crop around each optic nerve that the network sees: both eyes look alike in it, and it maps back exactly.

Where its voxels lie is told by `pipelines.fatsat.crop_grid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion

from pipelines.errors import PipelineError
from pipelines.fatsat.course import in_nerve
from pipelines.fatsat.crop_grid import (
    SEEN,
    SEEN_PART,
    SPACING_MM,
    CropGrid,
    Floats,
    beyond_midline,
    crop_grid,
    index_of,
    values_at,
)
from pipelines.fatsat.settings import CropKind
from pipelines.types import BoolArray, FloatArray, Laterality, Volume

if TYPE_CHECKING:
    from pipelines.fatsat.eyes import Eyes

COURSE_MM = 24.0
"""So far behind the globe the course of the nerve counts for the coverage."""


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
    coverage : float or None
        Share of the nerve's course, to 24 mm behind the globe as far as it was found, that lies in what the network sees of the
        crop (`crop_grid.SEEN`) [ours]; in [0, 1]. None where no course was found.
    nerve : bool array, shape (13, 31, 40)
        See `course.in_nerve`.
    grid : CropGrid
        How it lies in the series' array.
    """

    side: Laterality
    kind: CropKind
    values: FloatArray
    positions_lps: Floats
    coverage: float | None
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
        nerve=in_nerve(positions, course, SPACING_MM[0] / 2),
        grid=grid,
    )


def normalised(values: FloatArray) -> FloatArray:
    """Return a crop with mean 0 and standard deviation 1 (authors' code); zeros where all is equal."""
    centred = np.asarray(values, dtype=np.float64) - np.mean(values, dtype=np.float64)
    deviation = float(np.std(centred))
    return np.asarray(centred / deviation if deviation > 0 else 0 * centred, dtype=np.float32)


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
    """Return the voxels of the series, bool (k, j, i), that are the edge of what the network sees, within their slice."""
    seen = np.zeros(crop.values.shape)
    seen[SEEN_PART] = 1.0
    inside = to_native(seen, crop, volume) > 0.5
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1, 1, :] = cross[1, :, 1] = True
    return np.asarray(inside & ~binary_erosion(inside, cross))


def _coverage(volume: Volume, grid: CropGrid, course_lps: Floats) -> float | None:
    if len(course_lps) < 2:
        return None
    length = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(course_lps, axis=0), axis=1)))
    at = np.arange(0.0, min(COURSE_MM, float(length[-1])) + 1e-9, 0.25)
    points = np.stack([np.interp(at, length, course_lps[:, axis]) for axis in range(3)], axis=1)
    indices = np.array([index_of(volume, point) for point in points])[:, grid.axes]
    depth, rows, columns = indices.T
    nearest = np.abs(depth[:, None] - grid.depth[: SEEN[0]]).argmin(axis=1)
    slices = abs(grid.depth[1] - grid.depth[0])
    inside = np.abs(depth - grid.depth[nearest]) <= slices / 2 + 1e-6
    inside &= (depth >= -0.5) & (depth <= volume.array.shape[grid.axes[0]] - 0.5)
    seen_rows, seen_columns = grid.rows[:, : SEEN[1]], grid.columns[:, : SEEN[2]]
    for value, edges in ((rows, seen_rows[nearest]), (columns, seen_columns[nearest])):
        half = np.abs(edges[:, 1] - edges[:, 0]) / 2
        low, high = edges[:, [0, -1]].min(axis=1), edges[:, [0, -1]].max(axis=1)
        inside &= (value >= low - half) & (value <= high + half)
    return float(inside.mean())


def _weights(at: Floats, size: int) -> Floats:
    """Return the weight of each voxel of the crop on each index of a native axis, shape (size, n); linear, rows sum to 1 or 0.

    ``at`` holds the native index of each voxel of the crop, evenly spaced.
    """
    step = at[1] - at[0]
    own = (np.arange(size) - at[0]) / step
    inside = (own >= -0.5 - 1e-6) & (own <= len(at) - 0.5 + 1e-6)
    own = np.clip(own, 0, len(at) - 1)
    hat = np.clip(1 - np.abs(own[:, None] - np.arange(len(at))), 0, None)
    return np.asarray(hat * inside[:, None])
