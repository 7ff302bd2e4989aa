"""Both eyes of an orbital series without a click: globes, junctions, nerves; or why one is not there.

Paper 0 (NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187) has a person click where each nerve leaves its globe; here the
point is found [ours], and a person's point goes before it. Everything is judged in the patient's frame, mm, LPS, so that
neither the order nor the direction of the array's axes matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.fatsat.globes import BALL_MM, Globe, find_globes, fine
from pipelines.fatsat.midline import Midline, find_midline
from pipelines.fatsat.nerve import SCLERA_MM, Frame, Nerve, follow, head_frame
from pipelines.types import Laterality, Point, Volume

Floats = npt.NDArray[np.float64]
Source = Literal["automatic", "manual"]
SIDES: tuple[Laterality, ...] = ("right", "left")

GLOBE_MIN = 0.70
"""Least score of a globe that stands alone."""
PARTNER_MIN = 0.64
"""Least score of a globe that has a better one where its partner should be."""
APART_MM = (48.0, 80.0)
HEIGHT_MM = 14.0
DEPTH_MM = 14.0
"""How far the centres of a pair are apart, and how much they may differ in height and in depth: those of the prototype, 9 and
10 mm, and a head that is turned by some 5 degrees [ours]."""
HALF_MM = 31.0
"""Half of the mean distance between the centres (57 to 68 mm)."""
NERVE_MIN = 0.27
"""Least score of a nerve."""
FOLLOWED_MIN_MM = 9.0
"""So far behind its globe a nerve must be followed."""
TILT_MAX_DEG = 40.0
"""Slices that are turned more from the coronal plane do not cut the nerve across."""
JUNCTION_MM = (10.1, 4.1)
"""Of a mean junction, behind and medial of its globe's centre (paper 0, anatomy)."""


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
    """What was found of both eyes.

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


@dataclass
class _Search:
    """What is known while the eyes are being put together."""

    volume: Volume
    frame: Frame
    midpoint: Floats
    globes: dict[Laterality, Globe]
    level: float
    missing: dict[Laterality, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def medial(self, side: Laterality) -> Floats:
        return self.frame.left if side == "right" else -self.frame.left


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
    pair = _pair(globes)
    if pair is not None:
        right, left = pair
        search = _Search(
            volume,
            head_frame(left.centre, right.centre),
            (left.centre + right.centre) / 2,
            {"right": right, "left": left},
            (left.level + right.level) / 2,
        )
    else:
        search = _without_pair(volume, small, globes, points)
    refusal = _contradiction(search, points)
    if refusal:
        return _none(volume, refusal)
    eyes: dict[Laterality, Eye] = {}
    for side in SIDES:
        eye = _manual(search, side, points[side]) if side in points else _automatic(search, side)
        if eye is not None:
            eyes[side] = eye
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


def _pair(globes: list[Globe]) -> tuple[Globe, Globe] | None:
    """Return the best two globes that stand to each other as two eyes do, the patient's right one first."""
    best, found = 0.0, None
    for one, other in combinations(globes, 2):
        if max(one.score, other.score) < GLOBE_MIN or min(one.score, other.score) < PARTNER_MIN:
            continue
        right, left = sorted((one, other), key=lambda globe: float(globe.centre[0]))
        across, depth, height = np.abs(left.centre - right.centre)
        apart = float(np.linalg.norm(left.centre - right.centre))
        if not APART_MM[0] <= apart <= APART_MM[1] or height > HEIGHT_MM or depth > DEPTH_MM:
            continue
        if across > 0.0 and one.score + other.score > best:
            best, found = one.score + other.score, (right, left)
    return found


def _without_pair(
    volume: Volume, small: Volume, globes: list[Globe], points: Mapping[Laterality, Point]
) -> _Search:
    """Return what is known where there is one globe or none: a person's points, or the head's symmetry, tell the side."""
    middle = volume.position_lps((np.array(volume.array.shape) - 1) / 2)
    alone = globes[0] if globes and globes[0].score >= GLOBE_MIN else None
    level = alone.level if alone is not None else float(np.percentile(volume.array, 99.0))
    search = _Search(volume, head_frame(), middle, {}, level)
    if len(points) == 2:
        left, right = np.asarray(points["left"]), np.asarray(points["right"])
        search.frame = head_frame(left, right)
        search.midpoint = (left + right) / 2 - JUNCTION_MM[0] * search.frame.back
        if alone is not None:
            side: Laterality = "left" if alone.centre[0] > search.midpoint[0] else "right"
            search.globes[side] = alone
        return search
    if alone is None:
        for side in SIDES:
            search.missing[side] = f"no globe found on the {side}"
        if points:
            ((side, point),) = points.items()
            centre = _expected_globe(search, side, np.asarray(point)).centre
            search.midpoint = centre + HALF_MM * search.medial(side)
            search.warnings.append("no globe found: the midline is estimated from the point that was given")
        return search
    return _with_one(search, small, alone, points)


