"""Images that come again under another patient or study, before, while and after their results are sent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.sop_class import BasicTextSRStorage

from dicom_node.errors import StateError
from dicom_node.jobs import ways_out
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import series_identity
from dicom_node.jobs.why import why
from dicom_node.node.node import FORMER
from pipelines.types import Findings, Pipeline, PipelineInfo, Progress, Volume
from tests.dicom_node.deliver.conftest import Pacs
from tests.dicom_node.node.test_mixed_series import ONE, PATIENT, TWO, alter
from tests.dicom_node.node.test_node import FLAIR, INSTALLED, Rig, until
from worker.tasks import Workplace, run_job

pytestmark = pytest.mark.slow

PEOPLE = ("4711", "0815", "Phantom")


class Registry:
    """One pipeline that finds nothing, and does something else meanwhile."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.meanwhile = meanwhile

    def installed(self) -> Mapping[str, PipelineInfo]:
        return INSTALLED

    def load(self, name: str, device: str) -> Pipeline:
        def find_nothing(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
            self.meanwhile()
            return Findings(status="none")

        return find_nothing


class Site(Rig):
    """A node with a PACS that keeps what it takes, and a worker that is called by the test."""

    def __init__(self, folder: Path) -> None:
        self.pacs = Pacs()
        self.got: list[Dataset] = []
        self.pacs.before_store = self._keep
        self.pacs.start()
        destination = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": self.pacs.port}
        super().__init__(folder, destination=[{**destination, "confirm": "none"}])

    def _keep(self, event: evt.Event) -> None:
        self.got.append(event.dataset)

    def stop(self) -> None:
        super().stop()
        self.pacs.stop()

    def job(self, uid: str) -> JobRow:
        (job,) = self.node.store.jobs_of(uid)
        return job

    def wait_job(self, uid: str, *states: JobState, run: int = 0) -> JobRow:
        def is_there() -> bool:
            return any(job.state in states and job.run >= run for job in self.node.store.jobs_of(uid))

        until(is_there, lambda: f"{self.log()}\n{[(j.state, j.run) for j in self.node.store.jobs_of(uid)]}")
        return self.job(uid)

    def wait_line(self, event: str, identifier: str) -> dict[str, Any]:
        """Return the last line of an event about a series or job, once there is one."""
        short = identifier[:8]
        until(lambda: any(line["id"] == short for line in self.events(event)), self.log)
        return [line for line in self.events(event) if line["id"] == short][-1]

    def series(self, uid: str) -> tuple[str, str]:
        row = self.node.store.series(uid)
        assert row is not None
        return row.state, row.reason

    def analyse(self, uid: str) -> None:
        job = self.wait_job(uid, JobState.QUEUED)
        until(lambda: not (self.data / "results" / job.id).exists(), self.log)
        assert run_job(self.node.message_of(job), Workplace(self.data, "cpu", Registry()))
        self.node.reconciler.wake()

    def deliver(self, uid: str, count: int) -> list[Dataset]:
        """Analyse, and return what the PACS has got of it."""
        self.analyse(uid)
        self.wait_job(uid, JobState.DELIVERED)
        assert len(self.got) == count
        return self.got


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("node"))
    yield site
    site.stop()


@pytest.fixture
def site(running: Site) -> Site:
    running.got.clear()
    running.pacs.patients = lambda study_uid: [{}]
    return running


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return mr_series(tmp_path / "sent", shape=(12, 32, 32), seed=str(tmp_path), **{**FLAIR, **ONE})


def uid_of(files: list[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).SeriesInstanceUID)


def corrected(files: list[Path], **elements: Any) -> list[Path]:
    for path in files:
        alter(path, **elements)
    return files


