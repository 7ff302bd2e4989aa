"""What goes after its days, and what never does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig import header

from dicom_node.jobs.retention import DAY_S, Removed, Retention
from dicom_node.jobs.runs import RunFolder, last_run
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.receive.spool import Spool

NOW = 2_000_000_000.0


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

    def sweep(self, keep_days: float = 14, **options: Any) -> list[Removed]:
        return Retention(
            self.store, self.spool, keep_days, self.removed.append, clock=lambda: NOW, **options
        ).sweep()

    def is_there(self) -> bool:
        files = list(self.spool.series.glob("*/*.dcm"))
        assert (self.store.series("1.2.3") is not None) == bool(files)
        return bool(files)


@pytest.mark.parametrize(
    ("series_state", "job_state"),
    [
        (SeriesState.IGNORED, None),
        (SeriesState.ROUTED, JobState.DELIVERED),
        (SeriesState.ROUTED, JobState.NO_PIPELINE),
    ],
)
def test_series_that_is_done_with_goes_after_its_days(
    tmp_path: Path, series_state: SeriesState, job_state: JobState | None
) -> None:
    kept = Kept(tmp_path, series_state, job_state)
    assert [removed.images for removed in kept.sweep()] == [2]
    assert not kept.is_there()
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
    assert kept.sweep(destinations=False) == []
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

    def fail_twice() -> None:
        calls.append(1)
        if len(calls) == 2:
            retention._ended.set()
        raise OSError("the disk is gone")

    monkeypatch.setattr(retention, "sweep", fail_twice)
    monkeypatch.setattr("dicom_node.jobs.retention.SWEEP_S", 0.0)
    retention._work()
    assert len(calls) == 2
