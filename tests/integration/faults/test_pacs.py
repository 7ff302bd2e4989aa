"""A PACS that refuses, hangs, breaks off or forgets: the result arrives once, and ``why`` names the cause."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pynetdicom.sop_class import SegmentationStorage

from dicom_node.jobs.states import JobState
from tests.integration.faults.conftest import Start
from tests.integration.faults.inside import IMPATIENT
from tests.integration.faults.pacs import CLASSES, COERCED, OUT_OF_RESOURCES, SUCCESS, Pacs

pytestmark = pytest.mark.integration


def test_association_refused_at_first(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    pacs.ae.require_calling_aet = ["NOBODY"]
    node = start(pacs)
    node.send(files)
    node.wait_for("delivery-retry")
    assert "the PACS does not know our AE title LESIONNODE" in node.why(node.job().id)
    pacs.ae.require_calling_aet = []
    node.delivered()
    node.assert_once(pacs)
    node.assert_nothing_lost()


def test_port_closed_at_first(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, listening=False)
    node.send(files)
    node.wait_for("delivery-retry", 2)
    assert "connection refused" in node.why(node.job().id)
    pacs.start()
    node.delivered()
    node.assert_once(pacs)
    node.assert_nothing_lost()


def test_seg_refused(start: Start, files: list[Path]) -> None:
    pacs = Pacs(classes=tuple(one for one in CLASSES if one != SegmentationStorage))
    node = start(pacs)
    node.send(files)
    node.delivered()
    node.assert_once(pacs, without=["seg"])
    assert "Segmentation Storage is not accepted" in node.why(node.job().id)
    node.assert_nothing_lost()


def test_out_of_resources_for_one_object_and_then_accepted(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    pacs.status = lambda uid, before: OUT_OF_RESOURCES if len(pacs.sent) == 3 and not before else SUCCESS
    node = start(pacs)
    node.send(files)
    node.delivered()
    assert "A700" in node.why(node.job().id)
    assert sorted(pacs.sent.values())[-1] == 2, "the refused object, and no other, was sent twice"
    node.assert_once(pacs)
    node.assert_nothing_lost()


def test_stored_with_a_warning(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    pacs.status = lambda uid, before: COERCED
    node = start(pacs)
    node.send(files)
    node.delivered()
    assert "B000" in node.why(node.job().id)
    node.assert_once(pacs)


def test_no_answer_at_first(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    released = threading.Event()
    hangs = iter([True])
    pacs.before_store = lambda event: released.wait(20) and None if next(hangs, False) else None
    node = start(pacs, timeouts=IMPATIENT)
    node.send(files)
    node.wait_for("delivery-retry")
    assert "no answer in time" in node.why(node.job().id)
    released.set()
    node.delivered()
    node.assert_nothing_lost()
    assert set(pacs.held) == set(pacs.sent)


def test_association_broken_in_the_middle(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    breaks = iter([False, True])
    pacs.before_store = lambda event: event.assoc.abort() if next(breaks, False) else None
    node = start(pacs)
    node.send(files)
    node.delivered()
    assert "the association broke" in node.why(node.job().id)
    node.assert_nothing_lost()
    assert set(pacs.held) == set(pacs.sent)


def test_success_said_and_nothing_kept(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    pacs.shows = lambda uid: False
    node = start(pacs)
    node.send(files)
    node.until(lambda: node.jobs(JobState.UNDELIVERED), "the job is undelivered")
    assert "taken 3 times and never shown by C-FIND" in node.why(node.job().id)
    assert not node.events("delivered")
    pacs.shows = lambda uid: True
    node.node.steering.steer("retry", node.job().id)
    node.delivered()
    node.assert_nothing_lost()


def test_forgotten_object_is_sent_again(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    pacs.shows = lambda uid: pacs.stored[uid] > 1
    node = start(pacs)
    node.send(files)
    node.delivered()
    assert "taken and not shown by C-FIND" in node.why(node.job().id)
    assert set(pacs.stored.values()) == {2}
    assert len(node.events("delivered")) == 1


def test_dead_destination_holds_up_no_other(start: Start, files: list[Path]) -> None:
    alive, dead = Pacs("alive"), Pacs("dead")
    alive.start()
    node = start(alive, dead, listening=False)
    node.send(files)
    assert node.wait_for("delivered")["destination"] == "alive"
    node.wait_for("delivery-retry", 2)
    assert node.job().state == JobState.DELIVERING
    assert "dead: " in node.why(node.job().id)
    assert "connection refused" in node.why(node.job().id)
    dead.start()
    node.delivered()
    node.assert_once(alive, dead)
    node.assert_nothing_lost()


def test_clock_set_back_delays_no_delivery(start: Start, files: list[Path]) -> None:
    pacs = Pacs()
    node = start(pacs, listening=False)
    node.send(files)
    node.wait_for("delivery-retry")
    node.clock_shift_s = -3600.0
    pacs.start()
    node.delivered()
    node.assert_once(pacs)
    node.assert_nothing_lost()
