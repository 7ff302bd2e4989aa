"""A whole node in the test's own process, with a worker thread in place of broker and worker processes.

Receiving, filing, routing, jobs, result objects and deliveries are the real ones; waits are short.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pynetdicom.sop_class import BasicTextSRStorage

from dicom_node.config.settings import load_settings
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.c_store import SendResult, send_files
from dicom_node.deliver.outbox import Outbox
from dicom_node.errors import NodeError
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.why import why
from dicom_node.node.node import Node
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import read_header
from dicom_node.spool.run_folder import LOST
from tests.integration.faults.fake import FakeRegistry, Orders
from tests.integration.faults.pacs import Pacs
from worker.app import note_death_of
from worker.tasks import Workplace, take

BACKOFF = Backoff(
    first_s=0.1,
    cap_s=0.2,
    look_first_s=0.05,
    look_cap_s=0.1,
    resend_after_s=0.3,
    uncertain_tries=3,
    find_tries=2,
)
TIMEOUTS = Timeouts()
IMPATIENT = Timeouts(connect_s=2, acse_s=1, dimse_s=1)


class Queues:
    """Broker and worker in one: a thread does each run as soon as it is sent."""

    def __init__(self, orders: Orders, device: str = "cpu") -> None:
        self.orders = orders
        self.device = device
        self.wake: Callable[[], None] = lambda: None
        self._messages: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._places: dict[str, str] = {}
        self._place: Workplace | None = None
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)

    def work(self, spool: Path) -> None:
        self._place = Workplace(spool, self.device, FakeRegistry(self.orders), heartbeat_s=0.2)
        self._thread.start()

    def enqueue(self, job: JobRow, message: JobMessage) -> None:
        self._places[f"{job.id}.run{job.run}"] = "queue"
        self._messages.put((f"{job.id}.run{job.run}", json.dumps(message.to_json())))

    def ping(self) -> str:
        return "one"

    def places(self, queue: str) -> dict[str, str]:
        return dict(self._places)

    def forget(self, job_id: str, queue: str) -> None:
        self._places = {name: place for name, place in self._places.items() if not name.startswith(job_id)}

    def is_idle(self) -> bool:
        return not self._places

    def close(self) -> None:
        self._messages.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        assert self._place is not None
        while (found := self._messages.get()) is not None:
            name, message = found
            if name in self._places:
                self._places[name] = "taken"
                try:
                    take(json.loads(message), name, self._place)
                except Exception as error:  # noqa: BLE001 - as the parent of the process that computes
                    reason = str(error) if isinstance(error, NodeError) else type(error).__name__
                    note_death_of(self._place.spool, name, LOST, reason)
                self._places.pop(name, None)
                self.wake()


class InsideNode:
    """A node with its data folder ``folder/data``, its orders, and what was acknowledged to its callers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *pacs: Pacs, **tables: Any) -> None:
        self.orders = Orders(folder / "orders")
        self.data = tables.pop("data", folder / "data")
        self.device = tables.pop("device", "cpu")
        self.clock_shift_s = 0.0
        timeouts = tables.pop("timeouts", TIMEOUTS)
        self.acknowledged: dict[str, Path] = {}  # SOP Instance UID to the file that was sent
        settings = {
            "node": {"host": "127.0.0.1", "port": 0, "data": str(self.data)},
            "accept": {"processes": 0},  # all in this process
            "series": {"quiet_s": 0.1, "incomplete_after_s": 0.3, **tables.pop("series", {})},
            "destination": [one.destination() for one in pacs],
            **tables,
        }
        self.settings = load_settings(None, settings)
        outbox = partial(
            Outbox, backoff=BACKOFF, timeouts=timeouts, clock=lambda: time.time() + self.clock_shift_s
        )
        monkeypatch.setattr("dicom_node.node.node.Outbox", outbox)
        monkeypatch.setattr("dicom_node.node.node.Dispatcher", lambda url, node_id: self.queues)
        monkeypatch.setattr("dicom_node.node.node.LEASE_S", 1.0)
        monkeypatch.setattr("dicom_node.jobs.reconcile.ACTIVE_S", 0.1)
        monkeypatch.setattr("dicom_node.jobs.reconcile.TROUBLE_S", 0.2)
        monkeypatch.setattr("dicom_node.intake.tracker.RETRY_S", 0.2)
        monkeypatch.setattr("dicom_node.intake.filing.RETRY_S", 0.1)
        self.start()

    def start(self) -> None:
        self.queues = Queues(self.orders, self.device)
        self.node = Node(self.settings, FakeRegistry(self.orders).installed(), "redis://nowhere")
        self.queues.wake = self.node.reconciler.wake
        self.queues.work(self.data)
        self.node.start()

    def stop(self) -> None:
        self.orders.open_gate()
        self.node.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    # What a scanner does

    @property
    def address(self) -> Address:
        return Address("LESIONNODE", "127.0.0.1", self.node.scp.port)

    def offer(self, files: Iterable[Path]) -> list[SendResult]:
        """Send files and remember which of them were acknowledged."""
        results = send_files(self.address, list(files), "SCANNER")
        self.acknowledged |= {r.sop_instance_uid: r.path for r in results if r.outcome.stored}
        return results

    def send(self, files: Iterable[Path]) -> None:
        """Send files, all of which must be taken."""
        results = self.offer(files)
        assert all(result.outcome.stored for result in results), [result.reason for result in results]

    # What is seen of it

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.data / "worklog.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, filter(str.strip, lines)) if record["event"] == name]

    def wait_for(self, name: str, count: int = 1, timeout_s: float = 120.0) -> dict[str, Any]:
        self.until(lambda: len(self.events(name)) >= count, f"{count} x {name}", timeout_s)
        return self.events(name)[count - 1]

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        return (self.data / "worklog.log").read_text()

    def why(self, text: str) -> str:
        return "\n".join(line for line, _ in why(self.data, text))

    def jobs(self, *states: JobState) -> list[JobRow]:
        return self.node.store.jobs_in(*(states or JobState))

    def job(self) -> JobRow:
        (job,) = self.jobs()
        return job

    def delivered(self, count: int = 1) -> None:
        """Wait until so many jobs are delivered."""
        self.until(lambda: len(self.jobs(JobState.DELIVERED)) >= count, f"{count} jobs delivered")

    def reports(self, pacs: Pacs) -> list[str]:
        """Return the text of each text report that a PACS holds."""
        texts = [ds for ds in pacs.held.values() if ds.SOPClassUID == BasicTextSRStorage]
        return [" ".join(str(item.value) for item in ds.iterall() if item.VR == "UT") for ds in texts]

    # What must always hold

    def assert_nothing_lost(self) -> None:
        """Every acknowledged image lies in the spool, with the pixels that were sent."""
        lost = []
        for uid, path in self.acknowledged.items():
            header = read_header(path)
            place = self.node.spool.image_path(header.series_uid, header.sop_instance_uid)
            if not place.exists() or dcmread(place).get("PixelData") != dcmread(path).get("PixelData"):
                lost.append(uid)
        assert not lost, f"{len(lost)} of {len(self.acknowledged)} acknowledged images are lost"

    def assert_once(self, *archives: Pacs, without: Sequence[str] = ()) -> None:
        """Each archive holds the objects of each finished job's one result, each stored once, and nothing else."""
        wanted = set()
        for job in self.jobs(JobState.DELIVERING, JobState.DELIVERED, JobState.UNDELIVERED):
            manifest = Manifest.read(self.node.spool.results / job.id)
            wanted |= {
                o.sop_instance_uid for o in manifest.objects if o.role not in {"sr-enhanced", *without}
            }
        for pacs in archives:
            assert set(pacs.held) == wanted, f"{pacs.name} holds {len(pacs.held)} of {len(wanted)} objects"
            again = {uid: count for uid, count in pacs.stored.items() if count > 1}
            assert not again, f"{pacs.name} stored objects more than once: {again}"


def lock_database(path: Path) -> sqlite3.Connection:
    """Hold the database's write lock until the connection is closed."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute("BEGIN IMMEDIATE")
    return connection
