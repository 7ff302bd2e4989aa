"""Damaged images: whatever bytes come in, nothing crashes, nothing is written outside, and a line says what came of them."""

from __future__ import annotations

import json
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from rig import message_of

from dicom_node.config.settings import load_settings
from dicom_node.intake.intake import Intake
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.receive.association import Association
from dicom_node.receive.file_meta import encode_file_meta
from dicom_node.results.manifest import Manifest
from dicom_node.spool.run_folder import set_aside
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog
from tests.integration.faults.fake import FakeRegistry, Orders
from worker.tasks import Workplace, run_job

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(7200)]

SCANNER = Association("0123456789ab", "SCANNER", "127.0.0.1", "LESIONNODE")
ENDS = {"ignored", "held", "routed", "quarantined", "conflict", "duplicate", "corrected", "incomplete"}
"""Lines that say what became of an image."""


class Desk:
    """Intake and worker without network and threads of their own pace: one file at a time, to its very end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = Spool(folder / "data")
        self.store = Store(self.spool.root / "state.sqlite", self.spool.jobs)
        self.worklog = Worklog(self.spool.root)
        self.lines: Counter[str] = Counter()
        self.worklog.subscribe(lambda record: self.lines.update([record.event]))
        options = {"node": {"data": str(self.spool.root)}, "series": {"quiet_s": 0}}
        registry = FakeRegistry(Orders(folder / "orders"))
        self.intake = Intake(
            load_settings(None, options),
            self.spool,
            self.store,
            self.worklog,
            registry.installed(),
            jobs=self,
        )
        self.place = Workplace(self.spool.root, "cpu", registry)
        self.filed = threading.Event()
        told = self.intake.association_filed

        def filed(association: Association) -> None:
            told(association)
            self.filed.set()

        self.intake.filer._on_association_filed = filed
        self.intake.filer.start()
        self.number = 0

    def close(self) -> None:
        self.intake.filer.stop()
        self.worklog.close()
        self.store.close()

    # The mover of jobs (dicom_node.intake.judge.Jobs)

    def wake(self) -> None:
        """Have them done by `take`."""

    def withdraw(self, job_id: str, to: JobState, reason: str) -> JobRow:
        return self.store.move_job(job_id, to, reason)

    def again(self, job_id: str, reason: str) -> JobRow:
        return self.store.move_job(job_id, JobState.QUEUED, reason)

    def recall(self, job_id: str, reason: str) -> None:
        job = self.store.job(job_id)
        assert job is not None
        set_aside(self.spool.results, job_id, job.run)
        self.store.move_job(job_id, JobState.ABANDONED, reason, run=job.run + 1)

    def take(self, syntax: str, data: bytes) -> set[str]:
        """File one object, judge its series and do its job; return the events that were written."""
        before = self.lines.copy()
        self.number += 1
        path = self.spool.inbox / f"{SCANNER.id}-{self.number:06d}.dcm"
        head = encode_file_meta(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            sop_instance_uid=f"1.2.{self.number}",
            transfer_syntax_uid=syntax,
            calling_ae="SCANNER",
        )
        path.write_bytes(bytes(head) + data)
        self.filed.clear()
        self.intake.filer.put(SCANNER, path)
        self.intake.filer.association_ended(SCANNER)
        assert self.filed.wait(180), "the file was not filed"
        self.intake.tracker.step()
        for job in self.store.jobs_in(JobState.QUEUED):
            assert run_job(message_of(job), self.place)
            manifest = Manifest.read(self.spool.results / job.id)
            assert manifest.status in {"findings", "none", "unsuitable", "failed"}
            self.store.move_job(job.id, JobState.DELIVERING, outcome=manifest.status)
        assert not list(self.spool.inbox.glob("*.dcm")), "it stays in the inbox"
        assert not self.store.series_in(SeriesState.RECEIVING), "its series has no verdict"
        return {event for event in self.lines if self.lines[event] > before[event]}

    def outside(self) -> set[str]:
        """Names of what lies around the data folder and directly in it."""
        return {path.name for folder in (self.folder, self.spool.root) for path in folder.iterdir()}


class Sample:
    """A valid object, whose UIDs are made new for each case; with `deflates` it is deflated once it has been damaged."""

    def __init__(self, path: Path, *, deflates: bool = False) -> None:
        self.deflates = deflates
        ds = dcmread(path)
        self.syntax = str(ds.file_meta.TransferSyntaxUID)
        content = path.read_bytes()
        self.data = content[144 + int.from_bytes(content[140:144], "little") :]
        self.uids = [str(ds[name].value).encode() for name in ("SOPInstanceUID", "SeriesInstanceUID")]

    def fresh(self, number: int) -> bytes:
        """Return the data set with UIDs of the same length that no other case has."""
        data = self.data
        for uid in self.uids:
            data = data.replace(uid, uid[:-8] + f"1{number:07d}".encode())
        return data

    def encoded(self, data: bytes) -> tuple[str, bytes]:
        """Return transfer syntax and data set as they are sent."""
        if not self.deflates:
            return self.syntax, data
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return DeflatedExplicitVRLittleEndian, packer.compress(data) + packer.flush()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """One image of each kind: plain, implicit, deflated, Enhanced, compressed in three ways, damaged before it is deflated."""
    folder = tmp_path_factory.mktemp("samples")
    options: list[dict[str, Any]] = [
        {},
        {"transfer_syntax": ImplicitVRLittleEndian},
        {"transfer_syntax": DeflatedExplicitVRLittleEndian},
        {"enhanced": True},
    ]
    common = {"shape": (6, 8, 8), "EchoTime": 90.0, "RepetitionTime": 9000.0}
    files = [
        mr_series(folder / str(number), **{**common, **option})[0] for number, option in enumerate(options)
    ]
    ds = dcmread(files[0])
    ds.compress(RLELossless, generate_instance_uid=False)
    files.append(folder / "rle.dcm")
    ds.save_as(files[-1])
    for syntax in (JPEG2000Lossless, JPEGLSLossless):
        options_of_it: dict[str, Any] = {**common, "shape": (6, 32, 32), "transfer_syntax": syntax}
        files += mr_series(folder / syntax, **options_of_it)[:1]
    return [*map(Sample, files), Sample(files[0], deflates=True)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """Up to four damages: what is done, where (as a fraction of the data), and with which bytes."""
    harmless = [
        "overwrite",
        "text",
        "overwrite",
        "text",
    ]  # most of the rest is unreadable, and less of the code is met
    kinds = [*harmless, "insert", "cut", "drop", "repeat", "length"]
    one = st.tuples(
        st.sampled_from(kinds),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=12) | st.sampled_from(NASTY),
    )
    return draw(st.lists(one, min_size=0, max_size=4))


NASTY = [
    b"../../../../tmp/escaped",
    b"/etc/passwd\0",
    b"\xff" * 8,
    b"\0" * 8,
    b"\x1b$B\x1b(J",
    b"\xff\xff\xff\x7f",
    b"1e999\\nan\\inf",
    b"-1\\-1\\-1",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\x0f",
    b"{0}%s\r\n\x07\xc3\xa9",
]
KEYWORDS = [b"DS", b"IS", b"UI", b"CS", b"SQ", b"OW", b"US", b"LO", b"PN", b"DA"]


def damaged(data: bytes, what: list[tuple[str, float, bytes]]) -> bytes:
    """Return a data set with damages."""
    for kind, where, payload in what:
        at = int(where * len(data))
        if kind == "overwrite":
            data = data[:at] + payload + data[at + len(payload) :]
        elif kind == "insert":
            data = data[:at] + payload + data[at:]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + 8 * len(payload) :]
        elif kind == "repeat":
            data = data[:at] + data[max(0, at - 300) :]
        else:  # at the next element that looks like one: its value, or its length
            found = [place for vr in KEYWORDS if (place := data.find(vr, at)) >= 0]
            place = min(found, default=at) + (4 if kind == "text" else 2)
            size = len(payload) if kind == "text" else 2
            data = data[:place] + payload[:size] + data[place + size :]
    return data


def test_damaged_images_end_in_a_line_of_the_worklog(
    desk: Desk, samples: list[Sample], request: pytest.FixtureRequest
) -> None:
    cases = 10_000 if request.config.getoption("--long") else 200
    around: set[str] = set()
    ends: Counter[str] = Counter()

    @settings(
        max_examples=cases,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # the desk remembers earlier cases: a smaller one would not be the same
        suppress_health_check=list(HealthCheck),
    )
    @given(which=st.integers(0, len(samples) - 1), damage=damages())
    def one_case(which: int, damage: list[tuple[str, float, bytes]]) -> None:
        sample = samples[which]
        events = desk.take(*sample.encoded(damaged(sample.fresh(desk.number + 1), damage)))
        assert events & ENDS, f"no line tells what came of it: {events}"
        ends.update(events & ENDS)
        nonlocal around
        around = around or desk.outside()
        assert desk.outside() == around

    one_case()
    assert not Path("/tmp/escaped").exists()
    assert {"quarantined", "held", "routed"} <= ends.keys(), ends
    kept = len(list(desk.spool.series.rglob("*.dcm"))) + len(list(desk.spool.quarantine.glob("*.dcm")))
    assert (
        kept >= desk.number - ends["duplicate"] - ends["corrected"]
    )  # the latter take a place that there was
    for line in (desk.spool.root / "worklog.jsonl").read_text().splitlines():
        assert json.loads(line)["event"]
    print(f"{desk.number} cases: {dict(ends)}")  # noqa: T201 - the figures of deploy/RELIABILITY.md
