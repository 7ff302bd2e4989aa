"""Both eyes of an orbital series without a click: globes, junctions, nerves; or why one is not there.

Paper 0 (NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187) has a person click where each nerve leaves its globe; here the
point is found [ours], and a person's point goes before it. A nerve that is too faint to be taken by itself is taken where it
runs as the other eye's does, or is looked for once more where that one says. Everything is judged in the patient's frame, mm,
LPS, so that neither the order nor the direction of the array's axes matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.fatsat.anatomy import as_other_eye
from pipelines.fatsat.globes import BALL_MM, Globe, find_globes, fine
from pipelines.fatsat.nerve import ORBIT_MM, SCLERA_MM, Nerve, follow
from pipelines.fatsat.sides import (
    FOLLOWED_MIN_MM,
    SIDES,
    Search,
    arranged,
    contradiction,
    expected_globe,
    not_followed,
    other_side,
)
from pipelines.types import Laterality, Point, Volume

__all__ = ["SIDES", "Eye", "Eyes", "find_eyes"]

Floats = npt.NDArray[np.float64]
Source = Literal["automatic", "manual"]

TILT_MAX_DEG = 40.0
"""Slices that are turned more from the coronal plane do not cut the nerve across."""
FAINT_MIN, FAINT_MM, ALIKE_SD = 0.18, 6.0, 2.5
"""Least score and length of a faint nerve that runs as the other eye's does, and how far beside that one it may run. In the
phantoms of `pipelines.fatsat.sides.NERVE_MIN` 3 of 6 nerves that were left have it, 2 of 310 painted over and 34 of 222 under
copied texture: these, too, are taken where the nerve was, within 4 mm."""


@dataclass(frozen=True)
class Eye:
    """One eye and its nerve.

    Parameters
    ----------
    side : "left" or "right"
        The patient's.
    centre_lps : Point
        Of the globe; where it is not seen in front of a person's point, expected from anatomy.
    radius_mm : float
        To the outside of the globe.
    junction_lps : Point
        Where the nerve's axis meets the outside of the globe.
    course_lps : float64 array, shape (n, 3), mm, LPS
        The nerve's centreline, every 0.5 mm, from the junction as far as it can be followed; at least the junction.
    score : float
        In [0, 1]: the lesser of the globe's and the nerve's; 1 for a person's point.
    source : "automatic" or "manual"
    """

    side: Laterality
    centre_lps: Point
    radius_mm: float
    junction_lps: Point
    course_lps: Floats
    score: float
    source: Source


@dataclass(frozen=True)
class Eyes:
    """Both eyes, as far as they were found.

    Parameters
    ----------
    left, right : Eye or None
    midpoint_lps : Point
        Between the globes, on the head's midline.
    score : float
        The least of the eyes' scores; 0 without an eye.
    missing : mapping of side to str
        Why an eye is not there.
    warnings : tuple of str
    """

    left: Eye | None
    right: Eye | None
    midpoint_lps: Point
    score: float
    missing: Mapping[Laterality, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def of(self, side: Laterality) -> Eye | None:
        """Return the eye of a side."""
        return self.left if side == "left" else self.right

    def __iter__(self) -> Iterator[Eye]:
        return (eye for eye in (self.right, self.left) if eye is not None)


def find_eyes(volume: Volume, points: Mapping[Laterality, Point] | None = None) -> Eyes:
    """Find the eyes and the nerves behind them.

    Parameters
    ----------
    volume : Volume
        A coronal or near-coronal T2 series of the orbits; anything else has no eyes.
    points : mapping of side to Point, optional
        Where a person saw a nerve leave its globe, mm, LPS; used instead of what would be found there.

    Returns
    -------
    Eyes
        Without an eye whose globe or nerve is below its margin; raises nothing for odd input.
    """
    points = dict(points or {})
    refusal = _not_a_series(volume)
    if refusal:
        return _none(volume, refusal)
    volume = Volume(np.nan_to_num(volume.array, posinf=0.0, neginf=0.0), volume.affine, volume.attributes)
    small = fine(volume)
    globes = find_globes(small)
    search = arranged(volume, small, globes, points)
    refusal = contradiction(search, points)
    if refusal:
        return _none(volume, refusal)
    eyes: dict[Laterality, Eye] = {}
    for side in SIDES:
        eye = _manual(search, side, points[side]) if side in points else _automatic(search, side)
        if eye is not None:
            eyes[side] = eye
    for side in SIDES:
        other = eyes.get(other_side(side))
        if side in search.faint and other is not None and other.source == "automatic":
            eyes |= _by_other_eye(search, side, other)
    return Eyes(
        left=eyes.get("left"),
        right=eyes.get("right"),
        midpoint_lps=_point(search.midpoint),
        score=min((eye.score for eye in eyes.values()), default=0.0),
        missing=search.missing,
        warnings=tuple(search.warnings),
    )


def _not_a_series(volume: Volume) -> str:
    """Return why there is nothing to search in, or nothing."""
    array = volume.array
    if array.ndim != 3 or min(array.shape) < 3 or not np.isfinite(volume.affine).all():
        return "the series is not a volume"
    if min(volume.spacing_mm) <= 0.0 or abs(np.linalg.det(volume.affine[:3, :3])) < 1e-6:
        return "the series is not a volume"
    values = array[np.isfinite(array)]
    if values.size == 0 or values.min() == values.max():
        return "the series is blank"
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    tilt = np.degrees(np.arccos(np.clip(abs(normal[1]) / np.linalg.norm(normal), 0.0, 1.0)))
    if tilt > TILT_MAX_DEG:
        return f"the slices are not coronal: turned by {tilt:.0f} degrees"
    return ""


def _automatic(search: Search, side: Laterality) -> Eye | None:
    """Follow the nerve behind a globe that was found; None, and the reason, where it cannot be followed."""
    globe = search.globes.get(side)
    if globe is None:
        search.missing.setdefault(side, f"no globe found on the {side}")
        return None
    nerve = follow(search.volume, globe, search.medial(side), search.frame)
    reason = not_followed(nerve, side)
    if reason:
        search.missing[side] = reason
        if nerve.reach_mm >= FOLLOWED_MIN_MM:
            search.faint[side] = nerve
        return None
    return _eye(side, globe, nerve, min(1.0, globe.score, nerve.score), "automatic")


def _by_other_eye(search: Search, side: Laterality, other: Eye) -> dict[Laterality, Eye]:
    """Take a faint nerve that runs as that of the other eye does, or look for it there; nothing if in vain."""
    globe, nerve = search.globes[side], search.faint[side]
    medial, frame = search.medial(side), search.frame
    anatomy = as_other_eye(
        np.asarray(other.course_lps), np.asarray(other.centre_lps), search.medial(other_side(side)), frame
    )
    is_alike = anatomy.apart_sd(nerve.course, globe.centre, medial, frame) <= ALIKE_SD
    if not (is_alike and nerve.score >= FAINT_MIN and nerve.length_mm >= FAINT_MM):
        nerve = follow(search.volume, globe, medial, frame, anatomy=anatomy, front_mm=ORBIT_MM)
        if not_followed(nerve, side):
            return {}
    del search.missing[side]
    search.warnings.append(
        f"the nerve behind the {side} globe is faint: it was found by where the other eye's runs"
    )
    return {side: _eye(side, globe, nerve, min(1.0, globe.score, nerve.score), "automatic")}


def _manual(search: Search, side: Laterality, point: Point) -> Eye | None:
    """Start from a person's point; None, and the reason, where it lies outside of the series."""
    given = np.asarray(point, dtype=np.float64)
    index = np.linalg.solve(search.volume.affine[:3, :3], given - search.volume.affine[:3, 3])[::-1]
    inside = (index >= -0.5) & (index <= np.array(search.volume.array.shape) - 0.5)
    if not inside.all():
        search.missing[side] = f"the point given for the {side} eye lies outside of the series"
        return None
    search.missing.pop(side, None)
    globe = search.globes.get(side)
    if globe is None or np.linalg.norm(globe.centre - given) > 1.6 * BALL_MM:
        globe = expected_globe(search, side, given)
        search.warnings.append(f"no globe found in front of the point given for the {side} eye")
    nerve = follow(search.volume, globe, search.medial(side), search.frame, given)
    if not_followed(nerve, side):
        search.warnings.append(f"the nerve behind the point given for the {side} eye cannot be followed")
        nerve = Nerve(given[None], nerve.score, 0.0, nerve.reach_mm)
    nerve.course[0] = given
    return _eye(side, globe, nerve, 1.0, "manual")


def _eye(side: Laterality, globe: Globe, nerve: Nerve, score: float, source: Source) -> Eye:
    return Eye(
        side=side,
        centre_lps=_point(globe.centre),
        radius_mm=globe.radius_mm + SCLERA_MM,
        junction_lps=_point(nerve.course[0]),
        course_lps=nerve.course,
        score=score,
        source=source,
    )


def _none(volume: Volume, reason: str) -> Eyes:
    """Return no eyes for one reason."""
    middle = (0.0, 0.0, 0.0)
    if volume.array.ndim == 3 and np.isfinite(volume.affine).all():
        middle = _point(volume.position_lps((np.array(volume.array.shape) - 1) / 2))
    return Eyes(None, None, middle, 0.0, dict.fromkeys(SIDES, reason))


def _point(position: Floats) -> Point:
    return float(position[0]), float(position[1]), float(position[2])
