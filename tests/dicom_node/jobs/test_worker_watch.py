"""The watch over the workers: who is there, and which queue waits for one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import header

from dicom_node.errors import BrokerError
from dicom_node.jobs.known_workers import ALIVE_S, FILE_NAME, UNSERVED_S, UnservedQueue, Workers
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.queue_depths import queue_depths
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import why
from dicom_node.jobs.worker_watch import WorkerWatch

FLAIR = LiveWorker("gpu1:7", "0.2.0", JobMessage.VERSION, ("flair",), "cuda:0")
NEWER = LiveWorker("gpu2:8", "0.9.0", JobMessage.VERSION + 1, ("flair",), "cpu")


class Site:
    """A watch whose broker, workers and clock are the test's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(root / "state.sqlite")
        self.found: list[LiveWorker] | None = []
        self.now = time.time() + 1.0
        self.told: list[str] = []
        self.watch = self.another_watch()

    def another_watch(self) -> WorkerWatch:
        return WorkerWatch(
            self,
            self.store,
            self.root,
            on_unserved=lambda one: self.told.append(f"no {one.queue} worker for {one.jobs}"),
            on_served=lambda one: self.told.append(f"{one.queue} worker back"),
            clock=lambda: self.now,
        )

    def workers(self) -> list[LiveWorker]:
        if self.found is None:
            raise BrokerError("the broker is silent")
        return self.found

    def close(self) -> None:
        self.store.close()

    def job(self, number: int = 1, state: JobState = JobState.QUEUED) -> str:
        series, job_id = f"1.2.{number}", f"{number:032x}"
        self.store.add_image(header(1, series=series), f"series/{number}/a.dcm", "SCANNER", time.time())
        self.store.create_job(
            job_id=job_id, series_uid=series, pipeline="flair", rule="", state=state, settings={}, images=[]
        )
        return job_id

    def after(self, seconds: float) -> Workers:
        self.now += seconds
        return self.watch.look()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.close()


def test_queue_without_a_worker_is_told_once_when_it_begins_and_once_when_it_ends(site: Site) -> None:
    site.job()
    site.watch.look()
    assert (list(site.watch.troubles()), site.told) == ([], [])
    site.after(UNSERVED_S - 1)
    assert (list(site.watch.troubles()), site.told) == ([], [])
    site.job(2)
    site.after(2)
    site.after(100)
    assert site.told == ["no flair worker for 2"]
    assert list(site.watch.troubles()) == [
        "2 jobs wait for a flair worker and none answers: start one, dicom-node worker --queues flair"
    ]
    site.found = [FLAIR]
    site.after(1)
    assert (list(site.watch.troubles()), site.told) == ([], ["no flair worker for 2", "flair worker back"])


def test_time_without_a_worker_begins_with_its_last_sign_of_life(site: Site) -> None:
    site.job()
    site.found = [FLAIR]
    site.watch.look()
    seen_at = site.now
    site.found = []
    assert site.after(ALIVE_S - 1).unserved == ()
    assert site.after(2).unserved == (UnservedQueue("flair", 1, seen_at),)
    assert site.told == []
    site.after(UNSERVED_S)
    assert site.told == ["no flair worker for 1"]


def test_queue_that_is_empty_waits_for_nobody(site: Site) -> None:
    site.watch.look()
    assert site.after(1000).unserved == ()
    job_id = site.job()
    site.store.move_job(job_id, JobState.HELD)
    assert site.after(1000).unserved == ()


def test_worker_that_cannot_read_the_messages_serves_no_queue(site: Site) -> None:
    site.job()
    site.found = [NEWER]
    site.watch.look()
    site.after(UNSERVED_S + 1)
    assert site.told == ["no flair worker for 1"]


def test_worker_that_never_answers_serves_its_queue_while_it_has_a_run_in_hand(site: Site) -> None:
    site.store.move_job(site.job(), JobState.RUNNING)
    site.job(2)
    site.watch.look()
    assert site.after(1000).unserved == ()


def test_nobody_is_missed_while_the_broker_is_silent_nor_right_after(site: Site) -> None:
    site.job()
    site.watch.look()
    site.found = None
    known = site.after(1000)
    assert (known.unserved, known.broker_error) == ((), "the broker is silent")
    since = known.broker_since
    assert site.after(10).broker_since == since == site.now - 10
    site.found = []
    known = site.after(1)
    assert (known.broker_error, known.unserved) == ("", (UnservedQueue("flair", 1, site.now),))
    assert list(site.watch.troubles()) == []


def test_waiting_is_counted_from_the_last_way_into_the_queue(site: Site) -> None:
    job_id = site.job()
    first = queue_depths(site.store)[0].oldest_at
    site.store.move_job(job_id, JobState.HELD)
    assert queue_depths(site.store) == []
    site.store.move_job(job_id, JobState.QUEUED)
    site.store.move_job(job_id, JobState.QUEUED, "another run")
    (depth,) = queue_depths(site.store)
    assert (depth.queued, depth.running) == (1, 0)
    assert depth.oldest_at == site.store.history(job_id)[-2].at > first


def test_worker_that_is_gone_stays_named_until_another_takes_its_place(site: Site) -> None:
    site.found = [FLAIR]
    site.watch.look()
    site.found = []
    (gone,) = site.after(ALIVE_S + 1).seen
    assert (gone.worker, gone.host, gone.is_alive(site.now)) == (FLAIR, "gpu1", False)
    again = LiveWorker("gpu1:99", "0.2.0", JobMessage.VERSION, ("flair",), "cuda:0")
    site.found = [again]
    assert [one.worker for one in site.after(1).seen] == [again]
    site.found = []
    assert site.after(90_000).seen == ()


def test_what_is_known_outlives_the_node(site: Site) -> None:
    site.found = [FLAIR]
    known = site.watch.look()
    assert Workers.read(site.root) == known
    assert (site.root / FILE_NAME).stat().st_mode & 0o777 == 0o600
    site.found = []
    site.now += 60
    (seen,) = site.another_watch().look().seen
    assert seen.last_at == site.now - 60


@pytest.mark.parametrize("content", ["", "{", "[]", '{"looked_at": null}', '{"seen": [{}]}'])
def test_file_that_is_damaged_tells_of_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert Workers.read(tmp_path) == Workers()


def test_why_says_that_a_queued_job_waits_for_a_worker_and_how_to_start_one(site: Site) -> None:
    job_id = site.job()
    (site.root / "worklog.jsonl").touch()
    site.watch.look()
    text = "\n".join(line for line, _ in why(site.root, job_id[-8:].rjust(32, "0")))
    assert "no flair worker answers; it waits without one since " in text
    assert "dicom-node worker --queues flair" in text
