"""Anatomy of an orbital phantom: tissues on a coarse grid, and globes, nerves and muscles as shapes in mm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from pipelines.brain.grid import Grid
from pipelines.types import FloatArray, Laterality

Points = npt.NDArray[np.float64]

STEP_MM = 0.5
"""Between neighbouring points of a nerve's course."""
NERVE_MM = (3.2, 2.6)
SHEATH_MM = (5.2, 3.9)
"""Diameter of the nerve and of its sheath, behind the globe and from `CALIBRE_MM` on."""
CALIBRE_MM = 25.0
ORBITAL_MM = 30.0
"""Length of the nerve inside the orbit."""
SCLERA_MM = 0.7
_FADING_MM = 8.0


class Tissue(IntEnum):
    """The tissues around the eyes that get a signal of their own."""

    AIR = 0
    SKIN = 1
    SUBCUTANEOUS = 2
    SOFT = 3
    ORBITAL_FAT = 4
    BONE = 5
    MARROW = 6
    MUCOSA = 7
    FLUID = 8
    GREY = 9
    WHITE = 10
    VESSEL = 11
    MUSCLE = 12
    GLAND = 13


@dataclass(frozen=True)
class Tube:
    """A muscle or a vessel: a band along a course.

    Parameters
    ----------
    tissue : Tissue
        `MUSCLE` or `VESSEL`.
    course : float64 array, shape (n, 3), mm
        Its centreline, from behind to the front.
    half_mm : float64 array, shape (n, 2)
        Half of its thickness, towards the orbit's axis, and half of its breadth, at each point.
    """

    tissue: Tissue
    course: Points
    half_mm: Points


@dataclass(frozen=True)
class EyeAnatomy:
    """One eye without its lesion, in the frame of its head or of the patient, LPS.

    Parameters
    ----------
    side : "left" or "right"
    centre : float64 array, shape (3,), mm
    radii_mm : float64 array, shape (3,)
        Along L, P and S, of the outer surface.
    course : float64 array, shape (n, 3), mm
        The nerve's centreline from the globe's posterior wall backwards, every `STEP_MM`.
    gaze : float64 array, shape (3,)
        Unit vector from the centre to the lens.
    tubes : tuple of Tube
    """

    side: Laterality
    centre: Points
    radii_mm: Points
    course: Points
    gaze: Points
    tubes: tuple[Tube, ...] = ()

    @property
    def radius_mm(self) -> float:
        """Radius of the ball of the same volume."""
        return float(np.cbrt(np.prod(self.radii_mm)))


@dataclass(frozen=True, eq=False)
class OrbitHead:
    """The face and the front of a brain with both eyes.

    Parameters
    ----------
    labels : uint8 array, shape (k, j, i)
        Values of `Tissue`; the globes, nerves and tubes are not among them.
    grid : Grid
        Axes along L, P and S.
    eyes : tuple of EyeAnatomy
        In the frame of the grid.
    name : str
    """

    labels: npt.NDArray[np.uint8]
    grid: Grid
    eyes: tuple[EyeAnatomy, ...]
    name: str

    @property
    def middle(self) -> Points:
        """Midpoint between the globes, shape (3,), mm, LPS."""
        return np.asarray(np.mean([eye.centre for eye in self.eyes], axis=0))


def sign_of(side: Laterality) -> float:
    """Return on which side of x = 0 an eye lies: 1 for the left, -1 for the right."""
    return 1.0 if side == "left" else -1.0


