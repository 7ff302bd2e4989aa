"""The worker process itself: a real broker, a real Celery worker, and jobs that hang, crash and come twice."""

from __future__ import annotations

import base64
import json
import pickle
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from rig import PIPELINE, JobsRig, WorkerProcess, dispatcher, message_of

from dicom_node import __version__
from dicom_node.errors import ConfigError
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.dispatch import TASK, connect
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.states import JobState
from dicom_node.jobs.worker_watch import WorkerWatch
from dicom_node.node.embedded_broker import EmbeddedBroker
from dicom_node.spool.run_folder import read_events
from worker.app import others_wait, run_worker

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    server = EmbeddedBroker(tmp_path_factory.mktemp("b"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def rig(tmp_path: Path, broker: EmbeddedBroker) -> Iterator[JobsRig]:
    queues = dispatcher(broker.url)
    queues._client.flushall()
    rig = JobsRig(tmp_path, queues, lease_s=5.0)
    yield rig
    rig.store.close()
    queues.close()


@pytest.fixture
def worker(rig: JobsRig, broker: EmbeddedBroker) -> Iterator[WorkerProcess]:
    process = WorkerProcess(broker.url, rig.spool.root)
    yield process
    process.stop()


def test_job_runs_once_and_tells_its_stages(rig: JobsRig, worker: WorkerProcess) -> None:
    job_id = rig.job()
    assert rig.finished(job_id).status == "none"
    assert rig.heard.lines == ["queued 1", "running 1", "stage read", "finished 1 none"]
    assert rig.folders(job_id) == [""]
    assert {path.name for path in (rig.results / job_id).iterdir()} == {"events.jsonl", "manifest.json"}
    assert [path.stat().st_mode & 0o077 for path in (rig.results / job_id).iterdir()] == [0, 0]


def test_comparison_waits_behind_every_fresh_study(rig: JobsRig, broker: EmbeddedBroker) -> None:
    changes = [rig.job(f"1.2.{number}", pipeline=CHANGE) for number in (3, 4)]
    fresh = rig.job("1.2.5")
    rig.reconciler.step()
    names = {f"{job_id}.run1" for job_id in changes}
    assert rig.queues.places(CHANGE) == dict.fromkeys(names, "queue")
    rig.queues.forget(changes[1], CHANGE)
    assert rig.queues.places(CHANGE).keys() == {f"{changes[0]}.run1"}
    assert others_wait(broker.url, [PIPELINE, CHANGE]) and not others_wait(broker.url, [CHANGE])
    worker = WorkerProcess(broker.url, rig.spool.root)
    try:
        assert rig.finished(changes[0]).reason == "the message names no prior"
    finally:
        worker.stop()
    begun = {job_id: read_events(rig.results / job_id, 0)[0][0]["at"] for job_id in (fresh, changes[0])}
    assert begun[fresh] < begun[changes[0]]


def test_time_limit_kills_hanging_child_and_worker_goes_on(rig: JobsRig, broker: EmbeddedBroker) -> None:
    worker = WorkerProcess(broker.url, rig.spool.root, time_limit_s=1.0)
    try:
        hanging = rig.job("1.2.3", do="hang", run=1)
        next_one = rig.job("1.2.4")
        assert rig.finished(hanging).run == 2
        assert rig.finished(next_one).run == 1
        assert "lost: over the time limit of 1 s" in rig.heard.lines
        assert worker.process.poll() is None
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("exit", "lost: the worker's process ended early"),
        ("crash", "lost: the worker's process crashed (SIGSEGV)"),
        ("raise", "lost: internal error: KeyError in worker_process.py, line "),
        ("memory", "lost: internal error: MemoryError in worker_process.py, line "),
    ],
)
def test_crash_is_told_at_once_and_the_next_run_succeeds(
    rig: JobsRig, worker: WorkerProcess, do: str, reason: str
) -> None:
    job_id = rig.job(do=do, run=1)
    assert rig.finished(job_id).run == 2
    assert [line for line in rig.heard.lines if line.startswith(reason)], rig.heard.lines
    assert rig.folders(job_id) == [""]
    assert "NAME^OF^PATIENT" not in worker.log.read_text()


