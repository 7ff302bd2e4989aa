"""The Celery worker process: its settings, and what its parent does when the child that computes is lost."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import redis
from celery import Celery, Task
from celery.exceptions import Terminated, TimeLimitExceeded
from celery.platforms import SecurityWarning
from celery.signals import worker_process_init, worker_ready
from celery.worker import state
from celery.worker.control import Panel, inspect_command
from celery.worker.request import Request
from kombu import Queue

from dicom_node.cohort.table import Cohort
from dicom_node.errors import ConfigError, NodeError
from dicom_node.jobs.comparison_job import CHANGE, FOLLOWS
from dicom_node.jobs.dispatch import BACKGROUND, TASK, VISIBILITY_TIMEOUT_S, connect
from dicom_node.jobs.live_workers import DESCRIBE, LiveWorker
from dicom_node.spool.run_folder import HEARTBEAT_S, LOST, STOPPED, TIMED_OUT, note_death, run_path
from worker.analyse import fault
from worker.listening import Listening
from worker.tasks import Registry, Workplace, take

log = logging.getLogger(__name__)

CHILD_START_S = 120.0
"""How long a new child may take to say that it lives: the pool's own 4 s kill one on a busy machine."""

ANSWERED = frozenset({DESCRIBE, "ping"})
"""Commands of Celery's remote control that a worker obeys: whoever reaches the broker must not be able to stop workers."""

PR_SET_PDEATHSIG = 1  # prctl(2)


class RunTask(Task):  # type: ignore[misc]  # celery has no types
    """The one task. Its requests live in the parent, which outlives the child that computes."""

    Request = f"{__name__}:RunRequest"
    abstract = True
    place: Workplace
    at_work: set[str]


class RunRequest(Request):  # type: ignore[misc]
    """A run, as the parent sees it: notes in the run's folder what the child can no longer say."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """The child has begun."""
        self.task.at_work.clear()  # it does one at a time, and Celery tells no subclass of a success
        self.task.at_work.add(self.id)
        super().on_accepted(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """The child is about to be killed."""
        super().on_timeout(soft, timeout)
        if not soft:
            self._note(TIMED_OUT, f"over the time limit of {timeout:g} s")

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """The task raised, or its child is gone."""
        error = exc_info.exception
        error = getattr(error, "exc", error)  # billiard's ExceptionWithTraceback
        if not isinstance(error, TimeLimitExceeded):
            reason = str(error) if isinstance(error, NodeError) else _loss(error)
            self._note(LOST, reason)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def _note(self, event: str, reason: str) -> None:
        self.task.at_work.discard(self.id)
        note_death_of(self.task.place.spool, self.id, event, reason)


def note_death_of(spool: Path, task_id: str, event: str, reason: str) -> None:
    """Write into a run's folder, if it is there, that its process has ended."""
    with contextlib.suppress(NodeError, OSError):
        note_death(run_path(spool / "results", task_id), event, reason)


def _loss(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, Terminated):
        return STOPPED
    if "signal 9" in text or "SIGKILL" in text:
        return "the worker's process was killed (out of memory?)"
    if "SIGSEGV" in text or "signal 11" in text:
        return "the worker's process crashed (SIGSEGV)"
    if type(error).__name__ == "WorkerLostError":
        return "the worker's process ended early"
    return f"internal error: {type(error).__name__}"


def make_app(broker_url: str, place: Workplace, time_limit_s: float, queues: Sequence[str]) -> Celery:
    """Return the Celery application of a worker."""
    app = Celery("dicom_node", broker=broker_url, task_cls=RunTask)
    app.conf.update(
        task_queues=[Queue(name, routing_key=name) for name in queues],
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_track_started=False,
        task_acks_late=True,
        task_time_limit=time_limit_s,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_pool="prefork",
        worker_proc_alive_timeout=CHILD_START_S,
        worker_enable_remote_control=True,  # by it a worker at work also hears at once of a lost broker
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"visibility_timeout": VISIBILITY_TIMEOUT_S},
    )

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def analyse(message: Any) -> None:
        try:
            take(message, analyse.request.id, place)
        except NodeError:
            raise
        except Exception as error:  # noqa: BLE001 - the edge of our code: beyond it lies Celery
            # It logs the text of what it gets, and that of a foreign error may tell of a patient.
            raise NodeError(fault(error)) from None

    analyse.place = place
    analyse.at_work = set()
    return app


