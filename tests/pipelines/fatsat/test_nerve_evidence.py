"""What stands out from its surroundings in slice after slice, and what only seems to."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.fatsat.nerve_evidence import OFFSETS, standing_out
from pipelines.types import FloatArray

AWAY = np.hypot(OFFSETS[:, None], OFFSETS[None, :]).astype(np.float32)


def slices(count: int = 5, noise: float = 0.06, seed: int = 3) -> FloatArray:
    values = np.random.default_rng(seed).normal(0.3, noise, (count, len(OFFSETS), len(OFFSETS)))
    return np.asarray(values, dtype=np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_stand_out(seed: int) -> None:
    assert standing_out(slices(seed=seed)) < 2.0


@pytest.mark.parametrize("radius_mm", [2.5, 3.0, 4.0])
def test_faint_disc_in_every_slice_stands_out(radius_mm: float) -> None:
    assert standing_out(slices() + 0.05 * (radius_mm >= AWAY)) > 4.0


def test_faint_ring_around_a_dark_core_stands_out() -> None:
    ring = (AWAY > 1.6) & (AWAY <= 3.0)
    assert standing_out(slices() + 0.08 * ring - 0.08 * (AWAY <= 1.6)) > 4.0


def test_one_bright_slice_does_not_stand_out() -> None:
    images = slices()
    images[0] += 0.5 * (AWAY <= 2.6)
    assert standing_out(images) < 2.0


def test_muscle_that_goes_on_to_both_sides_does_not_stand_out() -> None:
    band = np.abs(OFFSETS)[:, None] <= 2.0 + 0.0 * AWAY
    assert standing_out(slices() + 0.2 * band) < 2.0


def test_slope_of_the_surroundings_hides_nothing() -> None:
    slope = (0.02 * OFFSETS[None, :] + 0.0 * AWAY).astype(np.float32)
    flat = standing_out(slices() + 0.05 * (AWAY <= 2.6))
    assert standing_out(slices() + slope + 0.05 * (AWAY <= 2.6)) == pytest.approx(flat, rel=0.25)


def test_two_slices_prove_nothing() -> None:
    assert standing_out(slices(2) + 0.5 * (AWAY <= 2.6)) == 0.0
