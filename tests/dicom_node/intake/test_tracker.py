from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from factories import mr_series

from dicom_node.errors import NotFoundError, SpoolError
from dicom_node.intake import tracker as tracker_module
from dicom_node.intake.tracker import FORGET_AFTER_S, RETRY_S, Tracker
from dicom_node.series import completeness
from dicom_node.series.completeness import Assessment
from dicom_node.series.headers import ImageHeader, read_header

GAP = "slice missing between -1.5 and 4.5 mm (1 of 12)"


class Bench:
    """A tracker whose clock stands until it is turned, and what it has told."""

    def __init__(self, incomplete: Literal["hold", "analyse"] = "hold") -> None:
        self.now = 1000.0
        self.told: list[tuple[Any, ...]] = []
        self.fail_next = 0
        self.tracker = Tracker(
            quiet_s=3.0,
            incomplete_after_s=300.0,
            incomplete=incomplete,
            on_whole=lambda uid, headers, note: self.tell("whole", len(headers), note),
            on_held=lambda uid, reason: self.tell("held", reason),
            on_not_volume=lambda uid, headers, reason: self.tell("not", len(headers), reason),
            clock=lambda: self.now,
        )

    def tell(self, *what: Any) -> None:
        if self.fail_next:
            self.fail_next -= 1
            raise SpoolError("no room")
        self.told.append(what)

    def bring(self, headers: list[ImageHeader], association: str = "a", *, end: bool = True) -> None:
        for header in headers:
            self.tracker.add(header, association)
        if end:
            self.tracker.association_ended(association)

    def after(self, seconds: float) -> list[tuple[Any, ...]]:
        """What is newly told when the clock is turned on."""
        self.now += seconds
        before = len(self.told)
        self.tracker.step()
        return self.told[before:]


@pytest.fixture
def images(tmp_path: Path) -> list[ImageHeader]:
    return [read_header(path) for path in mr_series(tmp_path)]


def without_slice_6(images: list[ImageHeader]) -> list[ImageHeader]:
    return images[:6] + images[7:]


def test_whole_series_is_told_once_after_the_quiet_time(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images)
    assert bench.tracker.step() == pytest.approx(3.0)
    assert bench.after(2.9) == []
    assert bench.after(0.1) == [("whole", 12, "")]
    assert bench.after(1000) == []


def test_open_association_keeps_a_series_waiting(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images[:11], "a")
    bench.bring(images[11:], "b", end=False)
    assert bench.after(100) == []
    assert bench.tracker.step() is None
    bench.tracker.association_ended("b")
    assert bench.after(0) == [("whole", 12, "")]


