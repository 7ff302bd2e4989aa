"""Jobs of comparisons: one for each analysis and prior, whoever makes it, however often, and gone with what it rests on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from rig import JobsRig, manifest

from dicom_node.config.sections import PriorsSection
from dicom_node.intake.corrections import Corrections
from dicom_node.jobs.comparison_job import CHANGE, Compared
from dicom_node.jobs.comparison_turns import take_turn
from dicom_node.jobs.message import KnownLesion
from dicom_node.jobs.retention_reasons import Keeping, Reason
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store, job_identity
from dicom_node.jobs.tracked_lesions import (
    known_lesions,
    last_number,
    read_tracking,
    record_lesions,
    write_tracking,
)
from dicom_node.priors.comparisons import Comparisons
from dicom_node.series.headers import ImageHeader, read_header
from dicom_node.spool.examined import examined_name
from dicom_node.spool.prior_searches import PriorSearch
from dicom_node.spool.run_folder import LOST, STARTED, RunFolder, note_death
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

PATIENT = {"PatientID": "P-1", "PatientBirthDate": "19800101", "PatientSex": "F", "shape": (6, 16, 16)}
SETTINGS = {"threshold": 0.5}
INFO = PipelineInfo("flair", "FLAIR lesions", "1", "weights")


class Queues:
    """A broker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def enqueue(self, job: JobRow, message: object) -> None:
        self.told.append(job.id)

    def ping(self) -> str:
        return "the same"

    def places(self, queue: str) -> dict[str, str]:
        return {}

    def forget(self, job_id: str, queue: str) -> None:
        """Have no messages."""


class Bench:
    """A node's side with an analysed study of today and a prior of each day that the test names."""

    def __init__(self, root: Path) -> None:
        self.queues = Queues()
        self.rig = JobsRig(root, self.queues)
        self.store, self.spool = self.rig.store, self.rig.spool
        self.worklog = Worklog(root)
        self.guard = threading.RLock()
        self.comparisons = self.another()

    def another(self, section: PriorsSection | None = None) -> Comparisons:
        return Comparisons(
            section or PriorsSection(),
            self.spool,
            self.store,
            self.worklog,
            {"flair": INFO},
            self.rig.reconciler,
            self.guard,
        )

    def series(self, day: str, state: SeriesState, **tags: Any) -> str:
        paths = mr_series(self.spool.series / day, StudyDate=day, seed=day, **{**PATIENT, **tags})
        headers = [read_header(path, key=self.spool.identity_key) for path in paths]
        for path, header in zip(paths, headers, strict=True):
            self.store.add_image(header, self.spool.relative(path), "SCANNER", time.time())
        self.store.move_series(headers[0].series_uid, state)
        return headers[0].series_uid

    def analysed(self, day: str = "20261130", run: int = 1, **tags: Any) -> JobRow:
        uid = self.series(day, SeriesState.ROUTED, **tags)
        rows = self.store.images(uid)
        job_id = job_identity([row.sop_instance_uid for row in rows], "flair", "weights", SETTINGS)
        assert self.store.create_job(
            job_id=job_id,
            series_uid=uid,
            pipeline="flair",
            rule="",
            state=JobState.QUEUED,
            settings=SETTINGS,
            images=[row.path for row in rows],
        )
        return self.answered(job_id)

    def answered(self, job_id: str) -> JobRow:
        return self.store.move_job(job_id, JobState.DELIVERING, outcome="findings")

    def begin(self, job: JobRow, *priors: str) -> str:
        return self.comparisons.begin(PriorSearch(job.id, job.run, "done", priors=list(priors)))

    def job(self, job_id: str) -> JobRow:
        job = self.store.job(job_id)
        assert job is not None
        return job

    def changes(self) -> list[str]:
        return [job.state for job in self.store.jobs_in(*JobState) if job.pipeline == CHANGE]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "data")
    yield bench
    bench.worklog.close()
    bench.store.close()


