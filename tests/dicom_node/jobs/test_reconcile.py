"""The reconciler against files alone: a broker that forgets, workers that die, nodes that restart."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig import JobsRig, manifest

from dicom_node.errors import BrokerError, StateError
from dicom_node.jobs import reconcile
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.reconcile import ACTIVE_S, FREE_STOPS, IDLE_S, TROUBLE_S
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.spool import run_folder
from dicom_node.spool.run_folder import RunFolder

LEASE_S = 30.0
WAIT_S = 30.0


class Queues:
    """A broker in memory."""

    def __init__(self) -> None:
        self.places_of: dict[str, str] = {}
        self.incarnation = "first"
        self.down = False
        self.sent: list[str] = []

    def _answer(self) -> None:
        if self.down:
            raise BrokerError("no broker")

    def enqueue(self, job: JobRow, message: JobMessage) -> None:
        self._answer()
        assert (message.job_id, message.run) == (job.id, job.run)
        self.sent.append(f"run{job.run}")
        self.places_of[f"{job.id}.run{job.run}"] = "queue"

    def ping(self) -> str:
        self._answer()
        return self.incarnation

    def places(self, queue: str) -> dict[str, str]:
        self._answer()
        return dict(self.places_of)

    def forget(self, job_id: str, queue: str) -> None:
        self._answer()
        self.places_of = {
            name: place for name, place in self.places_of.items() if not name.startswith(job_id)
        }

    def take(self) -> None:
        self.places_of = dict.fromkeys(self.places_of, "taken")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A rig with a clock to turn, and one job in it."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.queues = Queues()
        self.rig = JobsRig(root, self.queues, lease_s=LEASE_S, time_limit_s=900.0, clock=self.clock)
        self.job_id = self.rig.job()
        self.results = self.rig.results
        self.heard = self.rig.heard.lines

    @property
    def job(self) -> JobRow:
        job = self.rig.store.job(self.job_id)
        assert job is not None
        return job

    def step(self, after_s: float = 0.0) -> float:
        self.clock.now += after_s
        return self.rig.reconciler.step()

    def work(self, run: int = 1) -> RunFolder:
        """Begin a run as a worker does."""
        folder = RunFolder.claim(self.results, self.job_id, run)
        assert folder is not None
        folder.event(run_folder.STARTED, worker="host:1")
        return folder

    def publish(self, folder: RunFolder, run: int = 1) -> None:
        manifest(self.job_id, run).write(folder.path)
        assert folder.publish()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.rig.store.close()


def test_new_job_is_sent_and_its_run_followed_to_the_end(bench: Bench) -> None:
    assert bench.step() == ACTIVE_S
    assert bench.heard == ["queued 1"]
    folder = bench.work()
    bench.step()
    assert bench.job.state == JobState.RUNNING
    folder.event(run_folder.STAGE, stage="network", seconds=1.5)
    bench.step()
    bench.step()
    folder.event(run_folder.STAGE, stage="objects", seconds=0.5)
    bench.publish(folder)
    assert bench.step() == ACTIVE_S
    assert bench.heard == ["queued 1", "running 1", "stage network", "stage objects", "finished 1 none"]
    assert (bench.job.state, bench.job.outcome) == ("delivering", "none")
    assert bench.step() == IDLE_S
    assert bench.queues.sent == ["run1"]


def test_restarted_node_repeats_nothing(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    bench.step()
    bench.rig.reconciler = bench.rig.another_reconciler()
    folder.event(run_folder.STAGE, stage="network", seconds=1.5)
    bench.step()
    assert bench.heard == ["queued 1", "running 1", "stage network"]
    assert bench.queues.sent == ["run1"]


def test_job_that_ended_while_the_node_was_down_is_finished(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    bench.publish(folder)
    bench.rig.reconciler = bench.rig.another_reconciler()
    bench.step()
    assert bench.heard == ["queued 1", "running 1", "finished 1 none"]


def test_lease_that_is_touched_keeps_a_run_alive(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    for second in range(10):
        os.utime(folder.path / run_folder.LEASE, (second, second))  # a host whose clock is wrong
        bench.step(LEASE_S - 1)
    assert (bench.job.state, bench.job.run) == ("running", 1)


def test_silent_run_is_followed_by_the_next(bench: Bench) -> None:
    bench.step()
    bench.work()
    bench.queues.take()
    bench.step()
    bench.step(LEASE_S - 1)
    assert bench.job.run == 1
    bench.step(2)
    assert bench.heard[-2:] == ["lost: no sign of life from the worker for 30 s", "queued 2"]
    assert (bench.job.state, bench.job.run, bench.job.attempts) == ("queued", 2, 2)
    assert bench.queues.places_of == {f"{bench.job_id}.run2": "queue"}


def test_run_over_its_limit_is_given_up_though_its_lease_is_touched(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    for second in range(100):
        os.utime(folder.path / run_folder.LEASE, (second, second))
        bench.step(10)
        if bench.job.run == 2:
            break
    assert "lost: over the time limit of 900 s" in bench.heard
    assert 90 < second < 99


def test_noted_death_is_acted_upon_at_once(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    run_folder.note_death(folder.path, run_folder.LOST, "crashed")
    bench.step()
    assert bench.heard == ["queued 1", "running 1", "lost: crashed", "queued 2"]


def test_job_fails_after_its_last_attempt(bench: Bench) -> None:
    bench.step()
    for run in (1, 2, 3):
        run_folder.note_death(bench.work(run).path, run_folder.LOST, "crashed")
        bench.step()
    assert bench.heard[-2:] == ["failed: crashed", "finished 4 failed"]
    assert (bench.job.state, bench.job.outcome, bench.job.run) == ("delivering", "failed", 4)
    assert bench.rig.folders(bench.job_id) == [""]


def test_failure_that_cannot_be_published_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.step()
    bench.rig.store.update_job(bench.job_id, attempts=3)
    run_folder.note_death(bench.work().path, run_folder.LOST, "crashed")
    publish = bench.rig.heard.job_failed

    def refuse(job: JobRow, reason: str) -> None:
        raise StateError("no space")

    monkeypatch.setattr(bench.rig.heard, "job_failed", refuse)
    bench.step()
    bench.step(60)
    assert bench.job.state == JobState.RUNNING
    monkeypatch.setattr(bench.rig.heard, "job_failed", publish)
    bench.step(60)
    assert bench.heard[-2:] == ["failed: crashed", "finished 2 failed"]


def test_late_result_of_a_run_that_was_given_up_counts(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    bench.step()
    bench.step(LEASE_S + 1)
    assert bench.job.run == 2
    bench.publish(folder)
    bench.step()
    assert bench.heard[-1] == "finished 1 none"
    assert (bench.job.state, bench.job.run) == ("delivering", 2)


def test_message_in_the_queue_is_left_alone_however_long(bench: Bench) -> None:
    bench.step()
    for _ in range(20):
        bench.step(LEASE_S)
    assert bench.queues.sent == ["run1"]


@pytest.mark.parametrize("loss", ["gone", "taken"])
def test_message_that_is_gone_or_taken_for_nothing_is_sent_again(bench: Bench, loss: str) -> None:
    bench.step()
    if loss == "gone":
        bench.queues.places_of.clear()
    else:
        bench.queues.take()
    bench.step(LEASE_S - 1)
    assert bench.queues.sent == ["run1"]
    bench.step(LEASE_S)
    assert bench.queues.sent == ["run1", "run1"]
    assert (bench.job.run, bench.job.attempts) == (1, 1)


def test_broker_started_anew_is_told_at_once(bench: Bench) -> None:
    bench.step()
    bench.queues.places_of.clear()
    bench.queues.incarnation = "second"
    bench.step(11)
    assert bench.queues.sent == ["run1", "run1"]


def test_lost_broker_is_told_once_and_nothing_is_lost_by_it(bench: Bench) -> None:
    bench.queues.down = True
    for _ in range(10):
        assert bench.step(5) == ACTIVE_S
    assert bench.heard == ["broker lost"]
    bench.queues.down = False
    bench.step(31)
    assert bench.heard == ["broker lost", "broker back", "queued 1"]


def test_job_is_analysed_again_as_a_new_run(bench: Bench) -> None:
    bench.step()
    bench.publish(bench.work())
    bench.step()
    bench.rig.store.move_job(bench.job_id, JobState.DELIVERED)
    job = bench.rig.reconciler.again(bench.job_id, "asked for by a person")
    assert (job.state, job.run, job.attempts, job.outcome) == ("queued", 2, 1, "")
    bench.step()
    bench.publish(bench.work(2), 2)
    bench.step()
    assert bench.heard[-3:] == ["queued 2", "running 2", "finished 2 none"]
    assert bench.rig.folders(bench.job_id) == ["", ".was1"]


def test_running_job_is_not_analysed_again(bench: Bench) -> None:
    bench.step()
    bench.work()
    with pytest.raises(StateError, match="is queued already"):
        bench.rig.reconciler.again(bench.job_id, "")
    bench.step()
    with pytest.raises(StateError, match="is running already"):
        bench.rig.reconciler.again(bench.job_id, "")
    assert bench.job.run == 1


def test_held_job_is_taken_back_from_the_broker(bench: Bench) -> None:
    bench.step()
    bench.rig.reconciler.withdraw(bench.job_id, JobState.HELD, "by a person")
    bench.step()
    assert bench.queues.places_of == {}
    bench.step(100)
    assert bench.queues.sent == ["run1"]
    bench.rig.store.move_job(bench.job_id, JobState.QUEUED, "released")
    bench.step(100)
    assert bench.queues.sent == ["run1", "run1"]


class Slow:
    """Something that takes as long as the test wants."""

    def __init__(self, then: Callable[..., Any]) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._then = then

    def __call__(self, *arguments: Any) -> Any:
        self.begun.set()
        assert self.may_end.wait(WAIT_S)
        return self._then(*arguments)


@contextmanager
def step_that_takes_long(bench: Bench, slow: Slow) -> Iterator[None]:
    step = threading.Thread(target=bench.step)
    step.start()
    assert slow.begun.wait(WAIT_S)
    try:
        yield
    finally:
        slow.may_end.set()
        step.join(WAIT_S)
    assert not step.is_alive()


def withdraw_meanwhile(bench: Bench) -> bool:
    """Withdraw the job from another thread, and tell whether that waited for nothing."""
    steering = (bench.job_id, JobState.HELD, "by a person")
    thread = threading.Thread(target=bench.rig.reconciler.withdraw, args=steering, daemon=True)
    thread.start()
    thread.join(3.0)
    return not thread.is_alive()


def test_withdrawing_a_job_waits_for_no_broker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(bench.queues.ping)
    monkeypatch.setattr(bench.queues, "ping", slow)
    with step_that_takes_long(bench, slow):
        assert withdraw_meanwhile(bench)
        assert bench.job.state == JobState.HELD
    bench.step()
    assert bench.queues.places_of == {}, "it was sent meanwhile, and is taken back"


def test_withdrawing_a_job_waits_for_no_report(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.rig.reconciler = bench.rig.another_reconciler(max_runs=1)
    bench.step()
    run_folder.note_death(bench.work().path, run_folder.LOST, "crashed")
    slow = Slow(bench.rig.heard.job_failed)
    monkeypatch.setattr(bench.rig.heard, "job_failed", slow)
    with step_that_takes_long(bench, slow):
        assert withdraw_meanwhile(bench)
    assert bench.job.state == JobState.HELD
    bench.rig.store.move_job(bench.job_id, JobState.QUEUED, "released", enqueued_at=0.0)
    bench.step()
    assert (bench.job.state, bench.job.outcome) == ("delivering", "failed")


def test_job_that_is_held_and_released_at_once_is_sent_again(bench: Bench) -> None:
    bench.step()
    bench.rig.reconciler.withdraw(bench.job_id, JobState.HELD, "by a person")
    bench.rig.store.move_job(bench.job_id, JobState.QUEUED, "released", enqueued_at=0.0)
    bench.step()
    assert bench.queues.places_of == {f"{bench.job_id}.run1": "queue"}


def test_messages_are_taken_back_once_the_broker_is_there_again(bench: Bench) -> None:
    bench.step()
    bench.queues.down = True
    bench.rig.reconciler.withdraw(bench.job_id, JobState.ABANDONED, "replaced")
    bench.step()
    assert bench.queues.places_of
    bench.queues.down = False
    bench.step(60.0)
    assert bench.queues.places_of == {}


def test_one_job_in_trouble_does_not_hold_up_others(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    (folder.path / run_folder.MANIFEST).write_text("no manifest")
    folder.publish()
    other = bench.rig.job("1.2.4")
    bench.step()
    assert bench.job.state == JobState.QUEUED
    assert bench.queues.places_of[f"{other}.run1"] == "queue"


@pytest.mark.parametrize("seconds", ['"long"', "null", "[]", "NaN", "1e999", "-1", "9" * 400])
def test_stage_without_a_duration_does_not_stall_its_job(bench: Bench, seconds: str) -> None:
    bench.step()
    folder = bench.work()
    with (folder.path / run_folder.EVENTS).open("a") as stream:
        stream.write(f'{{"event": "stage", "stage": "network", "seconds": {seconds}}}\n')
    folder.event(run_folder.STAGE, stage="objects", seconds=0.5)
    bench.step()
    assert bench.heard == ["queued 1", "running 1", "stage objects"]
    bench.publish(folder)
    bench.step()
    assert bench.job.state == JobState.DELIVERING


@pytest.mark.parametrize(("before", "reason"), [("[" * 100_000, "crashed"), ("{}", "\\ud800")])
def test_line_that_no_worker_writes_does_not_stall_its_job(bench: Bench, before: str, reason: str) -> None:
    bench.step()
    folder = bench.work()
    with (folder.path / run_folder.EVENTS).open("a") as stream:
        stream.write(f'{before}\n{{"event": "lost", "reason": "{reason}"}}\n')
    bench.step()
    assert bench.heard[-1] == "queued 2"
    assert (bench.job.run, bench.job.reason) == (2, reason.replace("\\ud800", "?"))


def test_only_jobs_that_a_worker_has_touched_are_looked_at_one_by_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        bench.rig.job(f"1.2.4.{number}")
    bench.step()
    bench.work()
    asked = []
    job = bench.rig.store.job
    monkeypatch.setattr(bench.rig.store, "job", lambda job_id: asked.append(job_id) or job(job_id))
    bench.step()
    assert set(asked) == {bench.job_id}
    assert len(bench.queues.sent) == 21


def test_results_folder_that_is_away_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(results: Path) -> set[str]:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patched:
        patched.setattr(reconcile, "begun", away)
        assert bench.step() == TROUBLE_S
    assert f"{bench.results}: {os.strerror(errno.ESTALE)}" in caplog.text
    bench.step()
    assert bench.queues.sent == ["run1"]


def test_thread_works_when_woken_and_stops(bench: Bench) -> None:
    bench.rig.store.move_job(bench.job_id, JobState.HELD)
    told = []
    sent = threading.Event()
    enqueue = bench.queues.enqueue

    def note(job: JobRow, message: JobMessage) -> None:
        enqueue(job, message)
        told.append(job.id)
        sent.set()

    bench.queues.enqueue = note  # type: ignore[method-assign]
    bench.rig.reconciler.start()
    bench.rig.store.move_job(bench.job_id, JobState.QUEUED)
    bench.rig.reconciler.wake()
    assert sent.wait(5)
    bench.rig.reconciler.stop()
    assert told == [bench.job_id]
    assert not [thread for thread in threading.enumerate() if thread.name == "reconciler"]


def test_late_result_is_told_with_the_run_that_the_job_has(bench: Bench) -> None:
    bench.step()
    folder = bench.work()
    bench.step()
    bench.step(after_s=LEASE_S + 1)
    assert bench.job.run == 2
    bench.publish(folder, run=1)
    bench.step()
    assert (bench.job.state, bench.job.run) == (JobState.DELIVERING, 2)


def test_listener_that_could_not_take_a_finished_job_hears_of_it_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.step()
    bench.publish(bench.work())
    told: list[str] = []

    def refuse_once(job: JobRow, finished: Any) -> None:
        told.append(job.state)
        if len(told) == 1:
            raise StateError("database is locked")

    monkeypatch.setattr(bench.rig.heard, "job_finished", refuse_once)
    bench.step()
    assert bench.job.state == JobState.DELIVERING
    bench.step(after_s=60)
    assert told == [JobState.DELIVERING, JobState.DELIVERING]
    bench.step(after_s=60)
    assert len(told) == 2


def test_job_that_is_settled_before_its_listener_could_be_told_keeps_nothing_busy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(job: JobRow, finished: Any) -> None:
        raise StateError("database is locked")

    bench.step()
    bench.publish(bench.work())
    monkeypatch.setattr(bench.rig.heard, "job_finished", refuse)
    bench.step()
    bench.rig.store.move_job(bench.job_id, JobState.DELIVERED)
    bench.step(after_s=60)
    assert bench.step() == IDLE_S


def test_old_result_is_not_taken_for_that_of_a_new_request(bench: Bench) -> None:
    bench.step()
    bench.publish(bench.work())
    bench.step()
    bench.rig.store.move_job(bench.job_id, JobState.DELIVERED)
    # the node dies in Reconciler.again, between the row and the rename
    bench.rig.store.move_job(bench.job_id, JobState.QUEUED, run=2, attempts=1, enqueued_at=0.0, events_read=0)
    bench.step()
    assert bench.job.state == JobState.QUEUED
    assert bench.rig.folders(bench.job_id) == [".was1"]
    bench.publish(bench.work(run=2), run=2)
    bench.step()
    assert (bench.job.state, bench.job.run) == (JobState.DELIVERING, 2)


def test_stopped_worker_costs_no_attempt_and_a_crash_does(bench: Bench) -> None:
    for run in range(1, 6):
        bench.step()
        run_folder.note_death(bench.work(run).path, run_folder.LOST, run_folder.STOPPED)
        bench.step()
        assert (bench.job.state, bench.job.run, bench.job.attempts) == (JobState.QUEUED, run + 1, 1)
    run_folder.note_death(bench.work(6).path, run_folder.LOST, "crashed")
    bench.step()
    assert (bench.job.run, bench.job.attempts) == (7, 2)


def test_worker_that_is_stopped_again_and_again_fails_the_job_at_last(bench: Bench) -> None:
    for run in range(1, FREE_STOPS + 3):
        bench.step()
        run_folder.note_death(bench.work(run).path, run_folder.LOST, run_folder.STOPPED)
        bench.step()
    assert (bench.job.state, bench.job.attempts) == (JobState.QUEUED, 3)
    run_folder.note_death(bench.work(FREE_STOPS + 3).path, run_folder.LOST, run_folder.STOPPED)
    bench.step()
    assert bench.job.outcome == "failed"
    assert f"failed: {run_folder.STOPPED}" in bench.heard


def test_results_without_a_manifest_are_set_aside_and_made_again(bench: Bench) -> None:
    bench.step()
    (bench.results / bench.job_id).mkdir()
    bench.step()
    assert "lost: its results were damaged, and were set aside" in bench.heard
    assert bench.rig.folders(bench.job_id) == [".was1"]
    bench.publish(bench.work(run=2), run=2)
    bench.step()
    assert bench.heard[-1] == "finished 2 none"


@pytest.mark.parametrize("state", ["queued", "running", "published", "held", "undelivered", "delivered"])
def test_results_of_a_job_that_is_recalled_are_never_told(bench: Bench, state: str) -> None:
    bench.step()
    folder = bench.work()
    if state == "queued":
        folder.discard()
    else:
        bench.step()
    if state in {"undelivered", "delivered"}:
        bench.publish(folder)
        bench.step()
        bench.rig.store.move_job(bench.job_id, JobState(state))
    if state == "held":
        bench.rig.reconciler.withdraw(bench.job_id, JobState.HELD, "by a person")
    if state == "published":
        bench.publish(folder)
    told = len(bench.heard)
    bench.rig.reconciler.recall(bench.job_id, "corrected")
    expected = {"held": "held", "delivered": "delivered"}.get(state, "abandoned")
    assert (bench.job.state, bench.job.run) == (expected, 1 if state == "delivered" else 2)
    if state in {"running", "held"}:
        bench.publish(folder)
    bench.step()
    if state == "held":
        bench.rig.store.move_job(bench.job_id, JobState.QUEUED, "released", enqueued_at=0.0)
    elif state != "delivered":
        bench.rig.reconciler.again(bench.job_id, "corrected")
    bench.step()
    assert not [line for line in bench.heard[told:] if line.startswith("finished")]
    if state != "delivered":
        run = bench.job.run
        bench.publish(bench.work(run), run)
        bench.step()
        assert bench.heard[-1] == f"finished {run} none"