def _with_one(search: _Search, small: Volume, alone: Globe, points: Mapping[Laterality, Point]) -> _Search:
    """Tell the side of a lone globe, and place the midline."""
    midline: Midline | None = find_midline(small, alone.centre, HALF_MM)
    side: Laterality | None = None if midline is None else midline.side
    for given, point in points.items():
        # a point at this globe, or at the place of the other, tells its side for certain
        at_globe = np.linalg.norm(np.asarray(point) - alone.centre) < 1.6 * BALL_MM
        side = given if at_globe else _other(given)
    if side is None:
        for each in SIDES:
            search.missing[each] = "only one globe found, and the image does not tell on which side it is"
        return search
    if midline is not None and midline.side == side:
        search.midpoint = np.array([midline.x_mm, alone.centre[1], alone.centre[2]])
        how = "from the image's symmetry"
    else:
        search.midpoint = alone.centre + HALF_MM * search.medial(side)
        how = "from the one globe"
    search.globes[side] = alone
    search.missing[_other(side)] = f"no globe found on the {_other(side)}"
    if _other(side) not in points:
        search.warnings.append(f"only the {side} globe was found: the midline is estimated {how}")
    return search


def _contradiction(search: _Search, points: Mapping[Laterality, Point]) -> str:
    """Return why a person's points cannot be meant so, or nothing."""
    if len(points) == 2 and points["left"][0] <= points["right"][0]:
        return "the point given for the left eye does not lie to the left of that given for the right"
    for side, point in points.items():
        if side in search.globes or _other(side) in search.globes:
            beyond = float((np.asarray(point) - search.midpoint) @ search.medial(side))
            if beyond > 0.0:
                return f"the point given for the {side} eye lies on the other side of the midline"
    return ""


def _automatic(search: _Search, side: Laterality) -> Eye | None:
    """Follow the nerve behind a globe that was found; None, and the reason, where it cannot be followed."""
    globe = search.globes.get(side)
    if globe is None:
        search.missing.setdefault(side, f"no globe found on the {side}")
        return None
    nerve = follow(search.volume, globe, search.medial(side), search.frame)
    reason = _not_followed(nerve, side)
    if reason:
        search.missing[side] = reason
        return None
    return _eye(side, globe, nerve, min(1.0, globe.score, nerve.score), "automatic")


def _not_followed(nerve: Nerve, side: Laterality) -> str:
    if nerve.reach_mm < FOLLOWED_MIN_MM:
        return f"the series ends {max(0.0, nerve.reach_mm):.0f} mm behind the {side} globe"
    if nerve.score < NERVE_MIN or nerve.length_mm < FOLLOWED_MIN_MM:
        return f"the nerve behind the {side} globe cannot be followed"
    return ""


def _manual(search: _Search, side: Laterality, point: Point) -> Eye | None:
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
        globe = _expected_globe(search, side, given)
        search.warnings.append(f"no globe found in front of the point given for the {side} eye")
    nerve = follow(search.volume, globe, search.medial(side), search.frame, given)
    if _not_followed(nerve, side):
        search.warnings.append(f"the nerve behind the point given for the {side} eye cannot be followed")
        nerve = Nerve(given[None], nerve.score, 0.0, nerve.reach_mm)
    return _eye(side, globe, nerve, 1.0, "manual")


def _expected_globe(search: _Search, side: Laterality, junction: Floats) -> Globe:
    """Return the globe that anatomy puts in front of a junction."""
    behind, medial = JUNCTION_MM
    centre = junction - behind * search.frame.back - medial * search.medial(side)
    return Globe(centre, BALL_MM - SCLERA_MM, search.level, 0.0, 0.0, 0.0, 0.0)


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


def _other(side: Laterality) -> Laterality:
    return "right" if side == "left" else "left"


def _point(position: Floats) -> Point:
    return float(position[0]), float(position[1]), float(position[2])
