"""Numbers stand near what they name, on no finding and on no other number, as long as there is room."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.results.number_labels import Named, NumberLabel, place_numbers

SHAPE = (200, 240)


def named(text: str, top: int, left: int, height: int = 10, width: int = 10) -> Named:
    return Named(text, top, left, top + height, left + width, 12, 16)


def overlap(first: NumberLabel, second: NumberLabel) -> bool:
    return abs(first.top - second.top) < 12 and abs(first.left - second.left) < 16


def test_number_stands_right_beside_a_lesion_that_is_alone() -> None:
    taken = np.zeros(SHAPE, bool)
    taken[50:60, 100:110] = True
    (label,) = place_numbers([named("1", 50, 100)], taken)
    assert (label.left - 110, label.is_far) == (2, False)
    assert 45 <= label.top <= 55


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 18), st.integers(0, 22)), min_size=1, max_size=12, unique=True))
def test_numbers_cover_neither_findings_nor_one_another(places: list[tuple[int, int]]) -> None:
    taken = np.zeros(SHAPE, bool)
    items = []
    for number, (row, column) in enumerate(places):
        taken[10 * row : 10 * row + 8, 10 * column : 10 * column + 8] = True
        items.append(named(str(number), 10 * row, 10 * column, 8, 8))
    labels = place_numbers(items, taken)
    assert sorted(label.named.text for label in labels) == sorted(item.text for item in items)
    for number, label in enumerate(labels):
        assert 0 <= label.top <= SHAPE[0] - 12 and 0 <= label.left <= SHAPE[1] - 16
        assert not taken[label.top : label.top + 12, label.left : label.left + 16].any()
        assert not any(overlap(label, other) for other in labels[:number])


def test_number_without_room_is_still_placed() -> None:
    (label,) = place_numbers([named("1", 50, 100)], np.ones(SHAPE, bool))
    assert label.named.text == "1"
