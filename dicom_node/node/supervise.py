"""Runs the node beside a broker and a worker of its own, keeps all three alive, and ends them in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dicom_node.config.environment import ENV_PREFIX
from dicom_node.config.settings import Settings
from dicom_node.errors import BrokerError
from dicom_node.node.embedded_broker import EmbeddedBroker
from dicom_node.node.node import Node
from dicom_node.spool.spool import Spool
from dicom_node.worklog.records import Record
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

LOOK_S = 1.0
WORKER_STOP_S = 5.0
RESTART_WAIT_S = (1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0
"""A worker that ran this long is restarted at once when it ends."""


class WorkerProcess:
    """A ``dicom-node worker`` on this machine, started again when it ends."""

    def __init__(
        self, config: Path | None, broker_url: str, spool: Path, log: Path, worklog: Worklog
    ) -> None:
        self.command = [sys.executable, "-m", "dicom_node.cli", "worker", "--parent", str(os.getpid())]
        if config is not None:
            self.command += ["--config", str(config)]
        self.environment = {
            **os.environ,
            f"{ENV_PREFIX}BROKER__URL": broker_url,
            f"{ENV_PREFIX}WORKER__SPOOL": str(spool),
        }
        self.log = log
        self.worklog = worklog
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._not_before = 0.0

    def start(self) -> None:
        """Start the process; its own session keeps Ctrl-C from it, so that the node can end it in order."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self._started = time.monotonic()

    def look(self) -> None:
        """Start the process again when it has ended, with growing waits when it keeps ending."""
        now = time.monotonic()
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return
            self._process = None
            self._failures = 0 if now - self._started > STEADY_S else self._failures + 1
            wait_s = RESTART_WAIT_S[min(self._failures, len(RESTART_WAIT_S)) - 1] if self._failures else 0.0
            self._not_before = now + wait_s
            self.worklog.write(
                "warning",
                name="worker",
                reason=f"ended with status {status}, started again; see {self.log.name}",
            )
        if now >= self._not_before:
            self.start()

    def stop(self) -> None:
        """End the process: asked first, then told to give its job up (the node has it done anew), then killed."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGQUIT):
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(WORKER_STOP_S)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def broker_url(settings: Settings) -> Iterator[tuple[str, EmbeddedBroker | None]]:
    """Give the broker's URL, and the embedded broker itself where the configuration asks for it."""
    if settings.broker.url != "embedded":
        settings.broker.check_tls()
        yield settings.broker.address, None
        return
    broker = EmbeddedBroker(settings.node.data / "broker")
    broker.start()
    try:
        yield broker.url, broker
    finally:
        broker.stop()


def run(
    settings: Settings,
    installed: Mapping[str, PipelineInfo],
    *,
    config: Path | None,
    with_worker: bool,
    stop: threading.Event,
    on_record: Callable[[Record], None] | None = None,
    on_started: threading.Event | None = None,
) -> None:
    """Run the node until `stop` is set.

    Parameters
    ----------
    settings : Settings
        The configuration.
    installed : mapping of str to PipelineInfo
        What the workers can run.
    config : Path or None
        The configuration's file, for the worker.
    with_worker : bool
        Whether a worker on this machine belongs to it (``up``) or not (``serve``).
    stop : threading.Event
        Ends it.
    on_record : callable, optional
        Gets each record of the worklog.
    on_started : threading.Event, optional
        Set when the node accepts associations.
    """
    Spool(settings.node.data)  # says what is wrong with the folder before anything is started in it
    with broker_url(settings) as (url, broker), contextlib.ExitStack() as current:
        node = _new_node(settings, installed, url, on_record)
        current.callback(node.stop)
        known = settings.broker.url if broker is None else url  # where it is embedded, the worker can't know
        worker = WorkerProcess(config, known, settings.spool, settings.node.data / "worker.log", node.worklog)
        try:
            node.start()
            if with_worker:
                worker.start()
            if on_started is not None:
                on_started.set()
            while not stop.wait(LOOK_S):
                if broker is not None and not broker.alive():
                    with contextlib.suppress(
                        BrokerError
                    ):  # tried again; the worklog has said that it is lost
                        broker.start()
                if node.store.is_damaged:
                    current.pop_all()  # whatever fails from now on, this one is stopped once
                    _stop_damaged(node)
                    node = _new_node(settings, installed, url, on_record)
                    current.callback(node.stop)
                    worker.worklog = node.worklog
                    node.start()
                if with_worker:
                    worker.look()
        finally:
            worker.stop()


def _new_node(
    settings: Settings,
    installed: Mapping[str, PipelineInfo],
    url: str,
    on_record: Callable[[Record], None] | None,
) -> Node:
    node = Node(settings, installed, url)
    if on_record is not None:
        node.worklog.subscribe(on_record)
    return node


def _stop_damaged(node: Node) -> None:
    """Stop a node whose database is damaged; the next one makes that again from the spool."""
    node.worklog.write(
        "warning", name=node.store.path.name, reason="damaged: the node starts anew and makes it again"
    )
    node.stop("its database is damaged")


def stop_on_signals() -> threading.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set; a second signal ends the process at once."""
    stop = threading.Event()

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)
    return stop


def stop_without(parent: int, stop: threading.Event) -> None:
    """Set an event as soon as the process that started this one is gone, however it ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
