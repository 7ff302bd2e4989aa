"""Eye muscles and the superior ophthalmic vein as bands along courses, for one orbit."""

from __future__ import annotations

import numpy as np

from pipelines.phantoms.orbit_anatomy import EyeAnatomy, Points, Tissue, Tube, sign_of
from pipelines.types import Laterality

RECTUS_MM = (3.2, 4.5)
"""Thickness of a rectus muscle at its belly."""
BREADTH_MM = (8.0, 10.0)
APEX_MM = 30.0
"""How far along the nerve the muscles' common ring lies."""
RING_MM = 4.2
BELLY_MM = 12.5
"""Greatest distance of a rectus from the nerve's axis, where its belly is."""


def _along(start: Points, belly: Points, end: Points, count: int = 24) -> Points:
    """Return a smooth course from start to end that passes the belly, shape (count, 3)."""
    t = np.linspace(0.0, 1.0, count)[:, None]
    control = 2.0 * belly - 0.5 * (start + end)
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)


def _band(course: Points, thickness_mm: float, breadth_mm: float, tissue: Tissue = Tissue.MUSCLE) -> Tube:
    t = np.linspace(0.0, 1.0, len(course))
    swell = np.interp(t, [0.0, 0.12, 0.4, 0.75, 0.9, 1.0], [0.5, 0.8, 1.0, 1.0, 0.6, 0.3])
    spread = np.interp(t, [0.0, 0.12, 0.45, 1.0], [0.35, 0.6, 1.0, 1.0])
    return Tube(tissue, course, np.stack([thickness_mm / 2 * swell, breadth_mm / 2 * spread], axis=1))


def muscles(eye: EyeAnatomy, rng: np.random.Generator) -> tuple[Tube, ...]:
    """Return the four recti, the levator and the superior oblique of an eye, in the frame of the eye."""
    sign = sign_of(eye.side)
    radius = eye.radius_mm
    at = min(int(APEX_MM / 0.5), len(eye.course) - 1)
    apex, middle = eye.course[at], eye.course[at // 2]
    bands = []
    for angle_deg, extra in ((0.0, 0.0), (90.0, 0.0), (180.0, -0.5), (270.0, 0.0)):
        angle = np.deg2rad(angle_deg + rng.uniform(-6.0, 6.0))
        away = np.array([np.cos(angle) * sign, 0.0, np.sin(angle)])
        belly_mm = BELLY_MM + extra + rng.normal(0.0, 0.5)
        end = eye.centre + (radius + 0.4) * (0.93 * away + np.array([0.0, -0.3, 0.0]))
        hub = 0.5 * (middle + eye.centre + np.array([0.0, radius, 0.0]) * 1.2)
        course = _along(apex + RING_MM * away, hub + belly_mm * away, end)
        bands.append(_band(course, rng.uniform(*RECTUS_MM), rng.uniform(*BREADTH_MM)))
        if angle_deg == 90.0:
            lifted = course + np.array([0.0, 0.0, 3.4]) * np.linspace(0.4, 1.2, len(course))[:, None]
            bands.append(_band(lifted, rng.uniform(1.4, 2.0), rng.uniform(8.0, 10.0)))
    angle = np.deg2rad(135.0 + rng.uniform(-6.0, 6.0))
    away = np.array([np.cos(angle) * sign, 0.0, np.sin(angle)])
    end = eye.centre + np.array([0.0, -2.0, 0.0]) + (radius + 5.5) * away
    course = _along(apex + (RING_MM + 2.0) * away, 0.5 * (apex + end) + 4.5 * away, end)
    bands.append(_band(course, rng.uniform(2.6, 3.2), rng.uniform(3.4, 4.6)))
    return tuple(bands)


def vein(side: Laterality, centre: Points, course: Points) -> Tube:
    """Return the superior ophthalmic vein, which crosses above the nerve from medial in front to lateral behind."""
    sign = sign_of(side)
    at = min(int(APEX_MM / 0.5), len(course) - 1)
    start = course[at] + np.array([sign * 4.0, 0.0, 5.0])
    middle = course[at // 2] + np.array([sign * 2.0, 0.0, 7.0])
    end = centre + np.array([-sign * 11.0, 0.0, 13.0])
    line = _along(start, middle, end)
    half = np.full((len(line), 2), 0.9)
    return Tube(Tissue.VESSEL, line, half)