@inspect_command(name=DESCRIBE)  # type: ignore[untyped-decorator]
def _describe(control: Any) -> dict[str, Any]:
    """Answer the node that asks for workers."""
    place = control.app.tasks[TASK].place
    queues = tuple(queue.name for queue in control.app.conf.task_queues)
    return LiveWorker.here(place.worker, queues, place.device).to_json()


def queues_of(pipelines: Iterable[str]) -> list[str]:
    """Return the queues that a worker with these pipelines can take from: theirs, and that of comparisons."""
    names = sorted(pipelines)
    return [*names, CHANGE] if FOLLOWS in names else names


def others_wait(broker_url: str, queues: Sequence[str]) -> bool:
    """Tell whether a fresh study waits in one of these queues; False where the broker does not say."""
    client = connect(broker_url)
    try:
        return any(client.llen(queue) for queue in queues if queue not in BACKGROUND)
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def run_worker(
    *,
    broker_url: str,
    spool: Path,
    device: str = "auto",
    time_limit_s: float = 900.0,
    queues: Sequence[str] | None = None,
    registry: Registry | None = None,
    heartbeat_s: float = HEARTBEAT_S,
    parent: int = 0,
    cohort: Cohort | None = None,
) -> int:
    """Work in this process until it is told to stop; return the exit status.

    SIGTERM and Ctrl-C wait for the job at work; SIGQUIT, or a second Ctrl-C, gives it up, and the node has
    it done anew.

    Parameters
    ----------
    spool : Path
        The node's data folder as it is mounted here.
    queues : sequence of str or None
        Names of pipelines to work for, and of comparisons; None: all installed, and comparisons where FLAIR is.
    registry : Registry or None
        None: :mod:`pipelines.registry`.
    parent : int
        Process ID of a node that started this worker: when it is gone, the worker stops as by SIGTERM.
    cohort : Cohort or None
        With which lesion volumes are compared.

    Raises
    ------
    ConfigError
        No spool there, or a queue without an installed pipeline.
    """
    registry = registry or _installed_registry()
    spool = spool.absolute()
    if not (spool / "results").is_dir():
        raise ConfigError(
            f"[worker] spool: {spool} is not a node's data folder: start the node first, or mount it here"
        )
    known = queues_of(registry.installed())
    unknown = sorted(set(queues or ()) - set(known))
    if unknown or not known:
        raise ConfigError(
            f"no pipeline {', '.join(unknown)} is installed; installed are: {', '.join(known) or 'none'}"
        )
    os.umask(0o077)
    served = list(queues or known)
    place = Workplace(
        spool=spool,
        device=device,
        registry=registry,
        heartbeat_s=heartbeat_s,
        cohort=cohort,
        others_wait=partial(others_wait, broker_url, served),
    )
    if parent:
        _stop_with(parent)
    app = make_app(broker_url, place, time_limit_s, served)
    worker_process_init.connect(_start_child)
    warnings.simplefilter("ignore", SecurityWarning)  # warns root of pickled messages, which we refuse
    for command in Panel.data.keys() - ANSWERED:
        del Panel.data[command]
    worker = app.Worker(
        hostname=f"dicom-node-{os.getpid()}@{socket.gethostname()}",
        quiet=True,
        loglevel=log.getEffectiveLevel(),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    at_work = app.tasks[TASK].at_work
    listening = Listening(broker_url, served, lambda: bool(state.reserved_requests))
    worker_ready.connect(listening.start)
    try:
        worker.start()
    finally:
        for task_id in at_work:
            note_death_of(spool, task_id, LOST, STOPPED)
    return int(worker.exitcode or 0)


def _start_child(**_: object) -> None:
    """End the child with its parent: none else holds its time limit, and the next worker needs its device."""
    _signal_at_parents_end(signal.SIGKILL)


def _stop_with(parent: int) -> None:
    """Stop when the node that started this worker is gone: the next node brings a worker of its own."""
    _signal_at_parents_end(signal.SIGTERM)
    if os.getppid() != parent:
        raise ConfigError("the node that started this worker has ended")


def _signal_at_parents_end(number: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def _installed_registry() -> Registry:
    from pipelines import registry  # noqa: PLC0415 - a test's worker brings its own

    found: Registry = registry
    return found
