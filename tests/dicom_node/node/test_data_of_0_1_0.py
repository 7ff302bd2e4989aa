"""A data folder as version 0.1.0 left it (``data-0.1.0/make.py``): today's node starts on it, and goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from rig import read_here

from dicom_node import __version__
from dicom_node.deliver.address import Address
from dicom_node.deliver.commitment_scu import report_to
from dicom_node.jobs.rebuild import rebuild
from dicom_node.jobs.retention import Retention
from dicom_node.jobs.retention_reasons import DAY_S
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import why
from dicom_node.node.control_socket import ask
from dicom_node.spool.receipts import read_receipts
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import PUSH_MODEL, Reference, Report
from dicom_node.worklog.follow import follow
from tests.dicom_node.deliver.conftest import NATIVE, Pacs, read_dataset_bytes
from tests.dicom_node.deliver.test_commitment import Committing
from tests.dicom_node.node.test_node import Rig, until

pytestmark = pytest.mark.slow

FIXTURE = Path(__file__).parents[1] / "data-0.1.0" / "data.tar.xz"
KEYS = {
    "series": ("series_uid",),
    "images": ("sop_instance_uid",),
    "jobs": ("id",),
    "objects": ("sop_instance_uid", "destination"),
    "commitments": ("transaction_uid",),
    "transitions": ("number",),
}
Rows = dict[tuple[Any, ...], dict[str, Any]]


class Folder:
    """The data folder, and what its tables and files said before anything of today touched them."""

    def __init__(self, parent: Path) -> None:
        with tarfile.open(FIXTURE) as archive:
            archive.extractall(parent, filter="data")
        self.data = parent / "data"
        self.before = self.tables()
        self.files = {path: path.read_bytes() for path in self.data.rglob("*") if path.is_file()}

    def tables(self) -> dict[str, Rows]:
        """Read all rows, without a word of the node's own code."""
        connection = sqlite3.connect(self.data / "state.sqlite")
        connection.row_factory = sqlite3.Row
        try:
            return {
                table: {tuple(row[key] for key in keys): dict(row) for row in connection.execute(query)}
                for table, keys in KEYS.items()
                for query in [f"SELECT * FROM {table}"]
            }
        finally:
            connection.close()

    def job(self, state: str) -> str:
        """Return the ID of the one job that 0.1.0 left in a state."""
        (found,) = self._jobs(state)
        return found

    @property
    def finished(self) -> str:
        """ID of the job whose run ended when the node was off."""
        (found,) = [one for one in self._jobs("queued") if (self.data / "results" / one).is_dir()]
        return found

    @property
    def queued(self) -> str:
        """ID of the job whose run never began."""
        (found,) = [one for one in self._jobs("queued") if one != self.finished]
        return found

    def _jobs(self, state: str) -> list[str]:
        return [str(job["id"]) for job in self.before["jobs"].values() if job["state"] == state]

    def series(self, state: str) -> str:
        """Return the ID of the one series that 0.1.0 left in a state."""
        (found,) = [str(one["id"]) for one in self.before["series"].values() if one["state"] == state]
        return found

    def series_of(self, job_id: str) -> str:
        """Return the ID of a job's series."""
        series_uid = self.before["jobs"][job_id,]["series_uid"]
        return str(self.before["series"][series_uid,]["id"])

    def objects(self, job_id: str, destination: str, *states: str) -> set[str]:
        """Return the SOP Instance UIDs of a job's objects at a destination that 0.1.0 left in some states."""
        return {
            str(row["sop_instance_uid"])
            for row in self.before["objects"].values()
            if (row["job_id"], row["destination"]) == (job_id, destination) and row["state"] in states
        }

    def assert_files_unchanged(self, *folders: str) -> None:
        """The files in these folders (or these files) are those that 0.1.0 left, byte for byte."""
        roots = [self.data / folder for folder in folders]
        kept = [path for path in self.files if any(path.is_relative_to(root) for root in roots)]
        assert kept
        there = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file()]
        assert sorted(there) == sorted(kept)
        assert [path for path in kept if path.read_bytes() != self.files[path]] == []


class Asker(Pacs):
    """The destination "pacs", which had asked 0.1.0 for commitment and was away when the answer came."""

    def __init__(self) -> None:
        super().__init__()
        self.ae.add_supported_context(PUSH_MODEL, NATIVE, scu_role=True, scp_role=True)
        self.reports: list[Any] = []

    def start(self) -> Asker:
        super().start()
        self.server.bind(evt.EVT_N_EVENT_REPORT, self._on_report)
        return self

    def _on_report(self, event: Any) -> tuple[int, None]:
        with self.lock:
            self.reports.append(event.event_information)
            self.lock.notify_all()
        return 0, None

    def uids(self) -> list[str]:
        """Return the SOP Instance UIDs of what it was sent, in order."""
        with self.lock:
            return [uid for uid, _, _ in self.received]


