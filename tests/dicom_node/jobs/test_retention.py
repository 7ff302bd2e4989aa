"""What goes after its days, and what never does."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig import header, read_here

from dicom_node.errors import SpoolError
from dicom_node.jobs.rebuild import rebuild
from dicom_node.jobs.retention import Removed, Retention
from dicom_node.jobs.retention_reasons import DAY_S, Reason, survey
from dicom_node.jobs.schema import ObjectRow
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.spool.prior_requests import PriorRequests
from dicom_node.spool.prior_searches import PriorSearch, read_search, write_search
from dicom_node.spool.promises import promise, promised_until
from dicom_node.spool.run_folder import RunFolder, last_run
from dicom_node.spool.spool import Spool

NOW = 2_000_000_000.0
PROVED = {"pacs": True}


class Kept:
    """A spool with one series of two images, and its job."""

    def __init__(self, root: Path, series_state: SeriesState, job_state: JobState | None) -> None:
        self.spool = Spool(root)
        self.store = Store(root / "state.sqlite", self.spool.jobs)
        self.removed: list[Removed] = []
        self.job_id = "a" * 32
        for number in (1, 2):
            image = header(number)
            path = self.spool.image_path(image.series_uid, image.sop_instance_uid)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"image")
            self.store.add_image(image, self.spool.relative(path), "SCANNER", NOW - 20 * DAY_S)
        self.store.move_series("1.2.3", series_state)
        if job_state is not None:
            self.store.create_job(
                job_id=self.job_id,
                series_uid="1.2.3",
                pipeline="flair",
                rule="",
                state=job_state,
                settings={},
                images=[],
            )
            self.store.update_job(self.job_id, created_at=NOW - 20 * DAY_S, ended_at=NOW - 15 * DAY_S)
            (self.spool.results / self.job_id / "delivered").mkdir(parents=True)
            (self.spool.results / self.job_id / "sr.dcm").write_bytes(b"result")

    def add_object(self, state: ObjectState, destination: str = "pacs") -> None:
        with self.store.session() as session:
            session.add(
                ObjectRow(
                    sop_instance_uid="9.9",
                    destination=destination,
                    job_id=self.job_id,
                    run=1,
                    role="sr",
                    sop_class_uid="1.2",
                    path="results/sr.dcm",
                    state=state,
                )
            )

    @property
    def folder(self) -> Path:
        return self.spool.series_folder("1.2.3")

    def reasons(self, keep_days: float = 14, destinations: Mapping[str, bool] = PROVED) -> dict[Reason, int]:
        return dict(survey(self.store, self.spool, keep_days, destinations, NOW).reasons)

    def sweep(self, keep_days: float = 14, **options: Any) -> list[Removed]:
        options = {"clock": lambda: NOW, "destinations": PROVED} | options
        return Retention(self.store, self.spool, keep_days, self.removed.append, **options).sweep()

    def is_there(self) -> bool:
        files = list(self.spool.series.glob("*/*.dcm"))
        assert (self.store.series("1.2.3") is not None) == bool(files)
        return bool(files)


@pytest.mark.parametrize(
    ("series_state", "job_state"),
    [
        (SeriesState.IGNORED, None),
        (SeriesState.PRIOR, None),
        (SeriesState.ROUTED, JobState.DELIVERED),
        (SeriesState.ROUTED, JobState.NO_PIPELINE),
    ],
)
def test_series_that_is_done_with_goes_after_its_days(
    tmp_path: Path, series_state: SeriesState, job_state: JobState | None
) -> None:
    kept = Kept(tmp_path, series_state, job_state)
    PriorRequests(kept.spool).ask("1.2.3", "1.2", "b", NOW, 60.0)
    write_search(kept.spool, PriorSearch(kept.job_id, 1))
    assert [removed.images for removed in kept.sweep()] == [2]
    assert not kept.is_there()
    assert PriorRequests(kept.spool).of("1.2.3") is None, "what comes again is an ordinary series"
    assert (read_search(kept.spool, kept.job_id) is None) == (job_state is not None)
    assert list(kept.spool.results.glob("*/*")) == []
    assert list(kept.spool.jobs.iterdir()) == []
    assert kept.store.history("1.2.3", kept.job_id) == []
    assert kept.removed[0].images == 2


def test_series_stays_until_its_job_has_ended_for_that_long(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    assert kept.sweep(keep_days=16) == []
    assert kept.is_there()


@pytest.mark.parametrize(
    "job_state", [JobState.QUEUED, JobState.HELD, JobState.DELIVERING, JobState.UNDELIVERED]
)
def test_what_is_not_delivered_never_goes(tmp_path: Path, job_state: JobState) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, job_state)
    assert kept.sweep(keep_days=1) == []
    assert kept.is_there()


@pytest.mark.parametrize(
    ("object_state", "destinations", "goes"),
    [
        (ObjectState.CONFIRMED, PROVED, True),
        (ObjectState.REFUSED, PROVED, True),
        (ObjectState.SENT, {"pacs": False}, True),
        (ObjectState.SENT, {"another": True}, True),  # its destination is no longer configured
        (ObjectState.SENT, PROVED, False),
    ],
)
def test_what_lacks_the_proof_that_is_wanted_stays(
    tmp_path: Path, object_state: ObjectState, destinations: dict[str, bool], goes: bool
) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    kept.add_object(object_state)
    reason = Reason.NONE if goes else Reason.UNPROVEN
    assert kept.reasons(destinations=destinations) == {reason: 1}
    kept.sweep(destinations=destinations)
    assert kept.is_there() is not goes


def test_series_that_was_promised_stays_until_then(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    promise(kept.folder, NOW + 1)
    promise(kept.folder, NOW - 5)  # an earlier one takes nothing back
    assert promised_until(kept.folder) == NOW + 1
    assert kept.reasons() == {Reason.PROMISED: 1}
    assert kept.sweep() == []
    assert kept.is_there()
    assert (kept.folder / "kept-until").stat().st_mode & 0o777 == 0o600
    assert len(kept.sweep(clock=lambda: NOW + 2)) == 1


def test_promise_that_can_not_be_read_keeps_the_series_and_no_other(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.IGNORED, None)
    (kept.folder / "kept-until").write_text("")
    kept.store.add_image(header(1, series="1.2.4"), "series/b/c.dcm", "SCANNER", NOW - 20 * DAY_S)
    kept.store.move_series("1.2.4", SeriesState.IGNORED)
    assert len(kept.sweep()) == 1
    assert kept.is_there()
    with pytest.raises(SpoolError, match="kept-until: can't be read"):
        promised_until(kept.folder)


def test_oldest_goes_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.IGNORED, None)
    for number, days in (("1.2.4", 18), ("1.2.5", 40)):
        kept.store.add_image(header(1, series=number), f"series/{number}.dcm", "SCANNER", NOW - days * DAY_S)
        kept.store.move_series(number, SeriesState.IGNORED)
    order = [series.id for series in kept.store.series_in(SeriesState.IGNORED)]
    by_age = [kept.store.series(uid) for uid in ("1.2.5", "1.2.3", "1.2.4")]
    assert order == [series.id for series in by_age if series]
    assert [removed.id for removed in kept.sweep()] == order


STEPS = ["rename", "mkdir", "unlink", "sync_folder", "rows", "rmtree"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("nth", [1, 2])
def test_crash_in_a_removal_leaves_all_or_nothing_to_analyse_and_the_next_sweep_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    class Crash(BaseException):
        pass

    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    calls = []

    def crash(*arguments: Any, **options: Any) -> Any:
        calls.append(step)
        if len(calls) == nth:
            raise Crash
        return real(*arguments, **options)

    owner, name = {
        "rename": (Path, "rename"),
        "mkdir": (Path, "mkdir"),
        "unlink": (Path, "unlink"),
        "sync_folder": (None, "dicom_node.jobs.retention.sync_folder"),
        "rows": (Retention, "_remove_rows"),
        "rmtree": (shutil, "rmtree"),
    }[step]
    with monkeypatch.context() as patch:
        if owner is None:
            from dicom_node.jobs.retention import sync_folder as real

            patch.setattr(name, crash)
        else:
            real = getattr(owner, name)
            patch.setattr(owner, name, crash)
        try:
            kept.sweep()
        except Crash:
            assert len(list(kept.spool.series.glob("*/*.dcm"))) in (0, 2)
        else:
            assert len(calls) < nth, "the crash did not happen"
    kept.store.close()
    found = rebuild(tmp_path / "state.sqlite", tmp_path, read_here)
    assert (found.images, found.jobs) == (0, 0)
    kept.store = Store(tmp_path / "state.sqlite", kept.spool.jobs)
    kept.sweep()
    assert not kept.is_there()
    assert kept.store.jobs_of("1.2.3") == []
    assert list(tmp_path.glob("removed/*")) == []
    assert [path.name for path in kept.spool.results.iterdir()] == [f"{kept.job_id}.was1"]


def test_series_that_can_not_be_removed_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path, SeriesState.IGNORED, None)
    kept.store.add_image(header(1, series="1.2.4"), "series/b/c.dcm", "SCANNER", NOW - 19 * DAY_S)
    kept.store.move_series("1.2.4", SeriesState.IGNORED)

    def refuse(path: Path, target: Path) -> Path:
        raise OSError(errno.EACCES, "not yours")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        assert [removed.images for removed in kept.sweep()] == [1]  # the one without a folder
    assert kept.is_there()
    assert len(kept.sweep()) == 1


def test_survey_tells_how_much_is_kept_and_why(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.UNDELIVERED)
    for number, state, days in (("1.2.4", SeriesState.HELD, 3), ("1.2.5", SeriesState.IGNORED, 2)):
        kept.store.add_image(header(1, series=number), f"series/{number}.dcm", "SCANNER", NOW - days * DAY_S)
        kept.store.move_series(number, state)
    found = survey(kept.store, kept.spool, 14, PROVED, NOW)
    assert (found.series, found.images, found.oldest_at) == (3, 4, NOW - 20 * DAY_S)
    assert found.bytes == 2 * len(b"image") + len(b"result")
    assert found.reasons == {Reason.UNDELIVERED: 1, Reason.HELD: 1, Reason.YOUNG: 1}
    assert survey(kept.store, kept.spool, 0, PROVED, NOW).reasons[Reason.YOUNG] == 1


def test_held_series_never_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.HELD, None)
    assert kept.sweep(keep_days=1) == []
    assert kept.is_there()


def test_series_that_got_an_image_since_the_list_was_made_stays(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)

    @contextmanager
    def guard() -> Iterator[None]:
        kept.store.move_series("1.2.3", SeriesState.RECEIVING, "a late image came in")
        yield

    assert kept.sweep(guard=guard()) == []
    assert kept.is_there()


def test_results_that_are_delivered_nowhere_stay(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    assert kept.sweep(destinations={}) == []
    assert kept.is_there()


def test_next_run_of_a_removed_job_is_another_one(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    kept.sweep()
    results = kept.spool.results
    assert last_run(results, kept.job_id) == 1
    assert RunFolder.claim(results, kept.job_id, 1) is None
    assert RunFolder.claim(results, kept.job_id, 2) is not None


def test_sweep_that_fails_does_not_end_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    retention = Retention(kept.store, kept.spool, 14, kept.removed.append)
    calls = []
    came_again = threading.Event()

    def fail() -> None:
        calls.append(1)
        if len(calls) == 2:
            came_again.set()
        raise OSError("the disk is gone")

    monkeypatch.setattr(retention, "sweep", fail)
    monkeypatch.setattr("dicom_node.jobs.retention.SWEEP_S", 0.0)
    retention.start()
    assert came_again.wait(10)
    retention.stop()


def test_promised_images_come_back_from_the_trash_beside_those_that_came_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    promise(kept.folder, NOW + DAY_S)
    away = tmp_path / "removed" / "x"
    away.mkdir(parents=True)
    kept.folder.rename(away / kept.folder.name)  # the node was killed before it looked for a promise
    kept.folder.mkdir()
    again = kept.spool.image_path("1.2.3", header(1).sop_instance_uid)
    again.write_bytes(b"came again")
    kept.sweep()
    assert len(list(kept.folder.glob("*.dcm"))) == 2
    assert again.read_bytes() == b"came again"
    assert promised_until(kept.folder) == NOW + DAY_S


def test_promise_in_the_trash_that_can_not_be_read_holds_up_no_removal(tmp_path: Path) -> None:
    kept = Kept(tmp_path, SeriesState.ROUTED, JobState.DELIVERED)
    folder = tmp_path / "removed" / "x" / ("b" * 32)
    folder.mkdir(parents=True)
    (folder / "kept-until").write_text("damaged")
    assert len(kept.sweep()) == 1
    assert (kept.spool.series / folder.name / "kept-until").exists()
