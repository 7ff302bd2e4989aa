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
        ("association-refused", "A", "10.0.0.1", "not listed; 49 more from there since the last line"),
    ]


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
