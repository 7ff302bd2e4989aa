"""Total change of a comparison: the same answer whichever study is the later one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.comparison import Comparability, Comparison

VOLUMES = st.floats(0, 1e6)


def within(now: float, then: float) -> bool:
    return Comparison(Comparability("A"), volume_mm3=now, prior_volume_mm3=then).is_within_error


@settings(max_examples=50, deadline=None)
@given(VOLUMES, st.one_of(VOLUMES, st.floats(0.8, 1.25)), st.booleans())
def test_swapped_studies_have_the_same_answer(now: float, other: float, as_factor: bool) -> None:
    then = now * other if as_factor else other
    assert within(now, then) == within(then, now)


@pytest.mark.parametrize(
    ("now", "then", "expected"),
    [(0.0, 0.0, True), (1.0, 0.0, False), (116.0, 100.0, True), (117.0, 100.0, False), (86.0, 100.0, False)],
)
def test_limit_is_a_share_of_the_mean(now: float, then: float, expected: bool) -> None:
    assert within(now, then) is expected