def test_third_crash_fails_the_job(rig: JobsRig, worker: WorkerProcess) -> None:
    job_id = rig.job(do="exit")
    found = rig.finished(job_id)
    assert (found.status, found.run) == ("failed", 4)
    assert [line.split(":")[0] for line in rig.heard.lines if "process" in line] == ["lost", "lost", "failed"]
    assert rig.folders(job_id) == [""]


def test_killed_worker_is_followed_by_the_next_run(
    rig: JobsRig, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job_id = rig.job(until=str(gate))
    first = WorkerProcess(broker.url, rig.spool.root)
    rig.until(lambda: "stage read" in rig.heard.lines)
    first.kill()
    second = WorkerProcess(broker.url, rig.spool.root)
    try:
        rig.until(lambda: "running 2" in rig.heard.lines)
        gate.touch()
        assert rig.finished(job_id).run == 2
        assert rig.folders(job_id) == [""]
        assert rig.queues.places(PIPELINE) == {} or rig.queues.places(PIPELINE) == {f"{job_id}.run2": "taken"}
    finally:
        second.stop()


def test_message_that_comes_twice_gives_one_run(rig: JobsRig, worker: WorkerProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = rig.job(until=str(gate))
    rig.until(lambda: "stage read" in rig.heard.lines)
    job = rig.store.job(job_id)
    assert job is not None
    rig.queues.enqueue(job, message_of(job))
    gate.touch()
    rig.finished(job_id)
    after = rig.job("1.2.4")  # in the same queue, behind the second message
    rig.finished(after)
    assert rig.heard.lines.count("running 1") == 2
    assert rig.heard.lines.count("finished 1 none") == 2
    assert rig.folders(job_id) == [""]


def test_emptied_broker_is_told_again(rig: JobsRig, broker: EmbeddedBroker) -> None:
    job_id = rig.job()
    rig.until(lambda: "queued 1" in rig.heard.lines)
    rig.queues._client.flushall()
    assert rig.queues.places(PIPELINE) == {}
    worker = WorkerProcess(broker.url, rig.spool.root)
    try:
        assert rig.finished(job_id).run == 1
    finally:
        worker.stop()


def test_killed_broker_is_told_again_and_the_job_at_work_ends(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.start()
    queues = dispatcher(broker.url)
    rig = JobsRig(tmp_path / "data", queues, lease_s=30.0)
    worker = WorkerProcess(broker.url, rig.spool.root)
    try:
        gate = tmp_path / "gate"
        at_work = rig.job("1.2.3", until=str(gate))
        rig.until(lambda: "stage read" in rig.heard.lines)
        waiting = rig.job("1.2.4")
        rig.until(lambda: rig.heard.lines.count("queued 1") == 2)
        assert broker._process is not None
        broker._process.kill()
        broker._process.wait()
        lost = rig.job("1.2.5")
        rig.until(lambda: "broker lost" in rig.heard.lines)
        broker.start()
        gate.touch()
        assert [rig.finished(job_id).run for job_id in (at_work, waiting, lost)] == [1, 1, 1]
        assert "broker back" in rig.heard.lines
        rig.until(lambda: len(queues.workers()) == 1)
    finally:
        worker.stop()
        rig.store.close()
        queues.close()
        broker.stop()


def test_worker_of_another_version_leaves_the_job_to_the_next_one(
    tmp_path: Path, broker: EmbeddedBroker
) -> None:
    queues = dispatcher(broker.url)
    queues._client.flushall()
    rig = JobsRig(tmp_path, queues, lease_s=1.0)
    newer = WorkerProcess(broker.url, rig.spool.root, reads=2)
    try:
        job_id = rig.job()
        rig.until(lambda: len(rig.heard.lines) > 1)
        queued, told = rig.heard.lines
        assert queued == "queued 1"
        assert told.startswith(
            f"worker {socket.gethostname()}:{newer.process.pid} is of version {__version__} and reads"
        )
        assert told.endswith("update the node; jobs wait until then")
        rig.until(lambda: [found.conflict for found in queues.workers()] == [told])
        newer.stop()
        ours = WorkerProcess(broker.url, rig.spool.root)
        try:
            assert rig.finished(job_id).run == 1
            assert rig.heard.lines == ["queued 1", told, "running 1", "stage read", "finished 1 none"]
        finally:
            ours.stop()
    finally:
        newer.stop()
        rig.store.close()
        queues.close()


def test_worker_at_work_says_what_it_is_and_obeys_nobody_who_reaches_the_broker(
    rig: JobsRig, worker: WorkerProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    at_work = rig.job("1.2.3", until=str(gate))
    rig.until(lambda: "stage read" in rig.heard.lines)
    itself = LiveWorker(
        f"{socket.gethostname()}:{worker.process.pid}",
        __version__,
        1,
        (PIPELINE, CHANGE),
        "auto",
    )
    rig.until(lambda: rig.queues.workers() == [itself])
    watch = WorkerWatch(
        rig.queues, rig.store, tmp_path, on_unserved=rig.heard.lines.append, on_served=rig.heard.lines.append
    )
    rig.until(lambda: [seen.worker for seen in watch.look().alive(time.time(), PIPELINE)] == [itself])
    rig.queues._celery().control.broadcast("shutdown")
    rig.until(lambda: rig.queues.workers() == [itself])
    gate.touch()
    assert [rig.finished(job_id).run for job_id in (at_work, rig.job("1.2.4"))] == [1, 1]


def test_model_stays_warm_in_one_child(rig: JobsRig, worker: WorkerProcess) -> None:
    figures = [rig.finished(rig.job(series)).figures for series in ("1.2.3", "1.2.4")]
    assert figures[0] == figures[1]
    assert figures[0]["parent"] == worker.process.pid


def test_quit_gives_the_job_up_and_says_so(rig: JobsRig, worker: WorkerProcess, tmp_path: Path) -> None:
    job_id = rig.job(until=str(tmp_path / "never"), run=1)
    rig.until(lambda: "stage read" in rig.heard.lines)
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(30)
    rig.until(lambda: any(line.startswith("lost") for line in rig.heard.lines))
    assert rig.heard.lines[-2:] == ["lost: the worker was stopped", "queued 2"]
    assert rig.state(job_id) == JobState.QUEUED


def test_terminated_worker_ends_its_job_first(rig: JobsRig, worker: WorkerProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = rig.job(until=str(gate))
    rig.until(lambda: "stage read" in rig.heard.lines)
    worker.process.terminate()
    gate.touch()
    assert worker.stop() == 0
    assert rig.finished(job_id).run == 1


def test_child_dies_with_its_parent(rig: JobsRig, worker: WorkerProcess) -> None:
    child = psutil.Process(rig.finished(rig.job()).figures["process"])
    worker.kill()
    ended, alive = psutil.wait_procs([child], timeout=10)
    assert ended or alive[0].status() == psutil.STATUS_ZOMBIE  # where no init collects it


def test_worker_without_spool_or_pipeline_refuses_to_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a node's data folder"):
        run_worker(broker_url="redis://127.0.0.1:1", spool=tmp_path, registry=_Nothing())
    (tmp_path / "results").mkdir()
    with pytest.raises(ConfigError, match="no pipeline flair is installed"):
        run_worker(broker_url="redis://127.0.0.1:1", spool=tmp_path, registry=_Nothing(), queues=["flair"])


class _Nothing:
    def installed(self) -> dict[str, object]:
        return {}


def test_pickled_message_is_refused_and_the_worker_goes_on(
    rig: JobsRig, worker: WorkerProcess, broker: EmbeddedBroker, tmp_path: Path
) -> None:
    """Whoever can write to the broker must not be able to run code."""
    trace = tmp_path / "code was run"
    rig.finished(rig.job("1.2.3"))  # the worker is up
    body = pickle.dumps(((), {"message": Trap(trace)}, {}))
    with connect(broker.url) as client:
        client.lpush(
            PIPELINE,
            json.dumps(
                {
                    "body": base64.b64encode(body).decode(),
                    "content-encoding": "binary",
                    "content-type": "application/x-python-serialize",
                    "headers": {"task": TASK, "id": "f" * 32 + ".run1", "lang": "py", "argsrepr": "()"},
                    "properties": {
                        "body_encoding": "base64",
                        "correlation_id": "f" * 32,
                        "delivery_info": {"exchange": "", "routing_key": PIPELINE},
                        "delivery_tag": "f" * 32,
                    },
                }
            ),
        )
    assert rig.finished(rig.job("1.2.4")).status == "none"
    assert "ContentDisallowed" in worker.log.read_text()
    assert not trace.exists()
    assert rig.queues.places(PIPELINE) == {}
    pickle.loads(body)
    assert trace.exists(), "the trap would have worked"


class Trap:
    """Runs code where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)