class Archive(Committing):
    """The destination "archive", which commits to all that it was ever sent."""

    def __init__(self) -> None:
        super().__init__("same")
        self.ae.ae_title = "ARCHIVE"
        for sop_class in (SecondaryCaptureImageStorage, Comprehensive3DSRStorage):
            self.ae.remove_supported_context(sop_class)
        self.judge: Callable[[str, int], int] = lambda uid, nth: 0

    def uids(self) -> set[str]:
        """Return the SOP Instance UIDs of what it was sent."""
        with self.lock:
            return {uid for uid, _, _ in self.received}


class Site:
    """The folder, its two destinations, and today's node on it."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.folder = Folder(parent)
        self.data = self.folder.data
        self.pacs, self.archive = Asker(), Archive()
        self.rig: Rig | None = None
        self.said: list[str] = []
        self._connections: list[Any] = []

    def start(self, *, destinations: bool = True) -> Rig:
        """Start the node; without `destinations` nobody listens where they should."""
        if destinations:
            for peer in (self.pacs, self.archive):
                peer.start()
                peer.server.bind(evt.EVT_CONN_OPEN, self._on_connection)
        tables = [
            {"name": "pacs", "ae_title": "PACS", "port": self.pacs.port or 1},
            {
                "name": "archive",
                "ae_title": "ARCHIVE",
                "port": self.archive.port or 1,
                "confirm": "commitment",
            },
        ]
        destination = [{"host": "127.0.0.1", **table} for table in tables]
        self.rig = Rig(
            self.parent,
            destination=destination,
            storage={"keep_days": 0},
        )
        return self.rig

    def stop(self) -> None:
        """End all of it."""
        if self.rig is not None:
            self.rig.stop()
            self.rig = None
        self.pacs.stop()
        self.archive.stop()
        for connection in self._connections:  # pynetdicom leaves it open when the node has closed first
            connection.close()

    def _on_connection(self, event: Any) -> None:
        self._connections.append(event.assoc.dul.socket.socket)

    def state(self, job_id: str) -> str:
        """Return the state of a job now."""
        assert self.rig is not None
        job = self.rig.node.store.job(job_id)
        assert job is not None
        return job.state

    def in_state(self, job_id: str, state: JobState) -> None:
        """Wait until a job is in a state."""
        assert self.rig is not None
        until(lambda: self.state(job_id) == state, self.rig.log)

    def at_broker(self, job_id: str, run: int = 1) -> None:
        """Wait until the broker has a run of a job in its queue."""
        rig = self.rig
        assert rig is not None
        until(lambda: rig.node.dispatcher.places("flair").get(f"{job_id}.run{run}") == "queue", rig.log)

    def why(self, text: str) -> str:
        """Return what the command says."""
        return "\n".join(line for line, _ in why(self.data, text))

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of one kind that today's node wrote into the worklog."""
        lines = (self.data / "worklog.jsonl").read_bytes()
        new = lines[len(self.folder.files[self.data / "worklog.jsonl"]) :].splitlines()
        return [record for record in map(json.loads, new) if record["event"] == name]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


class Said(logging.Handler):
    """What the node's own code logged from a level on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def settle(site: Site) -> None:
    """Start the node without destinations, and wait until it has done what can be done without."""
    rig = site.start(destinations=False)
    site.at_broker(site.folder.queued)
    site.at_broker(site.folder.job("running"), run=2)
    site.in_state(site.folder.finished, JobState.DELIVERING)
    until(
        lambda: len(rig.node.store.series_in(SeriesState.IGNORED)) == 2, rig.log
    )  # that of the inbox is one


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node that has started, and does what it can without its destinations; for looking only."""
    made, said = Site(tmp_path_factory.mktemp("settled")), Said()
    logging.getLogger("dicom_node").addHandler(said)
    try:
        settle(made)
        made.said = said.lines
        yield made
    finally:
        logging.getLogger("dicom_node").removeHandler(said)
        made.stop()


def test_it_starts_without_a_word_of_damage(settled: Site) -> None:
    assert {one["name"] for one in settled.events("warning")} == {"accept"}
    assert settled.said == []
    assert not list(settled.data.glob("*.damaged-*"))