def test_search_that_found_a_prior_leads_to_one_job_however_often_it_is_taken_up(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    first = bench.begin(job, prior)
    made = bench.job(first)
    assert (made.series_uid, made.pipeline, made.state) == (job.series_uid, CHANGE, JobState.QUEUED)
    assert made.settings == {"threshold": 0.5, "of": job.id, "run": 1, "prior": prior, "self_grade": True}
    assert Compared.of(made) == Compared(job.id, 1, prior)
    bench.comparisons = bench.another()  # another process, as after a kill
    assert bench.begin(job, prior) == first
    assert bench.changes() == ["queued"]


def test_search_without_a_prior_or_of_an_earlier_run_leads_to_none(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    assert bench.begin(job) == ""
    assert bench.comparisons.begin(PriorSearch(job.id, 1, "waiting", priors=[prior])) == ""
    assert bench.comparisons.begin(PriorSearch(job.id, 2, "done", priors=[prior])) == ""
    bench.rig.reconciler.again(job.id, "asked for by a person")
    assert bench.comparisons.begin(PriorSearch(job.id, 1, "done", priors=[prior])) == ""
    assert bench.changes() == []


def test_series_that_is_analysed_again_is_compared_again_in_place_of_before(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    waiting = bench.begin(job, prior)
    bench.rig.reconciler.again(job.id, "asked for by a person")
    second = bench.begin(bench.answered(job.id), prior)
    assert bench.job(waiting).state == JobState.ABANDONED
    assert (bench.job(second).state, bench.job(second).replaces) == (JobState.QUEUED, "")
    bench.store.move_job(second, JobState.DELIVERING, outcome="findings")
    bench.rig.reconciler.again(job.id, "asked for by a person")
    third = bench.begin(bench.answered(job.id), prior)
    assert bench.job(third).replaces == second


class Killed(BaseException):
    """What ends a process at once."""


@pytest.mark.parametrize("step", ["withdraw", "create_job", "insert_job"])
def test_kill_at_any_step_leaves_one_comparison(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    bench.begin(job, prior)
    bench.rig.reconciler.again(job.id, "asked for by a person")
    job = bench.answered(job.id)
    owner = bench.rig.reconciler if step == "withdraw" else bench.store

    def kill(*given: Any, **named: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, kill)
        with pytest.raises(Killed):
            bench.begin(job, prior)
    bench.comparisons = bench.another()
    first, second = bench.begin(job, prior), bench.begin(job, prior)
    assert first == second and sorted(bench.changes()) == ["abandoned", "queued"]


def test_correction_of_either_study_takes_a_comparison_back(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    for series_uid in (prior, job.series_uid):
        change = bench.begin(bench.job(job.id), prior)
        headers = [ImageHeader.from_json(row.header) for row in bench.store.images(series_uid)]
        assert headers[0].identity is not None
        other = [
            replace(header, identity=replace(headers[0].identity, patient_id="another")) for header in headers
        ]
        corrections = Corrections(
            bench.store,
            bench.rig.reconciler,
            lambda row: ImageHeader.from_json(row.header),
            lambda uid: None,
        )
        corrections.take(other, time.time())
        assert bench.job(change).state == JobState.ABANDONED
        told = bench.comparisons.prior_of(bench.job(change))
        if series_uid == prior:
            assert (told.refusal, told.images) == ("patient ID differs", ())
            corrections.take(headers, time.time())
            bench.rig.reconciler.again(job.id, "asked for by a person")
            bench.answered(job.id)


def test_two_studies_of_one_patient_are_each_compared(bench: Bench):
    prior = bench.series("20250301", SeriesState.PRIOR)
    jobs = [bench.analysed("20261130"), bench.analysed("20261129")]
    threads = [threading.Thread(target=bench.begin, args=(job, prior)) for job in jobs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bench.changes() == ["queued", "queued"]


def test_worker_is_told_where_the_prior_lies_and_what_is_known_of_it(bench: Bench):
    before = bench.analysed("20250301")  # analysed in its own time, by the same weights
    job = bench.analysed()
    change = bench.job(bench.begin(job, before.series_uid))
    known = (KnownLesion(3, (1.0, 2.0, 3.0), "2.25.7", "L09", "examined/x.npz"),)
    patient = ImageHeader.from_json(bench.store.images(job.series_uid)[0].header).identity
    assert patient is not None
    record_lesions(bench.store, patient.patient_id, {before.series_uid: known})
    told = bench.comparisons.prior_of(change)
    assert (told.refusal, sorted(told.images)) == ("", sorted(before.images))
    assert told.examined == examined_name(before.series_uid, before.id)
    assert bench.comparisons.examined(change) == bench.comparisons.examined(job)
    assert bench.comparisons.examined(job) == examined_name(job.series_uid, job.id)
    assert (told.lesions, told.current_lesions, told.last_number) == (known, (), 9)


def test_prior_that_was_removed_meanwhile_is_no_prior(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    change = bench.job(bench.begin(job, prior))
    bench.store.move_series(prior, SeriesState.RECEIVING)
    assert bench.comparisons.prior_of(change).refusal == "in state receiving"
    forgotten = bench.store.update_job(change.id, settings={**change.settings, "prior": "1.2.3"})
    assert "no longer in the data folder" in bench.comparisons.prior_of(forgotten).refusal


def test_prior_stays_until_it_is_compared(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    change = bench.begin(job, prior)
    keeping = Keeping(bench.store, bench.spool, 1.0, {"pacs": False})
    row = bench.store.series(prior)
    assert isinstance(row, SeriesRow)
    later = time.time() + 1e6
    assert keeping.cause(row, later) == (Reason.COMPARED, change)
    bench.store.move_job(change, JobState.DELIVERING)
    assert keeping.cause(row, later) == (Reason.NONE, row.id)


def test_identities_that_a_comparison_gave_are_known_to_the_next(bench: Bench):
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    change = bench.job(bench.begin(job, prior))
    folder = bench.spool.results / change.id
    folder.mkdir()
    bench.comparisons.take_tracking(change)
    tracked = {
        prior: (KnownLesion(1, (0.0, 0.0, 0.0), "2.25.1", "L01", "a"),),
        job.series_uid: (KnownLesion(4, (1.0, 1.0, 1.0), "2.25.12", "L112", "b"),),
    }
    write_tracking(folder, tracked)
    assert read_tracking(folder) == tracked
    for _ in range(2):  # and again after a restart
        bench.comparisons.take_tracking(change)
    assert {uid: known_lesions(bench.store, uid) for uid in tracked} == tracked
    identity = ImageHeader.from_json(bench.store.images(prior)[0].header).identity
    assert identity is not None
    assert (last_number(bench.store, identity.patient_id), last_number(bench.store, "x")) == (112, 0)


def two_of_one_patient(bench: Bench) -> tuple[str, list[str]]:
    """Return a prior, and the comparisons of two later studies with it."""
    prior = bench.series("20250301", SeriesState.PRIOR)
    return prior, [bench.begin(bench.analysed(day), prior) for day in ("20261101", "20261130")]


def test_of_two_comparisons_of_one_patient_at_once_one_has_its_turn(bench: Bench):
    _, changes = two_of_one_patient(bench)
    other = bench.begin(
        bench.analysed("20261015", PatientID="P-2"),
        bench.series("20250415", SeriesState.PRIOR, PatientID="P-2"),
    )
    stores = [Store(bench.spool.root / "state.sqlite", bench.spool.jobs) for _ in range(8)]
    ready = threading.Barrier(len(stores))
    waits: dict[int, str] = {}

    def take(number: int) -> None:
        ready.wait(60)
        waits[number] = take_turn(stores[number], changes[number % 2])

    threads = [threading.Thread(target=take, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for store in stores:
        store.close()
    by_job = [{waits[number] for number in range(turn, len(stores), 2)} for turn in range(2)]
    assert by_job in ([{""}, {changes[0]}], [{changes[1]}, {""}])
    assert take_turn(bench.store, other) == "", "another patient waits for nobody"


@pytest.mark.parametrize("is_lost", [False, True])
def test_second_comparison_of_a_patient_is_told_the_numbers_that_the_first_gave(bench: Bench, is_lost: bool):
    prior, (first, second) = two_of_one_patient(bench)
    bench.rig.reconciler.step()
    assert bench.queues.told == [first]
    assert bench.job(second).reason == f"waits for job {first[:8]}, a comparison of the same patient"
    if is_lost:  # its worker dies: the next run keeps the turn
        claimed = RunFolder.claim(bench.spool.results, first, 1)
        assert claimed is not None
        claimed.event(STARTED, worker="w")
        note_death(claimed.path, LOST, "the worker died")
        for _ in range(3):
            bench.rig.reconciler.step()
        assert (bench.job(first).run, set(bench.queues.told)) == (2, {first})
    run = RunFolder.claim(bench.spool.results, first, bench.job(first).run)
    assert run is not None
    series = bench.job(first).series_uid
    tracked = {
        prior: (KnownLesion(1, (0.0, 0.0, 0.0), "2.25.1", "L01", "a"),),
        series: (
            KnownLesion(1, (0.0, 0.0, 0.0), "2.25.1", "L01", "b"),
            KnownLesion(2, (9.0, 0.0, 0.0), "2.25.2", "L02", "b"),
        ),
    }
    write_tracking(run.path, tracked)
    manifest(first, bench.job(first).run, "findings").write(run.path)
    assert run.publish()
    for _ in range(2):
        bench.rig.reconciler.step()
    assert bench.queues.told[-1] == second and bench.job(second).reason == ""
    told = bench.comparisons.prior_of(
        bench.job(second)
    )  # before the node has heard of the first one's result
    assert (told.last_number, told.lesions, told.current_lesions) == (2, tracked[prior], ())


def test_trial_on_itself_can_be_switched_off(bench: Bench):
    bench.comparisons = bench.another(PriorsSection(self_grade=False))
    job, prior = bench.analysed(), bench.series("20250301", SeriesState.PRIOR)
    assert bench.job(bench.begin(job, prior)).settings["self_grade"] is False


def test_spool_names_what_was_found_after_series_and_analysis(tmp_path: Path):
    assert Spool(tmp_path).examined.is_dir()
    assert examined_name("1.2/../3", "k" * 32).count("/") == 1
