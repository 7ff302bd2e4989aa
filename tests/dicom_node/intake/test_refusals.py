"""Lines about callers that are refused."""

from __future__ import annotations

import pytest

from dicom_node.intake import refusals
from dicom_node.intake.refusals import Refusals
from dicom_node.receive.association import Association


class Lines:
    def __init__(self):
        self.lines = []

    def write(self, event, **figures):
        self.lines.append((event, figures["calling_ae"], figures["address"], figures["reason"]))


def caller(address="10.0.0.1", calling="A"):
    return Association("0" * 12, calling, address, "NODE")


@pytest.fixture
def told():
    log, time = Lines(), [1000.0]
    return Refusals(log, lambda: time[0]), log.lines, time


def test_flood_from_one_address_is_a_line_a_minute_that_counts(told):
    refusals_, lines, time = told
    for _ in range(50):
        refusals_.tell("association-refused", caller(), "not listed")
        time[0] += 1
    refusals_.tell("association-refused", caller("10.0.0.2"), "not listed")
    time[0] += 11
    refusals_.tell("association-refused", caller(), "not listed")
    assert lines == [
        ("association-refused", "A", "10.0.0.1", "not listed"),
        ("association-refused", "A", "10.0.0.2", "not listed"),
        (
            "association-refused",
            "A",
            "10.0.0.1",
            "not listed; 49 more like it from there since the last line",
        ),
    ]


def test_one_reason_does_not_silence_another_of_the_same_address(told):
    refusals_, lines, time = told
    refusals_.tell("association-refused", caller(), "AE title is not in [accept] callers")
    refusals_.tell(
        "association-refused", caller(), "24 associations of this address are open, its limit is 24"
    )
    refusals_.tell("association-refused", caller(), "AE title is not in [accept] callers")
    time[0] += 61
    refusals_.tell(
        "association-refused", caller(), "24 associations of this address are open, its limit is 24"
    )
    refusals_.tell("association-refused", caller(), "AE title is not in [accept] callers")
    assert [line[3] for line in lines] == [
        "AE title is not in [accept] callers",
        "24 associations of this address are open, its limit is 24",
        "24 associations of this address are open, its limit is 24",
        "AE title is not in [accept] callers; 1 more like it from there since the last line",
    ]


@pytest.mark.parametrize("title", ["A{}", "it's {}", "\"{}'"])
def test_titles_and_numbers_that_a_caller_chooses_make_no_further_reason(told, title):
    refusals_, lines, _ = told
    for number in range(9):
        called = title.format("B" * number)
        refusals_.tell("association-refused", caller(), f"calls {called!r}, and this is 'NODE'")
        refusals_.tell("association-cut", caller(), f"a PDU of {number} bytes")
    assert len(lines) == 2


def test_events_are_counted_apart_and_a_caller_without_a_name_is_somebody(told):
    refusals_, lines, _ = told
    refusals_.tell("association-refused", caller(calling=""), "TLS")
    refusals_.tell("association-cut", caller(), "too slow")
    assert [line[:2] for line in lines] == [("association-refused", "somebody"), ("association-cut", "A")]


def test_addresses_that_are_remembered_are_limited(told, monkeypatch):
    monkeypatch.setattr(refusals, "MOST", 2)
    refusals_, lines, _ = told
    for address in ("1", "2", "3", "1", "1"):
        refusals_.tell("association-refused", caller(address), "not listed")
    assert [line[2] for line in lines] == ["1", "2", "3", "1"]