def test_rows_of_all_that_waits_or_is_done_are_equal(settled: Site) -> None:
    folder = settled.folder
    before, after = folder.before, folder.tables()
    brought_on = {folder.finished, folder.queued, folder.job("running")}
    for key, row in before["jobs"].items():
        if key[0] not in brought_on:
            assert after["jobs"][key] == row
    assert set(after["jobs"]) == set(before["jobs"])
    for table in ("series", "images", "commitments", "transitions"):
        assert {key: after[table].get(key) for key in before[table]} == before[table]
    assert len(after["series"]) == len(before["series"]) + 1
    assert len(after["images"]) == len(before["images"]) + 1
    for key, row in before["objects"].items():
        tried = {"reason", "next_at"} if row["state"] in {"pending", "sent"} else set()
        assert {**row, **dict.fromkeys(tried)} == {**after["objects"][key], **dict.fromkeys(tried)}


def test_files_that_are_the_truth_are_untouched(settled: Site) -> None:
    folder = settled.folder
    promised = [path.parent.name for path in folder.files if path.name == "kept-until"]
    assert sorted(promised) == sorted([folder.series("ignored"), folder.series_of(folder.job("delivered"))])
    folder.assert_files_unchanged("quarantine", "node-id", "jobs", "commitments")
    folder.assert_files_unchanged(*(f"results/{folder.job(state)}" for state in ("delivered", "undelivered")))
    folder.assert_files_unchanged(
        *(f"series/{name}" for name in promised if name != folder.series("ignored"))
    )
    log = folder.files[settled.data / "worklog.jsonl"]
    assert (settled.data / "worklog.jsonl").read_bytes().startswith(log)


def test_image_of_the_inbox_is_filed(settled: Site) -> None:
    inbox = settled.data / "inbox"
    (content,) = [content for path, content in settled.folder.files.items() if path.parent == inbox]
    assert not list(inbox.glob("*.dcm"))
    filed = [path for path in (settled.data / "series").rglob("*.dcm") if path not in settled.folder.files]
    assert [path.read_bytes() for path in filed] == [content]


def test_worklog_of_both_versions_is_read(settled: Site) -> None:
    lines = list(follow(settled.data))
    started = [line for line in lines if " node-started " in line]
    assert [line.rpartition(" ")[2] for line in started] == ["0.1.0", __version__]
    assert len(lines) > len(settled.folder.files[settled.data / "worklog.jsonl"].splitlines())
    of_series = list(follow(settled.data, series=settled.folder.series("held")[:8]))
    assert any("slice missing" in line for line in of_series)


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.QUEUED}))
def test_why_tells_the_history_of_every_job(settled: Site, state: JobState) -> None:
    job_id = settled.folder.job(state)
    last = JobState.QUEUED if state is JobState.RUNNING else state  # its worker was stopped with the node
    assert f"job {job_id[:8]}" in settled.why(job_id)
    assert f": {last}" in settled.why(job_id)


def test_what_is_held_says_why_and_can_be_released(site: Site) -> None:
    series, job = site.folder.series("held"), site.folder.job("held")
    rig = site.start(destinations=False)
    assert "slice missing between" in site.why(series)
    assert f"dicom-node release {series[:8]}" in site.why(series)
    assert "held by a person" in site.why(job)
    assert f"dicom-node release {job[:8]}" in site.why(job)
    assert "queued again" in ask(site.data, "release", job)
    site.at_broker(job)
    assert "analysed as it is" in ask(site.data, "release", series)
    (uid,) = [key[0] for key, row in site.folder.before["series"].items() if row["id"] == series]
    until(lambda: len(rig.node.store.jobs_of(uid)) == 1, rig.log)
    (released,) = rig.node.store.jobs_of(uid)
    assert len(released.images) == 11
    site.at_broker(released.id)


