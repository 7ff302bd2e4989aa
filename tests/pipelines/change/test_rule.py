"""Rule of change on the common grid: new, enlarging, possible, and what is none of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.change.evidence import Scan
from pipelines.change.rule import Growth, grown
from pipelines.types import BoolArray

SHAPE, SPACING = (9, 30, 30), (3.0, 1.0, 1.0)


def box(rows: tuple[int, int], columns: tuple[int, int], slices: tuple[int, int] = (3, 5)) -> BoolArray:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[slice(*slices), slice(*rows), slice(*columns)] = True
    return inside


def scan(*parts: tuple[BoolArray, float, float]) -> Scan:
    """Return a scan of white matter with parts of a probability and a brightness."""
    probability, image = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    for inside, of_lesion, bright in parts:
        probability[inside], image[inside] = of_lesion, bright
    return Scan(probability, image)


def growths(later: Scan, earlier: Scan, noise: float = 0.02) -> tuple[Growth, ...]:
    return grown(later, earlier, later.image - earlier.image, noise, SPACING).growths


SMALL, LARGE, FAR = box((5, 9), (5, 9)), box((5, 9), (5, 15)), box((20, 24), (20, 24))


def test_bright_place_that_was_dark_is_new() -> None:
    (one,) = growths(scan((SMALL, 0.9, 1.4)), scan())
    assert (one.is_new, one.certain, one.volume_mm3, one.earlier_mm3) == (True, True, 96.0, 0.0)


def test_lesion_that_is_longer_at_one_end_is_enlarging() -> None:
    (one,) = growths(scan((LARGE, 0.9, 1.4)), scan((SMALL, 0.9, 1.4)))
    assert (one.is_new, one.certain, one.volume_mm3, one.earlier_mm3) == (False, True, 240.0, 96.0)


@pytest.mark.parametrize(
    ("later", "earlier", "noise"),
    [
        (scan((SMALL, 0.9, 1.4)), scan((SMALL, 0.9, 1.4)), 0.02),
        (scan((SMALL, 0.9, 1.6)), scan((SMALL, 0.1, 1.4)), 0.02),  # was bright before
        (scan((SMALL, 0.1, 1.4)), scan(), 0.02),  # no lesion for the networks
        (scan((SMALL, 0.9, 1.05)), scan(), 0.02),  # no difference in the images
        (scan((SMALL, 0.9, 1.4)), scan(), 0.3),  # within the noise
        (
            scan((SMALL, 0.9, 1.2)),
            scan((box((4, 10), (9, 10)), 0.0, 1.3), (box((4, 10), (6, 7)), 0.0, 1.3)),
            0.02,
        ),
        (scan((box((5, 6), (5, 8), (3, 4)), 0.9, 1.4)), scan(), 0.02),  # too small
    ],
)
def test_what_is_no_change(later: Scan, earlier: Scan, noise: float) -> None:
    assert growths(later, earlier, noise) == ()


def test_faint_place_is_possible() -> None:
    (one,) = growths(scan((SMALL, 0.9, 1.07)), scan())
    assert (one.is_new, one.certain) == (True, False)


def test_place_barely_above_the_noise_is_possible() -> None:
    (one,) = growths(scan((SMALL, 0.9, 1.4)), scan(), noise=0.12)
    assert (one.is_new, one.certain) == (True, False)


def test_place_where_a_lesion_may_have_been_is_not_new() -> None:
    (one,) = growths(scan((SMALL, 0.9, 1.4)), scan((SMALL, 0.4, 1.0)))
    assert not one.is_new


def test_each_place_has_its_own_number() -> None:
    later, earlier = scan((SMALL, 0.9, 1.4), (FAR, 0.8, 1.3)), scan()
    found = grown(later, earlier, later.image - earlier.image, 0.02, SPACING)
    assert [int(found.labels[inside].max()) for inside in (SMALL, FAR)] == [1, 2]
    assert np.count_nonzero(found.labels) == np.count_nonzero(SMALL | FAR)
