"""Makes ``data.tar.xz``: a small data folder as version 0.1.0 leaves it, with something in each state.

README: version 0.1.0 itself wrote it, for the tests of later ones. It is made anew only where it should hold more, and by
no other version (this script refuses). All images are synthetic, of the patients Phantom^1, Phantom^2, .... With a checkout
of 0.1.0, in an environment that has what that version needs, its extra "test" included::

    PYTHONPATH=CHECKOUT python tests/dicom_node/data-0.1.0/make.py

Two destinations: "pacs" (PACS, proof by C-FIND) and "archive" (ARCHIVE, proof by storage commitment, takes
neither pictures nor 3D reports). One series of each kind:

- delivered to both, analysed twice, its images promised to ARCHIVE until 2126 by storage commitment;
- undelivered: PACS refused the mask for good;
- delivering: PACS has taken mask and report and gone, ARCHIVE was asked for commitment and has not answered;
- held with a gap; ignored; without a pipeline;
- its run was interrupted with the worker; its run ended after the node; its job is held by a person; its job is
  queued, in place of one that a late image replaced.

Besides: a request for commitment by PACS that is not answered yet, a file in quarantine, an image in the inbox.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tarfile
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node import __version__
from dicom_node.deliver.association import Timeouts
from dicom_node.jobs.states import JobState
from dicom_node.series.headers import read_header
from dicom_node.standard.commitment import PUSH_MODEL, Reference, Request
from tests.dicom_node.deliver.conftest import NATIVE, Pacs
from tests.dicom_node.deliver.test_commitment import Committing
from tests.factories import mr_series
from tests.integration.faults import inside

ARCHIVE = Path(__file__).with_name("data.tar.xz")
KEEP_DAYS = 36500.0
LATER, FOR_GOOD = 0xA700, 0xA900
ORBITS: dict[str, Any] = {
    "shape": (10, 8, 8),
    "orientation": "coronal",
    "spacing": (3.0, 0.5, 0.5),
    "SeriesDescription": "t2_tse_fs_cor_orbita",
    "ScanningSequence": "SE",
    "ScanOptions": "FS",
    "InversionTime": None,
    "EchoTime": 84.0,
    "RepetitionTime": 4000.0,
    "BodyPartExamined": "ORBIT",
}
LOCALIZER = {
    "SeriesDescription": "localizer",
    "ScanningSequence": "GR",
    "EchoTime": 2.3,
    "InversionTime": None,
}


class Archive(Committing):
    """Takes masks and plain reports; commits when it wants to; may ask for commitment itself."""

    def __init__(self) -> None:
        super().__init__("same")
        self.ae.ae_title = "ARCHIVE"
        for sop_class in (SecondaryCaptureImageStorage, Comprehensive3DSRStorage):
            self.ae.remove_supported_context(sop_class)
        self.ae.add_supported_context(PUSH_MODEL, NATIVE, scu_role=True, scp_role=True)
        self.reported = threading.Event()

    def start(self) -> Archive:
        super().start()
        self.server.bind(evt.EVT_N_EVENT_REPORT, self._on_report)
        return self

    def _on_report(self, event: Any) -> tuple[int, None]:
        del event
        self.reported.set()
        return 0, None


class Making:
    """A node of 0.1.0 that is brought into all those states."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent = folder / "sent"
        self.patients = 0
        self.pacs, self.archive = Pacs(), Archive()
        self.pacs.start()
        self.archive.start()
        data = folder / "data"
        (data / "inbox").mkdir(parents=True, mode=0o700)
        data.chmod(0o700)
        (data / "inbox" / "0123456789ab-000001.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"nonsense")
        pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs.port}
        archive = {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.archive.port}
        # A destination that is away is tried less and less often: the worklog stays short.
        monkeypatch.setattr(inside, "PACE", replace(inside.PACE, cap_s=60.0))
        self.node = inside.InsideNode(
            folder,
            monkeypatch,
            timeouts=Timeouts(report_s=1.0),
            data=data,
            destination=[pacs, {**archive, "confirm": "commitment"}],
            storage={"keep_days": KEEP_DAYS, "high_water": 1.0},
        )

    def series(self, **tags: Any) -> list[Path]:
        """Write a series of a patient of its own."""
        self.patients += 1
        number = self.patients
        flair = {"shape": (12, 8, 8), "EchoTime": 90.0, "RepetitionTime": 9000.0, "seed": number}
        patient = {"PatientName": f"Phantom^{number}", "PatientID": f"PHANTOM-{number}"}
        return mr_series(self.sent / str(number), **{**flair, **patient, **tags})

    def job_of(self, files: list[Path]) -> str:
        """Wait for the job of a series that was sent, and return its ID."""
        uid = read_header(files[0]).series_uid

        def jobs() -> list[Any]:
            return [job for job in self.node.node.store.jobs_of(uid) if job.state != JobState.ABANDONED]

        self.node.until(lambda: any(len(job.images) == len(files) for job in jobs()), "the job of a series")
        return str(jobs()[-1].id)

    def in_state(self, job_id: str, state: JobState) -> None:
        """Wait until a job is in a state."""
        store = self.node.node.store
        self.node.until(lambda: store.job(job_id).state == state, f"{job_id[:8]} is {state}")

    def analysed(self, state: JobState) -> list[Path]:
        """Send a series and wait until its job is there."""
        files = self.series()
        self.node.send(files)
        self.in_state(self.job_of(files), state)
        return files

    def ask_for_commitment(self, ae_title: str, files: list[Path]) -> None:
        """Ask the node, as a destination does, to commit to images."""
        from dicom_node.deliver.commitment import ask

        headers = [read_header(path) for path in files]
        references = tuple(Reference(one.sop_class_uid, one.sop_instance_uid) for one in headers)
        request = Request(f"2.25.{900 + self.patients}", references)
        heard = threading.Event()
        ask(self.node.address, ae_title, request, print, heard=heard, timeouts=Timeouts(report_s=0.01))

    def make(self) -> None:
        """Bring the node into all states, and stop it."""
        node = self.node
        steer = node.node.steering.steer
        delivered = self.analysed(JobState.DELIVERED)
        steer("retry", self.job_of(delivered))
        node.wait_for("analysed", 2)
        self.in_state(self.job_of(delivered), JobState.DELIVERED)
        self.ask_for_commitment("ARCHIVE", delivered)
        assert self.archive.reported.wait(60)
        node.wait_for("commitment-given")

        self.pacs.status = lambda uid, sop_class, nth: FOR_GOOD * (sop_class == SegmentationStorage)
        self.analysed(JobState.UNDELIVERED)

        gap = self.series()
        node.send(gap[:5] + gap[6:])
        node.wait_for("held")
        ignored = self.series(**LOCALIZER, shape=(5, 8, 8))
        node.send(ignored)
        node.wait_for("ignored")
        node.send(self.series(**ORBITS))
        node.wait_for("no-pipeline")

        taken = {SegmentationStorage, Comprehensive3DSRStorage}
        self.pacs.status = lambda uid, sop_class, nth: LATER * (sop_class not in taken)
        self.archive.answers = "never"
        asked = len(self.archive.asked)
        delivering = self.analysed(JobState.DELIVERING)
        self.archive.wait(lambda: len(self.archive.asked) > asked, 60)
        node.until(lambda: "out of resources" in node.log(), "PACS has taken what it takes")
        states = {BasicTextSRStorage: "pending", Comprehensive3DSRStorage: "confirmed"}
        job_id = self.job_of(delivering)
        node.until(
            lambda: all(
                states.get(row.sop_class_uid, row.state) == row.state
                for row in node.node.outbox._ledger.rows(job_id)
                if row.destination == "pacs"
            ),
            "PACS has shown what it has",
        )
        self.pacs.stop()
        node.until(lambda: "refused" in node.events("delivery-retry")[-1]["reason"], "PACS is down")
        self.ask_for_commitment("PACS", ignored)

        self.at_work()
        node.node.intake.filer.stop()
        node.send(self.series(**LOCALIZER, shape=(1, 8, 8)))
        assert node.node.spool.waiting()
        self.stop_in_the_middle()

    def at_work(self) -> None:
        """Let jobs be held, queued and at work."""
        node = self.node
        node.orders.close_gate()
        interrupted, finished, held, queued = (self.series() for _ in range(4))
        node.send(interrupted)
        node.until(node.orders.at_gate, "a job is at work")
        self.interrupted = self.job_of(interrupted)
        self.in_state(self.interrupted, JobState.RUNNING)
        for files in (finished, held, queued[:-1]):
            node.send(files)
            self.is_queued(self.job_of(files))
        self.finished = self.job_of(finished)
        node.node.steering.steer("hold", self.job_of(held))
        node.send(queued[-1:])
        self.queued = self.job_of(queued)
        self.is_queued(self.queued)

    def is_queued(self, job_id: str) -> None:
        """Wait until the broker has a job."""
        node = self.node
        node.until(lambda: job_id[:8] in {one["id"][:8] for one in node.events("queued")}, "a job is queued")

    def stop_in_the_middle(self) -> None:
        """Stop the node while a run goes on that ends, and one that its worker gives up."""
        from dicom_node.jobs.runs import LOST, STOPPED, note_death

        node, results = self.node, self.node.node.spool.results
        node.node.reconciler.stop()
        node.queues.forget(self.queued, "flair")
        run = results / f"{self.interrupted}.run1"
        aside = self.sent / run.name
        shutil.copytree(run, aside)
        node.orders.open_gate()
        node.until(node.queues.is_idle, "the runs have ended")
        node.stop()
        shutil.rmtree(results / self.interrupted)
        aside.rename(run)
        note_death(run, LOST, STOPPED)

    def check(self) -> None:
        """See that it is what the docstring says."""
        assert {path.name for path in self.node.data.glob("state.sqlite*")} == {"state.sqlite"}
        assert list((self.node.data / "commitments").glob("*.json"))
        assert list((self.node.data / "quarantine").glob("*.dcm"))

    def close(self) -> None:
        """End the archives."""
        self.pacs.stop()
        self.archive.stop()


def pack(data: Path) -> None:
    """Write the archive, which names nobody."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isfile() or member.isdir() else None

    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        archive.add(data, "data", filter=anonymous)


def main() -> None:
    if __version__ != "0.1.0":
        sys.exit(f"this is version {__version__}: the fixture is made by 0.1.0 alone, see {__file__}")
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(socket, "gethostname", lambda: "workstation")
        making = Making(Path(name), monkeypatch)
        try:
            making.make()
            making.check()
            pack(making.node.data)
        finally:
            making.close()
    print(f"{ARCHIVE}: {ARCHIVE.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
