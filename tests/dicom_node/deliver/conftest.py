"""A PACS of our own on port 0, and small objects to send to it."""

import hashlib
import socket
import threading
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts

STORAGE = [
    SegmentationStorage,
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    BasicTextSRStorage,
    SecondaryCaptureImageStorage,
]
NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


def write_object(
    path: Path, sop_class, *, study_uid="1.2.3", series_uid=None, syntax=ExplicitVRLittleEndian, fill=b""
):
    """Write a small composite object with some awkward values; returns its SOP Instance UID."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid or f"{study_uid}.{len(sop_class)}"
    ds.PatientName = "Doe^Jane"
    ds.PatientID = "4711"
    ds.add_new(0x00091010, "LO", "private")
    ds.ImageComments = "odd length "
    if fill:
        ds.add_new(0x00420011, "OB", fill)
    ds.save_as(path, enforce_file_format=True)
    return str(ds.SOPInstanceUID)


def read_dataset_bytes(path: Path) -> bytes:
    """What follows the File Meta Information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


class Pacs:
    """Stores in memory what it gets; statuses, classes and C-FIND can be set."""

    def __init__(self, *, classes=STORAGE, syntaxes=NATIVE, find=True, ae_title="PACS", tls=None):
        self.tls = tls
        self.lock = threading.Condition()
        self.received = []  # (SOP Instance UID, sha256 of the data set, transfer syntax), refused too
        self.held = {}  # SOP Instance UID -> (study, series)
        self.calling = []
        self.finds = 0
        self.status = lambda uid, sop_class, nth: 0x0000
        self.visible = lambda uid: True
        self.find_status = 0x0000
        self.before_store = lambda event: None
        self.patients = lambda study_uid: [{}]  # as whose it shows a study; [] where it has no such study
        self.study_status = 0x0000
        self.studies_asked = []
        ae = AE(ae_title)
        ae.require_called_aet = True
        ae.add_supported_context(Verification)
        for sop_class in classes:
            ae.add_supported_context(sop_class, syntaxes)
        if find:
            ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self.ae = ae
        self.server = None
        self.port = 0

    def start(self):
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_ACCEPTED, self._accepted),
        ]
        self.server = self.ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls
        )
        self.port = self.server.socket.getsockname()[1]
        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
        self.server = None

    @property
    def address(self):
        return Address(self.ae.ae_title, "127.0.0.1", self.port)

    def wait(self, predicate, timeout_s=15):
        """Wait until something that this PACS has seen makes `predicate` true."""
        with self.lock:
            assert self.lock.wait_for(predicate, timeout_s), "not in time"

    def _accepted(self, event):
        with self.lock:
            self.calling.append(event.assoc.requestor.ae_title)
            self.lock.notify_all()

    def _store(self, event):
        self.before_store(event)
        request = event.request
        uid = str(request.AffectedSOPInstanceUID)
        data = request.DataSet.getvalue()
        with self.lock:
            nth = sum(known == uid for known, _, _ in self.received)
            self.received.append((uid, hashlib.sha256(data).hexdigest(), event.context.transfer_syntax))
            status = self.status(uid, str(request.AffectedSOPClassUID), nth)
            if status == 0 or 0xB000 <= status <= 0xBFFF:
                ds = event.dataset
                self.held[uid] = (str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))
            self.lock.notify_all()
        return status

    def _find_study(self, event):
        query = event.identifier
        with self.lock:
            self.studies_asked.append(str(query.StudyInstanceUID))
            self.lock.notify_all()
        if self.study_status == "abort":
            event.assoc.abort()
            return
        if self.study_status:
            yield self.study_status, None
            return
        for patient in self.patients(str(query.StudyInstanceUID)):
            ds = Dataset()
            ds.QueryRetrieveLevel = "STUDY"
            ds.StudyInstanceUID = query.StudyInstanceUID
            for keyword, value in patient.items():
                setattr(ds, keyword, value)
            yield 0xFF00, ds

    def _find(self, event):
        if event.identifier.QueryRetrieveLevel == "STUDY":
            yield from self._find_study(event)
            return
        with self.lock:
            self.finds += 1
            self.lock.notify_all()
            if self.find_status == "abort":
                event.assoc.abort()
                return
            if self.find_status:
                yield self.find_status, None
                return
            query = event.identifier
            assert query.QueryRetrieveLevel == "IMAGE"
            wanted = query.get("SOPInstanceUID") or ""
            answers = [
                uid
                for uid, (study, series) in self.held.items()
                if (study, series) == (query.StudyInstanceUID, query.SeriesInstanceUID)
                and wanted in ("", uid)
                and self.visible(uid)
            ]
        for uid in answers:
            ds = Dataset()
            ds.QueryRetrieveLevel = "IMAGE"
            ds.SOPInstanceUID = uid
            yield 0xFF00, ds


@pytest.fixture
def quick():
    return Timeouts(connect_s=2, acse_s=1, dimse_s=2)


@pytest.fixture
def make_object():
    return write_object


@pytest.fixture
def dataset_bytes():
    return read_dataset_bytes


@pytest.fixture
def make_pacs():
    made = []

    def make(**options):
        made.append(Pacs(**options).start())
        return made[-1]

    yield make
    for pacs in made:
        pacs.stop()


@pytest.fixture
def closed_port():
    """A port on which nobody listens: bound, so that nobody else gets it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent_port():
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield server.getsockname()[1]