@pytest.fixture(scope="module")
def going_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node that has started, with its destinations back; for looking only."""
    made = Site(tmp_path_factory.mktemp("going-on"))
    try:
        made.start()
        made.in_state(made.folder.job("delivering"), JobState.DELIVERED)
        made.in_state(made.folder.finished, JobState.DELIVERED)
        yield made
    finally:
        made.stop()


def test_delivery_goes_on_with_what_was_not_sent(going_on: Site) -> None:
    folder, sent = going_on.folder, going_on.pacs.uids()
    missing = folder.objects(folder.job("delivering"), "pacs", "pending")
    assert len(missing) == 2
    rows = folder.tables()["objects"].values()
    of_finished = {str(row["sop_instance_uid"]) for row in rows if row["job_id"] == folder.finished}
    assert missing < set(sent) <= missing | of_finished
    assert len(sent) == len(set(sent))
    assert going_on.archive.uids() <= of_finished


def test_what_was_over_stays_so_when_the_destinations_are_back(going_on: Site) -> None:
    for state in (JobState.DELIVERED, JobState.UNDELIVERED, JobState.HELD, JobState.NO_PIPELINE):
        job_id = going_on.folder.job(state)
        assert going_on.folder.tables()["jobs"][job_id,] == going_on.folder.before["jobs"][job_id,]


def test_request_for_commitment_of_then_is_answered(going_on: Site) -> None:
    folder = going_on.folder
    (request,) = [path for path in folder.files if path.parent.name == "commitments"]
    going_on.pacs.wait(lambda: going_on.pacs.reports, 30)
    (report,) = going_on.pacs.reports
    assert report.TransactionUID == json.loads(folder.files[request])["transaction"]
    assert len(report.ReferencedSOPSequence) == 5
    assert "FailedSOPSequence" not in report
    until(lambda: not request.exists(), lambda: "the request is still there")


def test_answer_to_a_request_for_commitment_of_then_counts(site: Site) -> None:
    site.archive.answers = "never"
    delivering = site.folder.job("delivering")
    (asked,) = [row for row in site.folder.before["commitments"].values() if not row["answered_at"]]
    rig = site.start()
    objects = site.folder.objects(delivering, "archive", "sent")
    assert len(objects) == 3
    committed = tuple(Reference("1.2.840.10008.5.1.4.1.1.88.11", uid) for uid in sorted(objects))
    node = Address("LESIONNODE", "127.0.0.1", rig.node.scp.port)
    report_to(node, "ARCHIVE", Report(str(asked["transaction_uid"]), committed))
    site.in_state(delivering, JobState.DELIVERED)


def test_retry_delivers_the_same_bytes_under_the_same_uids(site: Site) -> None:
    folder, job_id = site.folder, site.folder.job("undelivered")
    (refused,) = folder.objects(job_id, "pacs", "failed")
    taken = folder.objects(job_id, "pacs", "confirmed") | folder.objects(job_id, "archive", "confirmed")
    results = site.data / "results" / job_id
    rig = site.start()
    assert "is delivered again" in ask(site.data, "retry", job_id)
    site.in_state(job_id, JobState.DELIVERED)
    sent = [digest for uid, digest, _ in site.pacs.received if uid == refused]
    assert sent == [hashlib.sha256(read_dataset_bytes(results / "seg.dcm")).hexdigest()]
    assert not taken & (set(site.pacs.uids()) | site.archive.uids()) - {refused}
    job = rig.node.store.job(job_id)
    assert job is not None
    assert (job.run, job.attempts) == (1, 1)
    assert [path for path in results.glob("*.*") if path.read_bytes() != folder.files[path]] == []


def test_promise_of_then_is_kept_when_the_rest_goes(site: Site) -> None:
    folder = site.folder
    rows = folder.before["series"].values()
    clock = max(float(row["last_at"]) for row in rows) + 20 * DAY_S
    spool, store = Spool(site.data), Store(site.data / "state.sqlite")
    gone: list[str] = []
    try:
        proofs = {"pacs": True, "archive": True}
        Retention(
            store, spool, 14, lambda one: gone.append(one.id), lambda: clock, destinations=proofs
        ).sweep()
    finally:
        store.close()
    assert gone == [folder.series_of(folder.job("no-pipeline"))]


def test_database_of_then_is_made_again_from_the_files(site: Site) -> None:
    folder, path = site.folder, site.data / "state.sqlite"
    path.unlink()
    found = rebuild(path, site.data, read_here)
    assert (found.images, found.jobs) == (len(folder.before["images"]), len(folder.before["jobs"]))
    after = folder.tables()["jobs"]
    for column in ("series_uid", "pipeline", "settings", "images", "created_at", "run"):
        assert {key: row[column] for key, row in after.items()} == {
            key: row[column] for key, row in folder.before["jobs"].items()
        }
    results = site.data / "results"
    for (uid, destination), row in folder.before["objects"].items():
        if row["state"] != "pending" and row["run"] == after[row["job_id"],]["run"]:
            assert read_receipts(results / row["job_id"], destination)[uid].state == row["state"]


def test_files_that_nobody_knows_are_no_matter(site: Site) -> None:
    held = site.folder.series("held")
    strangers = [
        "notes.txt",
        "jobs/notes.txt",
        "jobs/older.json.bak",
        "results/notes.txt",
        f"series/{held}/notes.txt",
        "quarantine/notes.txt",
        "inbox/notes.txt",
        "commitments/notes.txt",
        "another/folder/notes.txt",
    ]
    for name in strangers:
        (site.data / name).parent.mkdir(parents=True, exist_ok=True)
        (site.data / name).write_text("of another version\n")
    shutil.copytree(site.data / "another", site.data / "results" / "another")
    settle(site)
    assert {one["name"] for one in site.events("warning")} == {"accept"}
    assert all((site.data / name).read_text() == "of another version\n" for name in strangers)