def test_queued_job_waits_for_the_whole_correction_and_is_made_again(site: Site, files: list[Path]) -> None:
    site.send(files)
    uid = uid_of(files)
    first = site.wait_job(uid, JobState.QUEUED)
    site.send(corrected(files[:5], **TWO))
    until(lambda: site.series(uid) == (SeriesState.HELD, PATIENT), site.log)
    assert site.job(uid).state == JobState.ABANDONED
    assert site.wait_line("corrected", series_identity(uid))["images"] == 5
    with pytest.raises(StateError, match="more than one patient"):
        site.node.steering.steer("retry", first.id)
    site.send(corrected(files[5:], **TWO))
    again = site.wait_job(uid, JobState.QUEUED)
    assert (again.id, again.run > first.run) == (first.id, True)
    got = site.deliver(uid, 2)
    assert {ds.PatientID for ds in got} == {TWO["PatientID"]}
    assert not any(word in site.log() for word in PEOPLE)


def test_run_that_read_the_former_identity_and_ends_late_is_not_sent(site: Site, files: list[Path]) -> None:
    site.send(files)
    uid = uid_of(files)
    job = site.wait_job(uid, JobState.QUEUED)

    def correct_a_part() -> None:
        site.send(corrected(files[:5], **TWO))
        site.wait_line("corrected", series_identity(uid))

    workplace = Workplace(site.data, "cpu", Registry(correct_a_part))
    assert run_job(site.node.message_of(job), workplace)
    assert (site.job(uid).state, site.got) == (JobState.ABANDONED, [])
    site.send(corrected(files[5:], **TWO))
    site.wait_job(uid, JobState.QUEUED, run=2)
    assert not (site.data / "results" / job.id).exists()
    assert {ds.PatientID for ds in site.deliver(uid, 2)} == {TWO["PatientID"]}


def test_what_waits_for_a_dead_pacs_leaves_under_the_later_identity_only(
    site: Site, files: list[Path]
) -> None:
    site.pacs.stop()
    site.send(files)
    uid = uid_of(files)
    site.analyse(uid)
    site.wait_job(uid, JobState.DELIVERING)
    site.wait_line("delivery-retry", site.job(uid).id)
    site.send(corrected(files, **TWO))
    again = site.wait_job(uid, JobState.QUEUED, run=2)
    site.pacs.start()
    site.node.outbox.wake()
    got = site.deliver(uid, 2)
    assert {ds.PatientID for ds in got} == {TWO["PatientID"]}
    assert again.run > 1


def test_delivered_results_are_named_and_retry_sends_them_under_the_corrected_identity(
    site: Site, files: list[Path]
) -> None:
    site.send(files)
    uid = uid_of(files)
    first = list(site.deliver(uid, 2))
    study = "1.2.826.0.1.3680043.8.498.77"
    site.send(corrected(files, **TWO, StudyInstanceUID=study))
    job = site.job(uid)
    line = site.wait_line("former-identity", job.id)
    way_out = f"dicom-node retry {job.id[:8]}"
    assert (line["destination"], line["objects"]) == ("pacs", 2)
    assert way_out in line["reason"]
    until(lambda: site.series(uid)[0] == SeriesState.ROUTED, site.log)
    assert job.state == JobState.DELIVERED
    assert any(text == f"  {ways_out.of_former_identity(job.id)}" for text, _ in why(site.data, job.id[:8]))
    site.node.steering.steer("retry", job.id)
    later = site.deliver(uid, 4)[2:]
    assert {(ds.PatientID, str(ds.StudyInstanceUID)) for ds in later} == {(TWO["PatientID"], study)}
    assert not {ds.SOPInstanceUID for ds in first} & {ds.SOPInstanceUID for ds in later}
    report = next(ds for ds in later if "PredecessorDocumentsSequence" in ds)
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID in {ds.SOPInstanceUID for ds in first}
    assert not any("they name now" in text for text, _ in why(site.data, job.id[:8]))
    assert not any(word in site.log() for word in PEOPLE)
    store = site.node.store
    assert [found.series_uid for found in store.find(study).series] == [uid]


def test_results_held_for_another_patient_are_sent_once_the_images_come_corrected(
    site: Site, files: list[Path]
) -> None:
    site.pacs.patients = lambda study_uid: [TWO]
    site.send(files)
    uid = uid_of(files)
    site.analyse(uid)
    job = site.wait_job(uid, JobState.UNDELIVERED)
    assert any("patient ID, birth date differ" in text for text, _ in why(site.data, job.id[:8]))
    site.send(corrected(files, **TWO))
    got = site.deliver(uid, 2)
    assert {ds.PatientID for ds in got} == {TWO["PatientID"]}
    assert not any(word in site.log() for word in PEOPLE)


