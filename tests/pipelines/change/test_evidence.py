"""Evidence on a core: what is measured of it, and how likely it makes a growth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipelines.change.evidence import MASK, Evidence, Scan, evidence_of, likelihood
from pipelines.change.rule import Growth, cores_of, grown

SPACING = (3.0, 1.0, 1.0)
BOX = (slice(2, 4), slice(5, 9), slice(5, 9))
BRIGHT = Evidence(96.0, 0.4, 20.0, 1.0, 90.0, 90.0, 0.0, 0.3, 0.9, 0.0)
"""A new lesion that nobody misses."""


def scan(probability: float = 0.0, brightness: float = 1.0) -> Scan:
    values = np.zeros((6, 14, 14), np.float32), np.ones((6, 14, 14), np.float32)
    for array, value in zip(values, (probability, brightness), strict=True):
        array[BOX] = value
    return Scan(*values)


def evidence(later: Scan, earlier: Scan) -> Evidence:
    near = ndimage.binary_dilation(earlier.probability >= MASK, np.ones((3, 3, 3), dtype=bool))
    inside = np.ones((2, 4, 4), dtype=bool)
    return evidence_of(inside, BOX, later, earlier, later.image - earlier.image, 0.02, near, SPACING)


def test_evidence_measures_a_new_lesion() -> None:
    measured = evidence(scan(0.9, 1.4), scan(0.1))
    assert (measured.volume_mm3, measured.at_old) == (96.0, 0.0)
    expected = {"difference": 0.4, "signal": 20.0, "share": 1.0, "excess": 0.4, "rise": 0.8}
    assert {name: getattr(measured, name) for name in expected} == pytest.approx(expected, rel=1e-4)
    assert (measured.now_mm3, measured.then_mm3, measured.gained_mm3) == pytest.approx(
        (86.4, 9.6, 76.8), rel=1e-4
    )


def test_swapped_scans_swap_what_is_before_and_after() -> None:
    one, other = scan(0.9, 1.4), scan(0.6, 1.2)
    forth, back = evidence(one, other), evidence(other, one)
    assert (forth.now_mm3, forth.then_mm3) == (back.then_mm3, back.now_mm3)
    assert (forth.gained_mm3, forth.rise) == pytest.approx((-back.gained_mm3, -back.rise))


def test_swapped_scans_have_the_same_cores_in_the_other_direction() -> None:
    one, other = scan(0.9, 1.4), scan()
    smooth = one.image - other.image
    assert len(cores_of(one, other, smooth, 0.02, SPACING)) == 1
    assert cores_of(other, one, -smooth, 0.02, SPACING) == ()


@pytest.mark.parametrize(
    "weaker",
    [
        {"signal": 2.0, "difference": 0.04},
        {"rise": 0.1},
        {"excess": -0.3},
    ],
)
@pytest.mark.parametrize("at_old", [0.0, 0.5])
def test_weaker_evidence_is_less_likely(weaker: dict[str, float], at_old: float) -> None:
    one = replace(BRIGHT, at_old=at_old)
    assert likelihood(replace(one, **weaker)) < likelihood(one)


def test_likelihood_of_extremes_stays_a_probability() -> None:
    for signal in (1e-6, 1e12):
        assert 0 <= likelihood(replace(BRIGHT, signal=signal)) <= 1


def judged(later: Scan, earlier: Scan) -> tuple[Growth, ...]:
    return grown(later, earlier, later.image - earlier.image, 0.005, SPACING).growths


def test_place_that_was_bright_already_is_vetoed_however_likely() -> None:
    later, earlier = scan(0.95, 2.0), scan(0.0, 1.7)
    (core,) = cores_of(later, earlier, later.image - earlier.image, 0.005, SPACING)
    assert likelihood(core.evidence) > 0.9
    assert core.evidence.share < 0.35
    assert judged(later, earlier) == ()


def test_place_within_a_voxel_of_as_bright_tissue_is_vetoed_however_likely() -> None:
    later, earlier = scan(0.95, 1.5), scan()
    for one in (later, earlier):
        one.image[2:4, 4], one.image[2:4, 9], one.image[2:4, :, 4] = 1.55, 1.55, 1.55
    (core,) = cores_of(later, earlier, later.image - earlier.image, 0.005, SPACING)
    assert likelihood(core.evidence) > 0.9
    assert core.evidence.excess < -0.02
    assert judged(later, earlier) == ()
