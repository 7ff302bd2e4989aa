"""Sides of the globes: a pair, a lone globe with the head's symmetry and its nerve's way, or a person's points alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from pipelines.fatsat.anatomy import Frame, head_frame
from pipelines.fatsat.globes import BALL_MM, Globe
from pipelines.fatsat.midline import find_midline
from pipelines.fatsat.nerve import SCLERA_MM, Nerve, follow
from pipelines.types import Laterality, Point, Volume

Floats = npt.NDArray[np.float64]
SIDES: tuple[Laterality, ...] = ("right", "left")

ALONE_MIN = 0.70
"""Least score of a globe that stands alone."""
PAIR_MIN = 0.62
"""Least score of either globe of a pair that stands as two eyes do. Globes of phantoms score 0.9 and more, those of a real T2
without fat suppression 0.66 to 0.87; other balls in phantoms and in real heads up to 0.69, and none of these in pairs."""
APART_MM = (48.0, 80.0)
HEIGHT_MM = 14.0
DEPTH_MM = 14.0
"""How far the centres of a pair are apart, and how much they may differ in height and in depth: those of the prototype, 9 and
10 mm, and a head that is turned by some 5 degrees [ours]."""
HALF_MM = 31.0
"""Half of the mean distance between the centres (57 to 68 mm)."""
NERVE_MIN = 0.28
"""Least score of a nerve. In phantoms of heads 1 to 12 with scanner B 624 of 631 nerves have it, half of them with a lesion in
every eye; 5 of 315 that were painted over, and 67 of 315 over which texture from 9 mm beside, which may be a muscle, was
copied."""
FOLLOWED_MIN_MM = 9.0
"""So far behind its globe a nerve must be followed."""
DRIFT_MM = 3.0
"""So far over 15 mm a nerve must go to one side to tell which eye it belongs to (mean: 7 mm)."""
JUNCTION_MM = (10.1, 4.1)
"""Of a mean junction, behind and medial of its globe's centre (paper 0, anatomy)."""


@dataclass
class Search:
    """Search for both eyes at its present state; ``faint`` are nerves that could not be followed."""

    volume: Volume
    frame: Frame
    midpoint: Floats
    globes: dict[Laterality, Globe]
    level: float
    missing: dict[Laterality, str] = field(default_factory=dict)
    faint: dict[Laterality, Nerve] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def medial(self, side: Laterality) -> Floats:
        """Return the unit vector, LPS, from an eye of a side towards the middle."""
        return self.frame.left if side == "right" else -self.frame.left


def arranged(
    volume: Volume, small: Volume, globes: list[Globe], points: Mapping[Laterality, Point]
) -> Search:
    """Tell which globe is which eye's, and where the middle of the head lies.

    Parameters
    ----------
    volume, small : Volume
        The series, and `pipelines.fatsat.globes.fine` of it.
    globes : list of Globe
        The best first.
    points : mapping of side to Point
        A person's, mm, LPS.
    """
    pair = _pair(globes)
    if pair is None:
        return _without_pair(volume, small, globes, points)
    right, left = pair
    return Search(
        volume,
        head_frame(left.centre, right.centre),
        (left.centre + right.centre) / 2,
        {"right": right, "left": left},
        (left.level + right.level) / 2,
    )


def _pair(globes: list[Globe]) -> tuple[Globe, Globe] | None:
    """Return the best two globes that stand to each other as two eyes do, the patient's right one first."""
    best, found = 0.0, None
    for one, other in combinations(globes, 2):
        if min(one.score, other.score) < PAIR_MIN:
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
) -> Search:
    """Return what is known where there is one globe or none: a person's points, or the head's symmetry, tell the side."""
    middle = volume.position_lps((np.array(volume.array.shape) - 1) / 2)
    alone = globes[0] if globes and globes[0].score >= ALONE_MIN else None
    level = alone.level if alone is not None else float(np.percentile(volume.array, 99.0))
    search = Search(volume, head_frame(), middle, {}, level)
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
            centre = expected_globe(search, side, np.asarray(point)).centre
            search.midpoint = centre + HALF_MM * search.medial(side)
            search.warnings.append("no globe found: the midline is estimated from the point that was given")
        return search
    return _with_one(search, small, alone, points)


def _with_one(search: Search, small: Volume, alone: Globe, points: Mapping[Laterality, Point]) -> Search:
    """Tell the side of a lone globe, and place the midline."""
    midline = find_midline(small, alone.centre, HALF_MM)
    drawn = _drawn_to(search, alone)
    side: Laterality | None = drawn if midline is None else midline.side
    if drawn is not None and drawn != side:
        side = None
    for given, point in points.items():
        # a point at this globe, or at the place of the other, tells its side for certain
        at_globe = np.linalg.norm(np.asarray(point) - alone.centre) < 1.6 * BALL_MM
        side = given if at_globe else other_side(given)
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
    search.missing[other_side(side)] = f"no globe found on the {other_side(side)}"
    if other_side(side) not in points:
        search.warnings.append(f"only the {side} globe was found: the midline is estimated {how}")
    return search


def _drawn_to(search: Search, globe: Globe) -> Laterality | None:
    """Return which eye a globe is by where its nerve goes, which is to the middle; None where that is not clear."""
    nerves = [follow(search.volume, globe, search.medial(side), search.frame) for side in SIDES]
    nerve = max(nerves, key=lambda each: each.score)
    if nerve.score < NERVE_MIN or nerve.length_mm < FOLLOWED_MIN_MM:
        return None
    way = nerve.course[min(len(nerve.course) - 1, 40)] - nerve.course[0]
    drift_mm = 15.0 * float(way @ search.frame.left) / max(float(way @ search.frame.back), 1.0)
    if abs(drift_mm) < DRIFT_MM:
        return None
    return "right" if drift_mm > 0.0 else "left"


def contradiction(search: Search, points: Mapping[Laterality, Point]) -> str:
    """Return why a person's points cannot be meant so, or nothing."""
    if len(points) == 2 and points["left"][0] <= points["right"][0]:
        return "the point given for the left eye does not lie to the left of that given for the right"
    for side, point in points.items():
        if side in search.globes or other_side(side) in search.globes:
            beyond = float((np.asarray(point) - search.midpoint) @ search.medial(side))
            if beyond > 0.0:
                return f"the point given for the {side} eye lies on the other side of the midline"
    return ""


def not_followed(nerve: Nerve, side: Laterality) -> str:
    """Return why a nerve is not to be used, or nothing."""
    if nerve.reach_mm < FOLLOWED_MIN_MM:
        return f"the series ends {max(0.0, nerve.reach_mm):.0f} mm behind the {side} globe"
    if nerve.score < NERVE_MIN or nerve.length_mm < FOLLOWED_MIN_MM:
        return f"the nerve behind the {side} globe cannot be followed"
    return ""


def expected_globe(search: Search, side: Laterality, junction: Floats) -> Globe:
    """Return the globe that anatomy puts in front of a junction."""
    behind, medial = JUNCTION_MM
    centre = junction - behind * search.frame.back - medial * search.medial(side)
    return Globe(centre, BALL_MM - SCLERA_MM, search.level, 0.0, 0.0, 0.0, 0.0)


def other_side(side: Laterality) -> Laterality:
    """Return the opposite side."""
    return "right" if side == "left" else "left"
