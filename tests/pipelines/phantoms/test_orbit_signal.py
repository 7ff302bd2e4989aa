"""What is drawn at random keeps the figures: signals, lesions, sheaths, vessels."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.phantoms.orbit_anatomy import NERVE_MM, SHEATH_MM, Tissue, calibre_mm
from pipelines.phantoms.orbit_signal import ORBITAL_MM, draw_contrast, draw_nerve


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize("dampened", [1.0, 1.2])
def test_signals_keep_their_ranges(rng: np.random.Generator, dampened: float) -> None:
    for _ in range(200):
        contrast = draw_contrast(rng, dampened)
        assert 0.08 <= contrast.of(Tissue.ORBITAL_FAT) <= 0.30 + 1e-6
        assert 0.25 <= contrast.of(Tissue.MUSCLE) <= 0.40 + 1e-6
        assert 0.30 <= contrast.nerve <= 0.40 + 1e-6
        assert 0.85 <= contrast.of(Tissue.FLUID) <= 1.0
        assert 0.5 <= contrast.of(Tissue.MUCOSA) <= 1.0
        assert contrast.of(Tissue.BONE) <= 0.1
        assert contrast.of(Tissue.MUSCLE) > contrast.of(Tissue.ORBITAL_FAT)


def test_lesions_are_short_or_longer_than_half_of_the_nerve(rng: np.random.Generator) -> None:
    lesions = [draw_nerve(rng, lesion=True, reach_mm=40.0).lesion for _ in range(400)]
    lengths = np.array([lesion.length_mm for lesion in lesions if lesion is not None])
    contrasts = np.array([lesion.contrast for lesion in lesions if lesion is not None])
    assert len(lengths) == 400
    long = lengths > ORBITAL_MM / 2
    assert 0.22 < long.mean() < 0.38
    assert lengths.min() >= 5.0
    assert lengths[~long].max() <= 12.0
    assert 1.3 <= contrasts.min() <= contrasts.max() <= 2.0
    ends = [lesion.start_mm + lesion.length_mm for lesion in lesions if lesion is not None]
    assert max(ends) < 40.0


def test_lesion_lies_in_the_part_that_is_seen(rng: np.random.Generator) -> None:
    for _ in range(100):
        lesion = draw_nerve(rng, lesion=True, reach_mm=20.0).lesion
        assert lesion is not None
        assert lesion.start_mm >= 0.0
        assert lesion.start_mm + min(lesion.length_mm, 18.0) <= 20.0


def test_contrast_asked_for_changes_nothing_else() -> None:
    one, two = (
        draw_nerve(np.random.default_rng(3), lesion=True, reach_mm=40.0, contrast=c) for c in (1.1, None)
    )
    assert one.lesion is not None
    assert two.lesion is not None
    assert one.lesion.contrast == 1.1
    assert (one.sheath, one.lesion.start_mm) == (two.sheath, two.lesion.start_mm)


def test_neither_sheath_nor_vessel_alone_tells_a_lesion(rng: np.random.Generator) -> None:
    sick = [draw_nerve(rng, lesion=True, reach_mm=40.0) for _ in range(300)]
    well = [draw_nerve(rng, lesion=False, reach_mm=40.0) for _ in range(300)]
    wide = [np.mean([state.sheath > 1.35 for state in states]) for states in (sick, well)]
    seen = [np.mean([state.vessel is not None for state in states]) for states in (sick, well)]
    assert wide == pytest.approx([0.5, 0.25], abs=0.09)
    assert seen == pytest.approx([0.3, 0.8], abs=0.09)
    assert all(state.lesion is None for state in well)


def test_nerve_and_sheath_grow_thinner_backwards() -> None:
    along = np.array([0.0, 12.5, 25.0, 40.0])
    np.testing.assert_allclose(calibre_mm(along, NERVE_MM), [3.2, 2.9, 2.6, 2.6], rtol=1e-6)
    np.testing.assert_allclose(calibre_mm(along, SHEATH_MM), [5.2, 4.55, 3.9, 3.9], rtol=1e-6)