def test_associations_of_other_series_do_not_matter(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring([replace(images[0], series_uid="1.2.9", sop_instance_uid="1.2.9.1")], "other", end=False)
    bench.bring(images)
    assert bench.after(3) == [("whole", 12, "")]


def test_every_image_makes_the_quiet_time_begin_again(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images[:6], "a")
    assert bench.after(2) == []
    bench.bring(images[6:], "b")
    assert bench.after(2) == []
    assert bench.after(1) == [("whole", 12, "")]


def test_provable_series_does_not_wait(tmp_path: Path) -> None:
    enhanced = [read_header(path) for path in mr_series(tmp_path / "enhanced", enhanced=True)]
    counted = [
        read_header(path) for path in mr_series(tmp_path / "classic", images_in_acquisition=True, seed="2")
    ]
    bench = Bench()
    bench.bring(enhanced, "a")
    assert bench.after(0) == [("whole", 1, "")]
    bench.bring(counted[:11], "b")
    assert bench.after(0) == []
    bench.bring(counted[11:], "c")
    assert bench.after(0) == [("whole", 12, "")]


def test_provable_series_does_not_wait_for_the_end_of_its_association(tmp_path: Path) -> None:
    enhanced = [read_header(path) for path in mr_series(tmp_path / "enhanced", enhanced=True)]
    counted = [
        read_header(path) for path in mr_series(tmp_path / "classic", images_in_acquisition=True, seed="2")
    ]
    bench = Bench()
    bench.bring(enhanced, "a", end=False)
    assert bench.after(0) == [("whole", 1, "")]
    bench.bring(counted[:11], "a", end=False)
    assert bench.after(100) == []
    bench.bring(counted[11:], "a", end=False)
    assert bench.after(0) == [("whole", 12, "")]
    bench.tracker.association_ended("a")
    assert bench.after(100) == []


def test_series_is_judged_once_whatever_the_number_of_its_associations(
    images: list[ImageHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    def assess(headers: list[ImageHeader]) -> Assessment:
        judged.append(len(headers))
        return completeness.assess(headers)

    monkeypatch.setattr(tracker_module, "assess", assess)
    bench = Bench()
    for number, image in enumerate(images):
        bench.bring([image], f"association {number}")
        assert bench.after(0) == []
    assert bench.after(3) == [("whole", 12, "")]
    assert judged == [12]


def test_missing_slice_holds_series_and_late_slice_frees_it(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(without_slice_6(images))
    assert bench.after(3) == [("held", GAP)]
    assert bench.after(10_000) == []
    bench.bring(images[6:7], "late")
    assert bench.after(3) == [("whole", 12, "")]


def test_held_series_is_told_again_only_when_its_gap_changes(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images[:4] + images[8:])
    assert bench.after(3) == [("held", "slices missing between -7.5 and 7.5 mm (4 of 12)")]
    bench.bring(images[8:9], "again")
    assert bench.after(3) == []
    bench.bring([images[4], images[5], images[7]], "late")
    assert bench.after(3) == [("held", GAP)]


def test_gap_is_analysed_after_its_time_when_so_configured(images: list[ImageHeader]) -> None:
    bench = Bench(incomplete="analyse")
    bench.bring(without_slice_6(images))
    assert bench.after(3) == [("held", GAP)]
    assert bench.tracker.step() == pytest.approx(297.0)
    assert bench.after(296) == []
    assert bench.after(1) == [("whole", 11, f"analysed with a gap: {GAP}")]
    assert bench.after(400) == []


def test_late_image_of_a_routed_series_makes_a_revision(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images[:11])
    assert bench.after(3) == [("whole", 11, "")]
    bench.bring(images[11:], "late")
    assert bench.after(3) == [("whole", 12, "")]


def test_same_image_again_tells_nothing(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images)
    bench.after(3)
    bench.bring(images, "again")
    assert bench.after(10) == []


def test_not_a_volume_is_told_after_the_quiet_time(images: list[ImageHeader]) -> None:
    bench = Bench(incomplete="analyse")
    bench.bring(images[:3])
    assert bench.after(2) == []
    assert bench.after(1) == [("not", 3, "only 3 slices, at least 5 are needed")]
    assert bench.after(1000) == []


def test_person_releases_a_held_series(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(without_slice_6(images))
    bench.after(3)
    bench.tracker.release(images[0].series_uid)
    assert bench.after(0) == [("whole", 11, f"analysed as it is, released by a person: {GAP}")]
    assert bench.after(10) == []


def test_releasing_an_unknown_series_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        Bench().tracker.release("1.2.3")


def test_restored_receiving_series_gets_its_verdict_after_a_quiet_time(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.tracker.restore(images[0].series_uid, images)
    assert bench.after(2.9) == []
    assert bench.after(0.1) == [("whole", 12, "")]


def test_restored_held_series_is_not_told_again(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.tracker.restore(images[0].series_uid, without_slice_6(images), is_held=True)
    assert bench.after(10) == []
    bench.bring(images[6:7], "late")
    assert bench.after(3) == [("whole", 12, "")]


def test_image_that_was_filed_before_does_not_make_its_series_known_again(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images)
    assert bench.after(3) == [("whole", 12, "")]
    bench.tracker.add(images[0], None, is_new=False)
    assert bench.after(FORGET_AFTER_S) == []
    bench.tracker.add(images[0], None, is_new=False)
    assert bench.after(FORGET_AFTER_S) == []


def test_restoring_a_known_series_keeps_its_open_associations(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images, "a", end=False)
    bench.tracker.restore(images[0].series_uid, images)
    assert bench.after(10) == []
    bench.tracker.association_ended("a")
    assert bench.after(3) == [("whole", 12, "")]


def test_judging_again_tells_again(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images)
    bench.after(3)
    bench.tracker.restore(images[0].series_uid, images)
    assert bench.after(3) == [("whole", 12, "")]


def test_image_filed_after_its_association_ended_does_not_wait_for_ever(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.tracker.association_ended("a")
    bench.bring(images, "a", end=False)
    assert bench.after(3) == [("whole", 12, "")]


@pytest.mark.parametrize("kind", ["whole", "held", "gap", "not"])
def test_verdict_that_was_not_taken_comes_again(
    images: list[ImageHeader], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bench = Bench(incomplete="analyse")
    brought = {"whole": images, "not": images[:3]}.get(kind, without_slice_6(images))
    bench.bring(brought)
    if kind == "gap":
        bench.after(3)
    bench.fail_next = 1
    assert bench.after(300 if kind == "gap" else 3) == []
    assert bench.tracker.step() == pytest.approx(RETRY_S)
    expected = {
        "whole": ("whole", 12, ""),
        "held": ("held", GAP),
        "gap": ("whole", 11, f"analysed with a gap: {GAP}"),
        "not": ("not", 3, "only 3 slices, at least 5 are needed"),
    }[kind]
    assert bench.after(RETRY_S) == [expected]


def test_settled_series_is_forgotten(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images)
    bench.after(3)
    bench.after(FORGET_AFTER_S)
    with pytest.raises(NotFoundError):
        bench.tracker.release(images[0].series_uid)


def test_thread_tells_and_stops(images: list[ImageHeader]) -> None:
    told = threading.Event()
    tracker = Tracker(
        quiet_s=0.05,
        incomplete_after_s=300.0,
        incomplete="hold",
        on_whole=lambda uid, headers, note: told.set(),
        on_held=lambda uid, reason: None,
        on_not_volume=lambda uid, headers, reason: None,
    )
    tracker.start()
    try:
        for image in images:
            tracker.add(image, "a")
        tracker.association_ended("a")
        assert told.wait(10)
    finally:
        tracker.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "series-tracker"]


def test_series_that_cannot_be_judged_holds_up_no_other(
    images: list[ImageHeader], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    judge = tracker_module.assess

    def stumble(headers: list[ImageHeader]) -> Any:
        if headers[0].series_uid == "1.2.9":
            raise ZeroDivisionError
        return judge(headers)

    monkeypatch.setattr(tracker_module, "assess", stumble)
    bench.bring([replace(images[0], series_uid="1.2.9", sop_instance_uid="1.2.9.1")])
    bench.bring(images)
    told = bench.after(3)
    assert ("whole", 12, "") in told
    assert ("not", 1, "its headers can't be judged (ZeroDivisionError)") in told


def test_corrected_copies_bring_a_new_verdict_on_the_same_images(images: list[ImageHeader]) -> None:
    bench = Bench()
    bench.bring(images)
    assert bench.after(4.0) == [("whole", 12, "")]
    moved = [replace(header, study_uid="1.2.999") for header in images]
    for header in moved[:6]:
        bench.tracker.correct(header, "b")
    assert bench.after(4.0) == [], "its association is open"
    bench.tracker.association_ended("b")
    assert bench.after(0.0) == [("not", 12, "images of more than one study in one series")]
    for header in moved[6:]:
        bench.tracker.correct(header, None)
    assert bench.after(4.0) == [("whole", 12, "")]
