"""The optic nerve around the course that was found: one rule for the mask that is returned and for the maps inside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pipelines.types import BoolArray, Volume

NERVE_RADIUS_MM = 2.5
"""Of the nerve with its sheath, 5.2 mm wide in front and 3.9 mm behind."""
STEP_MM = 0.25

Floats = npt.NDArray[np.float64]


def in_nerve(positions_lps: Floats, course_lps: Floats, before_mm: float) -> BoolArray:
    """Return which positions lie within 2.5 mm of a nerve's course.

    Parameters
    ----------
    positions_lps : float64 array, shape (..., 3), mm, LPS
    course_lps : float64 array, shape (n, 3), mm, LPS
        From the junction backwards.
    before_mm : float
        So far before the junction a position may lie, along the nerve: there begins the globe.

    Returns
    -------
    bool array, shape (...)
    """
    course = _dense(course_lps)
    points = positions_lps.reshape(-1, 3)
    away, nearest = cKDTree(course).query(points)
    ahead = (points - course[0]) @ _direction(course)
    inside = (away <= NERVE_RADIUS_MM) & ((nearest > 0) | (ahead >= -before_mm))
    return np.asarray(inside.reshape(positions_lps.shape[:-1]))


def nerve_mask(volume: Volume, course_lps: Floats) -> BoolArray:
    """Return the voxels, shape (k, j, i), whose centre lies in the nerve, half a slice before its start at most.

    Parameters
    ----------
    course_lps : float64 array, shape (n, 3), mm, LPS
        From the junction backwards.
    """
    course = np.asarray(course_lps, dtype=np.float64).reshape(-1, 3)
    index = np.linalg.solve(volume.affine[:3, :3], (course - volume.affine[:3, 3]).T).T[:, ::-1]
    margin = NERVE_RADIUS_MM / np.array(volume.spacing_mm) + 1
    low = np.maximum(np.floor(index.min(axis=0) - margin).astype(int), 0)
    high = np.minimum(np.ceil(index.max(axis=0) + margin).astype(int) + 1, volume.array.shape)
    mask = np.zeros(volume.array.shape, dtype=np.bool_)
    if (low >= high).any():
        return mask
    axes = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
    positions = volume.position_lps(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    mask[box] = in_nerve(positions, course, volume.spacing_mm[0] / 2)
    return mask


def _dense(course_lps: Floats) -> Floats:
    """Return the course with a point at least every 0.25 mm."""
    course = np.asarray(course_lps, dtype=np.float64).reshape(-1, 3)
    way = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1)))
    at = np.append(np.arange(0.0, way[-1], STEP_MM), way[-1])
    return np.stack([np.interp(at, way, course[:, axis]) for axis in range(3)], axis=1)


def _direction(course: Floats) -> Floats:
    """Return the unit direction in which a course begins; backwards where it has no length."""
    along = course[min(len(course) - 1, 20)] - course[0]
    length = float(np.linalg.norm(along))
    return np.asarray(along / length if length > 0 else np.array([0.0, 1.0, 0.0]))
