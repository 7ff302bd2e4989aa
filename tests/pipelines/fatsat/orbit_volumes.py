"""Plain orbits for tests that need no anatomy: two bright balls, a dark nerve behind each."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from pipelines.fatsat.eyes import Eye, Eyes
from pipelines.types import Laterality, Point, Volume

CENTRES: dict[Laterality, Point] = {"right": (-31.0, 0.0, 0.0), "left": (31.0, 0.0, 0.0)}
JUNCTIONS: dict[Laterality, Point] = {"right": (-26.9, 10.1, 0.0), "left": (26.9, 10.1, 0.0)}
RADIUS_MM = 11.5


def orbit_course(side: Laterality) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A straight nerve of 28 mm that runs 27 degrees inwards, with a point each 0.5 mm."""
    inwards = np.sin(np.radians(27)) * (1 if side == "right" else -1)
    way = np.arange(0, 28.1, 0.5)[:, None]
    return np.array(JUNCTIONS[side]) + way * np.array([inwards, np.cos(np.radians(27)), 0.0])


def orbit_eye(side: Laterality, **changes: Any) -> Eye:
    values: dict[str, Any] = {
        "side": side,
        "centre_lps": CENTRES[side],
        "radius_mm": RADIUS_MM,
        "junction_lps": JUNCTIONS[side],
        "course_lps": orbit_course(side),
        "score": 1.0,
        "source": "automatic",
        **changes,
    }
    return Eye(**values)


def orbit_eyes(*sides: Laterality, **changes: Any) -> Eyes:
    """Both eyes, or those named; the others are missing."""
    there = sides or ("right", "left")
    missing = {side: "no globe was found" for side in CENTRES if side not in there}
    found = {side: orbit_eye(side) if side in there else None for side in CENTRES}
    values: dict[str, Any] = {
        **found,
        "midpoint_lps": (0.0, 0.0, 0.0),
        "score": 1.0,
        "missing": missing,
        "warnings": (),
        **changes,
    }
    return Eyes(**values)


def orbit_volume(slices: int = 20, bright: Laterality | None = None) -> Volume:
    """A coronal series, 3 x 0.5 x 0.5 mm, front to back; ``bright``: the nerve that shines, 8 to 14 mm behind
    the globe, as nothing else does.
    """
    made = _volume(slices, bright)
    return Volume(made.array.copy(), made.affine, {"EchoTime": 84.0})


@cache
def _volume(slices: int, bright: Laterality | None) -> Volume:
    affine = np.array([[0.5, 0, 0, -50], [0, 0, 3.0, -15], [0, -0.5, 0, 30], [0, 0, 0, 1.0]])
    volume = Volume(np.full((slices, 120, 200), 0.3, np.float32), affine)
    positions = volume.position_lps(np.moveaxis(np.indices(volume.array.shape), 0, -1))
    for side, centre in CENTRES.items():
        volume.array[np.linalg.norm(positions - np.array(centre), axis=-1) < RADIUS_MM] = 1.0
        for number, point in enumerate(orbit_course(side)[::3]):
            near = (np.abs(positions - point) < (2.0, 1.5, 2.0)).all(axis=-1)
            volume.array[near] = 8.0 if side == bright and 8 <= 1.5 * number <= 14 else 0.35
    return volume
