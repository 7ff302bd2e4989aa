"""Slices in space: normals, order, spacing and affines, from Image Plane attributes (PS3.3 C.7.6.2.1.1).

Positions are ImagePositionPatient (0020,0032), orientations ImageOrientationPatient (0020,0037): mm, LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SPACING_TOLERANCE_MM = 0.1
"""Neighbouring gaps that differ by no more than this are even."""

SAME_PLACE_MM = 0.02
"""Slices that are no further apart than this lie at one place."""

DRIFT_TOLERANCE_MM = 0.5
"""How far slice origins may wander off the normal through the first one."""

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within one orientation (some vendors write four digits)."""

LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
"""LPS: the letter towards which each axis rises and falls (PS3.3 C.7.6.1.1.1)."""

OBLIQUE = 0.35
"""A direction gets a second letter where that axis' cosine is at least this."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gap:
    """A place where slices are missing.

    Parameters
    ----------
    after_mm, before_mm : float
        Distance along the normal of the slices on either side.
    missing : int
        How many evenly spaced slices would fit between.
    after_k : int
        Index of the place before it, from 0, among the places at hand.
    """

    after_mm: float
    before_mm: float
    missing: int
    after_k: int


@dataclass(frozen=True)
class Stack:
    """Parallel slices seen along their normal.

    Parameters
    ----------
    order : tuple of int
        Indices of the slices, ascending along the normal.
    distances_mm : tuple of float
        Distance of each slice along the normal, ascending.
    spacing_mm : float or None
        Distance between neighbours; None when it is uneven or there are fewer than two places.
    gaps : tuple of Gap
        Where slices are missing.
    repeats : int
        Largest number of slices at one place.
    places : int
        Number of different places.
    drift_mm : float
        Largest distance of a slice origin from the normal through the first slice's origin.
    """

    order: tuple[int, ...]
    distances_mm: tuple[float, ...]
    spacing_mm: float | None
    gaps: tuple[Gap, ...] = field(default=())
    repeats: int = 1
    places: int = 0
    drift_mm: float = 0.0

    @property
    def missing(self) -> int:
        """Number of slices that all gaps together lack."""
        return sum(gap.missing for gap in self.gaps)


def slice_normal(orientation: Sequence[float]) -> FloatArray:
    """Return the unit normal, row direction x column direction, of an orientation (6 direction cosines).

    Raises
    ------
    ValueError
        The two directions are no right-angled pair of unit vectors.
    """
    row, column = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    lengths = np.linalg.norm([row, column], axis=1)
    if not np.all(np.abs(lengths - 1) < 0.01) or abs(float(row @ column)) > 0.01:
        raise ValueError("ImageOrientationPatient is no pair of perpendicular unit vectors")
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


def same_orientation(first: Sequence[float], second: Sequence[float]) -> bool:
    """Say whether two orientations are equal within ORIENTATION_TOLERANCE."""
    return bool(np.max(np.abs(np.subtract(first, second))) <= ORIENTATION_TOLERANCE)


def stack_slices(positions: npt.ArrayLike, orientation: Sequence[float]) -> Stack:
    """Order slices along their normal and find their spacing, gaps and repeats.

    SliceThickness and SpacingBetweenSlices are nominal, and wrong with some vendors: not used.

    Parameters
    ----------
    positions : array, shape (n, 3), mm, LPS
        ImagePositionPatient of each slice, any order, n >= 1.
    orientation : 6 floats
        Direction cosines of the rows and of the columns.

    Raises
    ------
    ValueError
        The orientation is none.
    """
    points = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    normal = slice_normal(orientation)
    along = points @ normal
    order = np.argsort(along, kind="stable")
    distances = along[order]
    offsets = points - np.outer(along, normal)
    drift = float(np.max(np.linalg.norm(offsets - offsets[0], axis=1)))
    steps = np.diff(distances)
    new_place = np.concatenate([[True], steps > SAME_PLACE_MM])
    places = distances[new_place]
    repeats = int(np.max(np.bincount(np.cumsum(new_place) - 1)))
    spacing, gaps = _spacing_and_gaps(places)
    return Stack(
        order=tuple(int(index) for index in order),
        distances_mm=tuple(float(distance) for distance in distances),
        spacing_mm=spacing,
        gaps=gaps,
        repeats=repeats,
        places=len(places),
        drift_mm=drift,
    )


def _spacing_and_gaps(places: FloatArray) -> tuple[float | None, tuple[Gap, ...]]:
    """Return the spacing of ascending places, and gaps that are multiples of it; (None, ()) when uneven."""
    steps = np.diff(places)
    if not len(steps):
        return None, ()
    near = steps[steps <= steps.min() + SPACING_TOLERANCE_MM]
    multiples = np.maximum(1, np.rint(steps / near.mean()).astype(int))
    # The whole extent gives the spacing with the least rounding error.
    spacing = float(steps.sum() / multiples.sum())
    if np.any(np.abs(steps - multiples * spacing) > SPACING_TOLERANCE_MM):
        return None, ()
    gaps = tuple(
        Gap(float(places[index]), float(places[index + 1]), int(multiples[index]) - 1, int(index))
        for index in np.flatnonzero(multiples > 1)
    )
    return spacing, gaps


def affine_of(
    orientation: Sequence[float],
    pixel_spacing: Sequence[float],
    first: npt.ArrayLike,
    last: npt.ArrayLike,
    slices: int,
) -> FloatArray:
    """Return the affine from voxel (i, j, k, 1) to patient position, mm, LPS.

    Parameters
    ----------
    orientation : 6 floats
        Direction cosines of the rows and of the columns.
    pixel_spacing : two floats, mm
        PixelSpacing (0028,0030): between rows, then between columns.
    first, last : array, shape (3,), mm, LPS
        Positions of the first and of the last slice along the normal.
    slices : int
        Number of slices, >= 2.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1
    """
    row, column = np.asarray(orientation, dtype=np.float64).reshape(2, 3)
    origin = np.asarray(first, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = row * pixel_spacing[1]
    affine[:3, 1] = column * pixel_spacing[0]
    affine[:3, 2] = (np.asarray(last, dtype=np.float64) - origin) / (slices - 1)
    affine[:3, 3] = origin
    return affine


def orientation_of(affine: npt.ArrayLike) -> tuple[tuple[float, ...], tuple[float, float]]:
    """Return ImageOrientationPatient and PixelSpacing of slices with an affine (i, j, k, 1) to LPS mm.

    Raises
    ------
    ValueError
        The axes are not perpendicular (within 0.01).
    """
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    units = axes / lengths
    if np.max(np.abs(units.T @ units - np.eye(3))) > 0.01:
        raise ValueError("the axes of the volume are not perpendicular")
    row = units[:, 0]
    column = units[:, 1] - row * (row @ units[:, 1])
    column /= np.linalg.norm(column)
    return (*map(float, row), *map(float, column)), (float(lengths[1]), float(lengths[0]))


def orientation_letters(direction_lps: npt.ArrayLike) -> str:
    """Return the letters that a direction points to, the strongest first ("L", "AH")."""
    cosines = np.asarray(direction_lps, dtype=np.float64)
    axes = sorted(range(3), key=lambda axis: -abs(cosines[axis]))
    shown = [axis for rank, axis in enumerate(axes) if rank == 0 or abs(cosines[axis]) >= OBLIQUE][:2]
    return "".join(LETTERS[axis][0 if cosines[axis] > 0 else 1] for axis in shown)