def arc_length(course: Points) -> Points:
    """Return how far along a course, shape (n, 3), each of its points lies, mm, shape (n,)."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])


def smooth_course(points: Points, step_mm: float = STEP_MM) -> Points:
    """Return a cubic spline through points, shape (n, 3), sampled evenly along its length."""
    knots = arc_length(points)
    spline = CubicSpline(knots, points)
    dense = spline(np.linspace(0.0, knots[-1], max(50, int(knots[-1] * 8))))
    along = arc_length(dense)
    at = np.arange(0.0, along[-1], step_mm)
    return np.stack([np.interp(at, along, dense[:, axis]) for axis in range(3)], axis=1)


def calibre_mm(along_mm: npt.NDArray[np.floating[Any]], ends_mm: tuple[float, float]) -> FloatArray:
    """Return a diameter that goes from the first end's to the second's over `CALIBRE_MM`, then stays."""
    return np.asarray(np.interp(along_mm, [0.0, CALIBRE_MM], ends_mm), dtype=np.float32)


def spline_weights(at: Points, count: int) -> Points:
    """Return the weights, shape (n, count), of evenly spaced cubic B-splines over [0, 1] at n places."""
    distance = np.abs(np.clip(at, 0.0, 1.0)[:, None] * (count - 3) + 1.0 - np.arange(count))
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.maximum(2.0 - distance, 0.0) ** 3 / 6.0
    return np.asarray(np.where(distance < 1.0, near, far))


@dataclass(frozen=True)
class Warp:
    """The way between a patient and the head that lent its shape: affine, and a smooth elastic part.

    Parameters
    ----------
    matrix : float64 array, shape (3, 3)
        ``head = middle + matrix @ (patient - place) + elastic(patient)``.
    middle, place : float64 arrays, shape (3,), mm, LPS
        The midpoint between the globes in the head and about where it comes to lie in the patient.
    control : float64 array, shape (s, p, l, 3), mm
        Cubic B-spline coefficients of the elastic part over a box of `EXTENT_MM` around ``place``.
    """

    EXTENT_MM = (260.0, 260.0, 260.0)

    matrix: Points
    middle: Points
    place: Points
    control: Points

    def elastic(self, patient: Points) -> Points:
        """Return the elastic part at patient positions, shape (n, 3), mm, LPS."""
        relative = (patient - self.place) / np.array(self.EXTENT_MM) + 0.5
        left, posterior, superior = (
            spline_weights(relative[:, axis], self.control.shape[2 - axis]) for axis in range(3)
        )
        by_left = np.einsum("spld,nl->nspd", self.control, left)
        by_posterior = np.einsum("nspd,np->nsd", by_left, posterior)
        return np.asarray(np.einsum("nsd,ns->nd", by_posterior, superior))

    def to_head(self, patient: Points) -> Points:
        """Return head positions of patient positions, shape (n, 3), mm, LPS."""
        return np.asarray(self.middle + (patient - self.place) @ self.matrix.T + self.elastic(patient))

    def to_patient(self, head: Points) -> Points:
        """Return patient positions of head positions, shape (n, 3), mm, LPS, to about 0.01 mm."""
        inverse = np.linalg.inv(self.matrix)
        patient = self.place + (head - self.middle) @ inverse.T
        for _ in range(6):
            patient = self.place + (head - self.middle - self.elastic(patient)) @ inverse.T
        return patient

    def eye(self, eye: EyeAnatomy) -> EyeAnatomy:
        """Return an eye of the head in the patient; a mirrored one changes its side."""
        inverse = np.linalg.inv(self.matrix)
        mirrored = np.linalg.det(inverse) < 0
        size = np.linalg.norm(inverse, axis=0)
        centre = self.to_patient(eye.centre[None])[0]
        gaze = inverse @ eye.gaze
        # spacing changes with the scale: sampled anew
        radii_mm = eye.radii_mm * size
        course = smooth_course(_from_wall(self.to_patient(eye.course), centre, radii_mm)[::4])
        tubes = tuple(
            replace(tube, course=self.to_patient(tube.course), half_mm=tube.half_mm * size.mean())
            for tube in eye.tubes
        )
        side: Laterality = eye.side if not mirrored else ("right" if eye.side == "left" else "left")
        return EyeAnatomy(side, centre, radii_mm, course, gaze / np.linalg.norm(gaze), tubes)


def _from_wall(course: Points, centre: Points, radii_mm: Points) -> Points:
    """Return a course that starts on the globe's wall: the elastic part, which leaves the globe a ball, moved it off."""
    away = course[0] - centre
    wall = centre + away / np.linalg.norm(away / radii_mm)
    fading = np.exp(-arc_length(course) / _FADING_MM)
    return np.asarray(course + fading[:, None] * (wall - course[0]))


def rotation(pitch_deg: float, roll_deg: float, yaw_deg: float) -> Points:
    """Return the rotation about x, then y, then z, shape (3, 3)."""
    (ca, cb, cc), (sa, sb, sc) = (f(np.deg2rad([pitch_deg, roll_deg, yaw_deg])) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def swung(eye: EyeAnatomy, swing_mm: float, rng: np.random.Generator) -> EyeAnatomy:
    """Return an eye whose nerve runs otherwise between the globe's wall, where it stays, and the canal.

    Parameters
    ----------
    eye : EyeAnatomy
    swing_mm : float
        SD by which the course is moved sideways and up or down, in a bow between its ends and towards its end.
    """
    share = np.clip(arc_length(eye.course) / ORBITAL_MM, 0.0, 1.0)[:, None]
    bow, end = swing_mm * rng.normal(size=(2, 2))
    across = np.sin(np.pi * share) * bow + share * end
    moved = eye.course + across[:, :1] * np.array([1.0, 0.0, 0.0]) + across[:, 1:] * np.array([0.0, 0.0, 1.0])
    return replace(eye, course=smooth_course(moved[:: round(3.0 / STEP_MM)]))


def random_warp(
    middle: Points,
    rng: np.random.Generator,
    *,
    scale_sd: float,
    elastic_mm: float,
    mirror: bool,
    turn_deg: tuple[float, float, float] = (8.0, 4.0, 5.0),
) -> Warp:
    """Return a random place, size and shape of a head.

    Parameters
    ----------
    middle : float64 array, shape (3,), mm, LPS
        The midpoint between its globes.
    scale_sd : float
        SD of the size along each axis; at most twice this.
    elastic_mm : float
        SD of the elastic coefficients, 37 mm apart.
    mirror : bool
        Exchange left and right with a chance of a half.
    turn_deg : three floats
        Largest pitch, roll and yaw.
    """
    scale = 1.0 + scale_sd * np.clip(rng.normal(size=3), -2.0, 2.0)
    if mirror and rng.random() < 0.5:
        scale[0] = -scale[0]
    turned = rotation(*(float(rng.uniform(-largest, largest)) for largest in turn_deg))
    matrix = np.diag(1.0 / scale) @ turned.T
    place = rng.uniform(-8.0, 8.0, 3)
    return Warp(matrix, middle, place, elastic_mm * rng.normal(size=(10, 10, 10, 3)))


def interpolation(count: int, at: Points) -> FloatArray:
    """Return linear weights, float32, shape (m, count), that read m places (voxels) of a line; its ends go on."""
    clipped = np.clip(at, 0.0, count - 1.0)
    low = np.minimum(clipped.astype(int), max(count - 2, 0))
    weights = np.zeros((len(at), count), dtype=np.float32)
    rows = np.arange(len(at))
    weights[rows, low] = 1.0 - (clipped - low)
    if count > 1:
        weights[rows, low + 1] += clipped - low
    return weights
