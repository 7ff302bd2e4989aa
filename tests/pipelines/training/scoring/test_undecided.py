"""The band within which a class is undecided: as wide as the cases ask for."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.cards import band_line
from pipelines.training.scoring.undecided import SHARE, card_entries, fit_band

SHARES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=150)


def cases(right: int, wrong: int, at: float, wrong_at: float) -> tuple[list[float], list[bool]]:
    return [at] * right + [wrong_at] * wrong, [True] * right + [False] * wrong


def test_band_ends_where_nine_of_ten_are_right() -> None:
    shares, truth = cases(60, 20, 0.9, 0.7)
    assert fit_band(shares, truth) == (0.0, 0.7)
    mirrored = [1 - share for share in shares]
    low, high = fit_band(mirrored, [not item for item in truth])
    assert (round(low, 9), high) == (0.3, 1.0)


def test_few_cases_decide_nothing_however_right_they_are() -> None:
    assert fit_band(*cases(34, 0, 0.99, 0.5)) == (0.0, 1.0)
    assert fit_band(*cases(35, 0, 0.99, 0.5)) == (0.0, 0.5)


def test_card_says_on_how_many_cases_it_was_fitted_and_held() -> None:
    entries = card_entries(*cases(60, 20, 0.9, 0.7), "real")
    assert entries["undecided"] == [0.0, 0.7]
    assert band_line(entries) == (
        "Undecided while the probability of MS is from 0.00 to 0.70: fitted on 80 real cases that it has not learnt from, so "
        "that 90 % are right outside; 60 of 60 were right"
    )
    assert band_line({}) == ""


@given(SHARES)
@settings(max_examples=60)
def test_outside_of_any_band_the_stated_share_is_right_on_each_side(
    given_cases: list[tuple[float, bool]],
) -> None:
    share, truth = np.array([one for one, _ in given_cases]), np.array([two for _, two in given_cases])
    low, high = fit_band(share, list(truth))
    assert 0 <= low <= 0.5 <= high <= 1
    for decided, right in ((share > high, truth), (share < low, ~truth)):
        assert not decided.any() or right[decided].mean() >= SHARE
