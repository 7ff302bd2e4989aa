"""Where the eyes, the junctions and the nerves are found, on phantoms from geometry alone."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.fatsat.eyes import SIDES, Eyes, find_eyes
from pipelines.phantoms.orbits import OrbitPhantom, OrbitScan, geometric_orbits
from pipelines.types import Laterality

PUBLISHED = OrbitScan()


def distance_mm(one: object, other: object) -> float:
    return float(np.linalg.norm(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)))


@pytest.fixture(scope="module")
def phantom() -> OrbitPhantom:
    return geometric_orbits(3, lesions=(), scan=PUBLISHED)


@pytest.fixture(scope="module")
def found(phantom: OrbitPhantom) -> Eyes:
    return find_eyes(phantom.volume)


@pytest.mark.parametrize("side", SIDES)
def test_finds_globe_and_junction(phantom: OrbitPhantom, found: Eyes, side: Laterality) -> None:
    eye, truth = found.of(side), phantom.eye(side)
    assert eye is not None and truth is not None, found.missing
    assert eye.side == side and eye.source == "automatic"
    assert distance_mm(eye.centre_lps, truth.centre_lps) < 1.0
    assert abs(eye.radius_mm - truth.radius_mm) < 1.0
    assert distance_mm(eye.junction_lps, truth.junction_lps) < 3.0
