"""A PACS with earlier studies that can be told to misbehave, and a node's side without workers that asks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from factories import mr_series
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    MRImageStorage,
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)
from rig import JobsRig, ReadHere

from dicom_node.config.settings import load_settings
from dicom_node.intake.intake import Intake
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.priors.prior import Prior, priors_of
from dicom_node.priors.service import Priors
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.limits import Limits
from dicom_node.receive.receiver_processes import Receivers
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.prior_searches import PriorSearch, read_search
from dicom_node.spool.spool import Spool
from dicom_node.worklog.follow import records
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

INSTALLED = {"flair": PipelineInfo("flair", "FLAIR lesions", "1", "0" * 64)}
FLAIR: dict[str, Any] = {"EchoTime": 90.0, "RepetitionTime": 9000.0, "shape": (6, 16, 16)}
PATIENT = {"PatientID": "P-1", "PatientBirthDate": "19800101", "PatientSex": "F", "PatientName": "Doe^Jane"}
WAIT_S = 300
PENDING, BUSY = 0xFF00, 0xA702


def until(condition: Callable[[], Any], what: str, timeout_s: float = 200.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return result


def flair(folder: Path, day: str, **tags: Any) -> list[Path]:
    """Write a FLAIR series of one patient on one day; files of a folder are of one study."""
    return mr_series(folder, **{**FLAIR, **PATIENT, "StudyDate": day, "seed": str(folder), **tags})


class RigPacs:
    """Archive that shows and sends the files that it is given.

    Attributes
    ----------
    node : (str, int) or None
        AE title and port of the node that it knows as a move destination.
    says : dict
        Elements of its answers to C-FIND that differ from those of its files.
    hides : list of str
        Elements that its answers leave blank.
    move : callable
        Gets the datasets that match, and yields what pynetdicom's C-MOVE handler does after the address.
    asked : list of str
        Series Instance UIDs that were asked for.
    found : list of Dataset
        Questions that it was asked.
    """

    def __init__(self) -> None:
        self.images: list[Dataset] = []
        self.node: tuple[str, int] | None = None
        self.says: dict[str, Any] = {}
        self.hides: list[str] = []
        self.move: Callable[[list[Dataset]], Iterator[Any]] = all_of
        self.asked: list[str] = []
        self.found: list[Dataset] = []
        self.before_sending: Callable[[list[Dataset]], None] = lambda images: None
        ae = AE("PACS")
        for model in (
            StudyRootQueryRetrieveInformationModelFind,
            StudyRootQueryRetrieveInformationModelMove,
            StudyRootQueryRetrieveInformationModelGet,
            Verification,
        ):
            ae.add_supported_context(model)
        ae.add_supported_context(MRImageStorage, ExplicitVRLittleEndian, scu_role=True, scp_role=True)
        for storage in (MRImageStorage, SecondaryCaptureImageStorage):
            ae.add_requested_context(storage, ExplicitVRLittleEndian)
        self._ae = ae
        handlers: list[Any] = [
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_MOVE, self._on_move),
            (evt.EVT_C_GET, self._on_get),
        ]
        self._server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.port: int = self._server.socket.getsockname()[1]

    def has(self, *series: list[Path]) -> None:
        """Take files."""
        self.images += [dcmread(path) for paths in series for path in paths]

    def send(self, images: list[Dataset]) -> None:
        """Send images to the node on an association of its own."""
        assert self.node is not None
        assoc = self._ae.associate("127.0.0.1", self.node[1], ae_title=self.node[0])
        assert assoc.is_established
        for image in images:
            assert assoc.send_c_store(image).Status == 0
        assoc.release()

    def stop(self) -> None:
        self._server.shutdown()

    def _matching(self, ds: Dataset) -> list[Dataset]:
        keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
        last_day = str(ds.get("StudyDate") or "").removeprefix("-") or "99999999"
        return [
            image
            for image in self.images
            if all(not ds.get(key) or image.get(key) == ds.get(key) for key in keys)
            and str(image.get("StudyDate") or "") <= last_day
        ]

    def _on_find(self, event: Any) -> Iterator[Any]:
        ds = event.identifier
        self.found.append(ds)
        unique = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
        matching = self._matching(ds)
        for image in {image[unique[ds.QueryRetrieveLevel]].value: image for image in matching}.values():
            answer = Dataset()
            for element in ds:
                if element.keyword not in self.hides:
                    setattr(answer, element.keyword, image.get(element.keyword))
            answer.QueryRetrieveLevel = ds.QueryRetrieveLevel
            if "ModalitiesInStudy" in ds:
                answer.ModalitiesInStudy = image.Modality
            if "NumberOfSeriesRelatedInstances" in ds:
                same = [one for one in matching if one.SeriesInstanceUID == image.SeriesInstanceUID]
                answer.NumberOfSeriesRelatedInstances = len(same)
            for keyword, value in self.says.items():
                setattr(answer, keyword, value)
            yield PENDING, answer

    def _on_move(self, event: Any) -> Iterator[Any]:
        self.asked.append(str(event.identifier.SeriesInstanceUID))
        if self.node is None or event.move_destination != self.node[0]:
            yield None, None
            return
        images = self._matching(event.identifier)
        self.before_sending(images)
        yield "127.0.0.1", self.node[1], {"contexts": self._ae.requested_contexts}
        yield from self.move(images)

    def _on_get(self, event: Any) -> Iterator[Any]:
        self.asked.append(str(event.identifier.SeriesInstanceUID))
        yield from all_of(self._matching(event.identifier))


def all_of(images: list[Dataset]) -> Iterator[Any]:
    """Send everything."""
    yield len(images)
    for image in images:
        yield PENDING, image


def nothing(images: list[Dataset]) -> Iterator[Any]:
    """Say that all is done, and send nothing."""
    yield 0


def busy(images: list[Dataset]) -> Iterator[Any]:
    """Lack resources."""
    yield len(images)
    yield BUSY, None


def write_answer(results: Path, job: JobRow, image: Path) -> None:
    """Write what a worker leaves of a job: a report that names the patient of an image, and a manifest."""
    header = dcmread(image, stop_before_pixels=True)
    folder = results / f"{job.id}.made"
    folder.mkdir()
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", f"1.2.3.{int(job.id[:12], 16)}"
    ds.StudyInstanceUID, ds.PatientID = header.StudyInstanceUID, header.PatientID
    ds.save_as(folder / "sr.dcm", enforce_file_format=True)
    item = ResultObject("sr", "sr.dcm", ds.SOPClassUID, ds.SOPInstanceUID, "1.2", header.StudyInstanceUID, "")
    manifest = Manifest(job.id, job.run, "flair", "findings", "", "2026-11-30T00:00:00+00:00", (item,))
    manifest.write(folder)
    folder.rename(results / job.id)


class Bench:
    """A node's receiver and intake, with a search service whose steps are done by hand, and jobs that are answered by hand."""

    def __init__(
        self,
        root: Path,
        pacs: RigPacs,
        archive: tuple[str, int] | None = None,
        node_port: int = 0,
        **section: Any,
    ) -> None:
        """Ask `pacs`, or an archive by another AE title and port, while `pacs` only sends what is current."""
        self.root = root
        self.pacs = pacs
        self.node_port = node_port
        ae_title, port = archive or ("PACS", pacs.port)
        pacs_table = {"name": "pacs", "ae_title": ae_title, "host": "127.0.0.1", "port": port}
        self.settings = load_settings(
            None,
            {
                "node": {"data": str(root)},
                "series": {"quiet_s": 0.05},
                "destination": [pacs_table],
                "priors": {"from": "pacs", "wait_s": WAIT_S, **section},
            },
        )
        self.now_s = 0.0  # how far its clock is ahead
        self.start()

    def start(self) -> None:
        """Begin; where there is something already, as after a crash."""
        self.spool = Spool(self.root, 1.0)
        self.store = Store(self.root / "state.sqlite", self.spool.jobs)
        self.worklog = Worklog(self.root)
        self.intake = Intake(
            self.settings,
            self.spool,
            self.store,
            self.worklog,
            INSTALLED,
            JobsRig(self.root, Queues()).reconciler,
            reader=ReadHere(self.spool),
            on_prior=lambda uid: self.priors.verdict_told(uid),  # noqa: PLW0108 - it is made after this
        )
        self.intake.start()
        gate = Gate(Admission((), require_called_ae=True), "LESIONNODE", max_associations=8, max_per_caller=0)
        self.receivers = Receivers(
            host="127.0.0.1",
            port=self.node_port,
            ae_title="LESIONNODE",
            spool=self.spool,
            gate=gate,
            limits=Limits(),
            tls=None,
            events=self.intake,
            processes=0,
        )
        self.receivers.start()
        self.pacs.node = "LESIONNODE", self.receivers.port
        self.priors = Priors(
            self.settings, self.spool, self.store, self.worklog, self.intake, lambda: time.time() + self.now_s
        )

    def stop(self) -> None:
        self.priors.stop()
        self.receivers.stop()
        self.intake.stop()
        self.worklog.close()
        self.store.close()

    def answered(self, series: list[Path], outcome: str = "findings") -> JobRow:
        """Let a series come in, and its job be analysed and delivered; return the job."""
        self.pacs.send([dcmread(path) for path in series])
        uid = str(dcmread(series[0]).SeriesInstanceUID)
        job = until(lambda: self.jobs(uid), "a job")[-1]
        write_answer(self.spool.results, job, series[0])
        self.store.move_job(job.id, JobState.DELIVERING, "", outcome=outcome)
        self.store.move_job(job.id, JobState.DELIVERED)
        return job

    def search(self) -> None:
        """Do the searches that are due."""
        while self.priors.step() == 0.0:
            pass

    def let_wait_pass(self, when: Callable[[], bool]) -> None:
        """Have the wait for images be over at once, as soon as something holds."""
        verdicts = self.priors._verdicts
        wait = verdicts.wait

        def pass_by(timeout_s: float) -> bool:
            if when():
                self.now_s += WAIT_S + 10.0
                return True
            return wait(timeout_s)

        verdicts.wait = pass_by  # type: ignore[method-assign]

    def jobs(self, series_uid: str) -> list[JobRow]:
        return self.store.jobs_of(series_uid)

    def series(self, files: list[Path]) -> SeriesRow | None:
        return self.store.series(str(dcmread(files[0]).SeriesInstanceUID))

    def found(self, job: JobRow) -> tuple[Prior, ...]:
        return priors_of(self.store, self.spool, job.id, self.settings.priors)

    def record(self, job: JobRow) -> PriorSearch:
        search = read_search(self.spool, job.id)
        assert search is not None
        return search

    def events(self, name: str) -> list[Mapping[str, Any]]:
        return [record.figures for record in records(self.root) if record.event == name]


class Queues:
    """A broker that takes nothing."""

    def forget(self, job_id: str, queue: str) -> None:
        """Have no messages."""


def run_later(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread
