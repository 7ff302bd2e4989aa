"""``dicom-node up`` as its own processes, to be killed, with a PACS in the test that counts what arrives."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_store import SendResult, send_files
from dicom_node.errors import DeliveryError, NotFoundError
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import why
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import read_header
from dicom_node.spool.spool import Spool
from tests.integration.faults.fake import Orders
from tests.integration.faults.pacs import Pacs
from tests.integration.systems import RunningNode, wait_until

MODULES = {"receiver": "dicom_node.receive.receiver_process", "parser": "dicom_node.intake.parser_process"}
"""Modules that children of the node run, by the kind of process."""

PROGRAM = Path(__file__).with_name("program.py")


class Site(RunningNode):
    """A node, its broker, its worker and the worker's child, each a process; and the PACS."""

    program = (sys.executable, str(PROGRAM))

    def __init__(self, folder: Path, *, time_limit_s: float = 900.0, extra: str = "") -> None:
        self.pacs = Pacs()
        self.pacs.start()
        tables = f"[worker]\ntime_limit_s = {time_limit_s}\n{extra}"
        super().__init__(folder, self.pacs.port, extra=tables)
        self.orders = Orders(folder / "orders")
        self.environment: dict[str, str] = {"FAULTS_ORDERS": str(self.orders.folder)}
        self.acknowledged: set[Path] = set()
        self.series: set[str] = set()

    def close(self) -> None:
        """End everything."""
        self.orders.open_gate()
        self.stop()
        self.pacs.stop()

    def offer(self, files: Iterable[Path]) -> list[SendResult]:
        """Send files, remember which were acknowledged, and return what became of each; none: no association."""
        results: list[SendResult] = []
        with contextlib.suppress(DeliveryError):
            send_files(Address("LESIONNODE", "127.0.0.1", self.port), list(files), "SCANNER", results.append)
        self.acknowledged |= {result.path for result in results if result.outcome.stored}
        return results

    def taken(self, files: list[Path]) -> set[Path]:
        """Offer files; return those that were acknowledged."""
        return {result.path for result in self.offer(files) if result.outcome.stored}

    def send(self, files: list[Path], timeout_s: float = 60.0) -> str:
        """Send a series as a PACS does, what was not acknowledged again; return its UID."""
        rest = [path for path in files if path not in self.acknowledged]

        def all_taken() -> bool:
            taken = self.taken(rest)
            rest[:] = [path for path in rest if path not in taken]
            return not rest

        wait_until(all_taken, timeout_s, "all images are acknowledged")
        series_uid = read_header(files[0]).series_uid
        self.series.add(series_uid)
        return series_uid

    # Processes

    def running(self, kind: str) -> psutil.Process | None:
        """Return a running process: "node", "receiver", "parser", "worker", "child" (of the worker) or "valkey"."""
        if kind == "node":
            node = self.process
            return psutil.Process(node.pid) if node is not None and node.poll() is None else None
        if kind == "valkey":
            return next(iter(self.processes("valkey")), None)
        workers = self.processes("worker")
        if kind in MODULES:
            node = self.running("node")
            children = node.children() if node is not None else []
            return next((one for one in children if MODULES[kind] in _command(one)), None)
        parents = [one for one in workers if one.ppid() not in {other.pid for other in workers}]
        found = parents if kind == "worker" else [one for one in workers if one not in parents]
        return next((one for one in found if not _is_over(one)), None)

    def kill_one(self, kind: str) -> bool:
        """Kill one process with SIGKILL; False when there is none of this kind."""
        process = self.running(kind)
        if process is None:
            return False
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        if kind == "node" and self.process is not None:
            self.process.wait(10)
        wait_until(lambda: _is_over(process), 10, f"the {kind} has ended")
        return True

    # What is seen of it

    def jobs(self, *states: JobState) -> list[JobRow]:
        """Return jobs by state, all without one."""
        path = self.data / "state.sqlite"
        if not path.exists():
            return []
        store = Store(path)
        try:
            return store.jobs_in(*(states or JobState))
        finally:
            store.close()

    def states(self) -> list[str]:
        """Return the state of each job; none while there is no database."""
        with contextlib.closing(sqlite3.connect(self.data / "state.sqlite", timeout=30)) as connection:
            try:
                return [state for (state,) in connection.execute("SELECT state FROM jobs")]
            except sqlite3.Error:
                return []

    def settled(self, timeout_s: float = 60.0) -> None:
        """Wait until the last job of each series that was sent is delivered, and no other has anything to do.

        A series of which a part came before a crash may have had a job for that part: replaced, or followed
        by a revision.
        """

        def done() -> bool:
            jobs = self.jobs()
            last = {job.series_uid: job for job in jobs}  # the oldest come first
            return {job.state for job in jobs} <= {JobState.DELIVERED, JobState.ABANDONED} and all(
                uid in last and last[uid].state == JobState.DELIVERED and self._is_of_all(last[uid])
                for uid in self.series
            )

        try:
            wait_until(done, timeout_s, f"{len(self.series)} series are delivered")
        except AssertionError as error:
            texts = [f"{error}: {[(job.id[:8], job.state, job.reason) for job in self.jobs()]}"]
            for path in (self.data / "worklog.log", self.data / "worker.log", self.folder / "up.log"):
                texts.append(f"{path.name}:\n{path.read_text()[-5000:] if path.exists() else '-'}")
            raise AssertionError("\n".join(texts)) from None

    def _is_of_all(self, job: JobRow) -> bool:
        """Tell whether a job analyses all images of its series."""
        return len(job.images) == len(list(Spool(self.data).series_folder(job.series_uid).glob("*.dcm")))

    def why(self, text: str) -> str:
        """Return what the command says; nothing before the first image is filed."""
        try:
            return "\n".join(line for line, _ in why(self.data, text))
        except NotFoundError:
            return ""

    def assert_nothing_lost(self) -> None:
        """Every acknowledged image lies in its place."""
        spool = Spool(self.data)
        headers = [read_header(path) for path in self.acknowledged]
        lost = [h for h in headers if not spool.image_path(h.series_uid, h.sop_instance_uid).exists()]
        assert not lost, f"{len(lost)} of {len(headers)} acknowledged images are lost"

    def assert_once(self) -> None:
        """The PACS holds the objects of each job's one result and no others.

        A node that is killed between the PACS's answer and its receipt sends the same object again: it is
        the same one for the PACS.
        """
        wanted = set()
        for job in self.jobs(JobState.DELIVERED):
            objects = Manifest.read(self.data / "results" / job.id).objects
            wanted |= {item.sop_instance_uid for item in objects if item.role != "sr-enhanced"}
        assert set(self.pacs.held) == wanted


def _command(process: psutil.Process) -> list[str]:
    """Return a process's command line; of one that has ended nothing."""
    try:
        return [] if _is_over(process) else list(process.cmdline())
    except psutil.Error:
        return []


def _is_over(process: psutil.Process) -> bool:
    """Tell whether a process has ended, its parent told of it or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