def test_part_that_was_sent_is_named_and_all_of_it_is_made_again(site: Site, files: list[Path]) -> None:
    site.pacs.status = lambda uid, sop_class, nth: 0xA700 if sop_class == BasicTextSRStorage else 0
    site.send(files)
    uid = uid_of(files)
    site.analyse(uid)
    job = site.wait_job(uid, JobState.DELIVERING)
    site.wait_line("delivery-retry", job.id)
    site.send(corrected(files, **TWO))
    line = site.wait_line("former-identity", job.id)
    assert (line["destination"], line["objects"]) == ("pacs", 1)
    assert "analysed again" in line["reason"]
    site.pacs.status = lambda uid, sop_class, nth: 0
    site.got.clear()
    assert {ds.PatientID for ds in site.deliver(uid, 2)} == {TWO["PatientID"]}


def test_lost_database_and_receipts_send_nothing_under_the_former_identity(
    site: Site, files: list[Path]
) -> None:
    site.send(files)
    uid = uid_of(files)
    site.deliver(uid, 2)
    site.send(corrected(files, **TWO))
    job = site.job(uid)
    site.wait_line("former-identity", job.id)
    site.node.stop()
    (site.data / "state.sqlite").unlink()
    shutil.rmtree(site.data / "results" / job.id / "delivered")
    site.got.clear()
    site.start()
    assert site.wait_job(uid, JobState.UNDELIVERED).reason == FORMER
    site.node.steering.steer("retry", job.id)
    assert {ds.PatientID for ds in site.deliver(uid, 2)} == {TWO["PatientID"]}


def test_crash_before_the_database_knows_of_a_corrected_copy_is_made_good(
    site: Site, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.send(files)
    uid = uid_of(files)
    job = site.wait_job(uid, JobState.QUEUED)

    def refuse(headers: object, at: float) -> None:
        raise StateError("locked")

    monkeypatch.setattr(site.node.store, "correct_images", refuse)
    site.send(corrected(files, **TWO))
    until(lambda: site.job(uid).state == JobState.ABANDONED, site.log)
    site.node.stop()
    assert len(list((site.data / "inbox").glob("*.dcm"))) == 12
    site.start()
    assert site.wait_job(uid, JobState.QUEUED, run=2).id == job.id
    until(lambda: not list((site.data / "inbox").glob("*.dcm")), site.log)
    site.wait_job(uid, JobState.QUEUED, run=2)
    assert {ds.PatientID for ds in site.deliver(uid, 2)} == {TWO["PatientID"]}


def test_job_that_a_person_holds_stays_held(site: Site, files: list[Path]) -> None:
    site.send(files)
    uid = uid_of(files)
    job = site.wait_job(uid, JobState.QUEUED)
    site.node.steering.steer("hold", job.id)
    site.send(corrected(files, **TWO))
    site.wait_line("corrected", series_identity(uid))
    until(lambda: site.series(uid)[0] == SeriesState.ROUTED, site.log)
    assert site.job(uid).state == JobState.HELD
    site.node.steering.steer("release", job.id)
    assert {ds.PatientID for ds in site.deliver(uid, 2)} == {TWO["PatientID"]}


@pytest.mark.parametrize("coerced", [{"PatientName": "Phantom^Other"}, {"IssuerOfPatientID": "A"}])
def test_copy_whose_identity_agrees_is_a_duplicate(
    site: Site, files: list[Path], coerced: dict[str, str]
) -> None:
    site.send(files)
    uid = uid_of(files)
    job = site.wait_job(uid, JobState.QUEUED)
    duplicates = len(site.events("duplicate"))
    site.send(corrected(files, **coerced))
    site.wait_for("duplicate", duplicates + 1)
    assert (site.job(uid).run, site.job(uid).state) == (job.run, JobState.QUEUED)
