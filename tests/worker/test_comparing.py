"""From the message of a comparison to a published folder: networks, rule and trial on itself are played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import CHANGE_MODEL, comparison, mr_series
from pydicom import dcmread

from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.message import JobMessage, PriorImages, ResultSettings
from dicom_node.jobs.tracked_lesions import read_tracking
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.examined import examined_name
from dicom_node.spool.run_folder import read_events
from dicom_node.spool.spool import Spool
from pipelines.comparison import Comparison, Examined, SelfGrade
from pipelines.types import Findings, Lesion, NotTypical, Pipeline, PipelineInfo, Progress, Volume
from worker.comparing import Comparer
from worker.examination import examined_of, keep_examined, kept_examination
from worker.tasks import Workplace, run_job

JOB = "c" * 32
PRIOR_STUDY = "1.2.826.0.1.3680043.8.498.77"


class Networks:
    """Registry with a FLAIR pipeline that finds one lesion, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.refuses = ""
        self.not_typical: tuple[NotTypical, ...] = ()
        self.card = CHANGE_MODEL

    def installed(self) -> Mapping[str, PipelineInfo]:
        return {"flair": PipelineInfo("flair", "FLAIR lesions", "1", "digest")}

    def load(self, name: str, device: str) -> Pipeline:
        assert name == "flair"
        return self.find

    def find(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        self.asked += 1
        assert set(settings) == {"threshold"}, "the settings of the analysis, and none of the comparison"
        if self.refuses:
            return Findings("unsuitable", self.refuses)
        return replace(found_in(volume, self.card), not_typical=self.not_typical)


def found_in(volume: Volume, card: Any = CHANGE_MODEL) -> Findings:
    brain = np.zeros(volume.array.shape, bool)
    brain[2:10, 8:56, 8:56] = True
    labels = np.zeros(volume.array.shape, np.int32)
    labels[3:6, 20:26, 30:38] = 1
    probability = np.where(labels > 0, np.float32(0.9), np.float32(0.1))
    lesion = Lesion(1, "Lesion", 350.0, (1.0, 2.0, 3.0), 0.9, (3, 5))
    return Findings(
        "findings", lesions=(lesion,), models=(card,), brain=brain, probability=probability, labels=labels
    )


def compared(current: Examined, prior: Examined, progress: Progress) -> Comparison:
    assert current.labels.any() and prior.volume is not current.volume
    progress("alignment", 0.5)
    return comparison(current.volume, self_grade=None)


def found_again(current: Examined, prior: Examined, analyse: Any, seed: int) -> SelfGrade:
    analyse(prior.volume)
    return SelfGrade(12, 9, 0)


class Bench:
    def __init__(self, root: Path) -> None:
        self.spool = Spool(root / "data")
        current = mr_series(self.spool.series / "now", StudyDate="20261130")
        prior = mr_series(
            self.spool.series / "then", seed="prior", StudyInstanceUID=PRIOR_STUDY, StudyDate="20250301"
        )
        self.current = tuple(map(self.spool.relative, current))
        self.prior = PriorImages(tuple(map(self.spool.relative, prior)), examined_name("1.2", "b" * 32))
        self.study = str(dcmread(current[0]).StudyInstanceUID)
        self.networks = Networks()
        self.graded: list[int] = []
        self.place = Workplace(
            self.spool.root, "cpu", self.networks, comparer=Comparer(compared, self.grade, self.build)
        )

    def build(self, *arguments: Any) -> list[ResultObject]:
        out = arguments[-1]
        (out / "change-sr.dcm").touch()
        return [ResultObject("change-sr", "change-sr.dcm", "1.2", "1.3", "1.4", self.study, "00")]

    def grade(self, current: Examined, prior: Examined, analyse: Any, seed: int) -> SelfGrade:
        self.graded.append(seed)
        return found_again(current, prior, analyse, seed)

    def run(self, **changes: Any) -> Manifest:
        fields: dict[str, Any] = {
            "node_id": "test",
            "job_id": JOB,
            "run": 1,
            "pipeline": CHANGE,
            "settings": {"threshold": 0.5, "of": "a" * 32, "run": 1, "prior": "1.2", "self_grade": True},
            "images": self.current,
            "results": ResultSettings("key", "report", "text", 9001),
            "note": "",
            "replaces": (),
            "created_at": datetime(2026, 11, 30, 8, tzinfo=UTC),
            "examined": examined_name("1.1", "a" * 32),
            "prior": self.prior,
        }
        message = JobMessage(**fields | changes)
        assert run_job(JobMessage.from_json(message.to_json()), self.place)
        return Manifest.read(self.spool.results / message.job_id)

    def files(self) -> set[str]:
        return {path.name for path in (self.spool.results / JOB).iterdir()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_comparison_becomes_objects_of_the_current_study_alone(bench: Bench) -> None:
    bench.place.comparer = Comparer(compared, bench.grade)
    manifest = bench.run()
    assert (manifest.status, manifest.pipeline, manifest.reason) == ("findings", "change", "")
    assert manifest.figures == {
        "grade": "B",
        "new": 1,
        "enlarging": 1,
        "smaller": 1,
        "resolved": 1,
        "possible": 1,
    }
    assert {item.study_uid for item in manifest.objects} == {bench.study}
    assert all(
        dcmread(bench.spool.results / JOB / item.path).StudyInstanceUID == bench.study
        for item in manifest.objects
    )
    record = ComparisonRecord.read(bench.spool.results / JOB)
    assert record is not None and record.self_grade == SelfGrade(12, 9, 0)
    assert {one.identifier for one in record.lesions.values()} >= {"L01"}
    events, _ = read_events(bench.spool.results / JOB, 0)
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["read", "examinations", "alignment", "self-grading", "objects"]


def test_what_was_found_before_is_not_found_again(bench: Bench) -> None:
    bench.run()
    assert bench.networks.asked == 3, "both series, and the painted prior"
    bench.run(job_id="d" * 32)
    assert bench.networks.asked == 4, "the painted prior alone"
    bench.networks.card = replace(CHANGE_MODEL, digest="sha256:" + "cd" * 32)
    (bench.spool.root / bench.prior.examined).unlink()
    bench.run(job_id="e" * 32, settings={"threshold": 0.5})
    assert bench.networks.asked == 7, "one by other weights does not stand beside one by those of today"


def test_answer_of_the_analysis_is_kept_where_priors_are_looked_for(bench: Bench) -> None:
    path = bench.spool.root / examined_name("1.1", "a" * 32)
    analysis: dict[str, Any] = {"pipeline": "flair", "settings": {"threshold": 0.5}, "prior": None}
    bench.run(job_id="1" * 32, examined="", **analysis)
    assert not path.exists()
    bench.run(job_id="2" * 32, **analysis)
    assert path.exists()
    bench.run(settings={"threshold": 0.5})
    assert bench.networks.asked == 3, "the two analyses, and that of the prior"


def test_kept_examination_counts_for_its_own_pixels_only(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((12, 64, 64)).astype(np.float32)
    volume = Volume(values, np.eye(4))
    examined = examined_of(found_in(volume), volume)
    assert examined is not None
    path = tmp_path / "examined" / "x.npz"
    keep_examined(examined, path)
    kept = kept_examination(path, volume)
    assert kept is not None
    for name in ("brain", "probability", "labels"):
        assert np.array_equal(getattr(kept, name), getattr(examined, name))
    assert (kept.lesions, kept.models) == (examined.lesions, examined.models)
    assert path.stat().st_size < 5000
    assert kept_examination(path, replace(volume, array=values + 1)) is None
    path.write_bytes(path.read_bytes()[:100])
    assert kept_examination(path, volume) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prior": PriorImages((), "", refusal="birth date differs")}, "birth date differs"),
        ({"prior": None}, "the message names no prior"),
        ({"note": "2 images missing"}, "the series is not whole: 2 images missing"),
    ],
)
def test_what_is_no_prior_any_more_is_told_and_gives_no_object(
    bench: Bench, changes: dict[str, Any], reason: str
) -> None:
    manifest = bench.run(**changes)
    assert (manifest.status, manifest.reason, manifest.objects) == ("unsuitable", reason, ())
    assert bench.networks.asked == 0


def test_prior_that_was_removed_meanwhile_is_told(bench: Bench) -> None:
    for relative in bench.prior.images:
        (bench.spool.root / relative).unlink()
    manifest = bench.run()
    assert manifest.status == "unsuitable" and manifest.reason.startswith("prior: ")
    assert manifest.objects == ()


def test_prior_that_the_networks_refuse_is_told(bench: Bench) -> None:
    bench.networks.refuses = "no brain found"
    manifest = bench.run()
    assert (manifest.status, manifest.reason) == ("unsuitable", "no brain found")


def test_findings_that_are_not_typical_are_not_compared(bench: Bench) -> None:
    bench.networks.not_typical = (
        NotTypical("midline shift", "third ventricle off the midline", 7.2, "mm", 5.0),
    )
    manifest = bench.run()
    assert (manifest.status, manifest.reason) == ("unsuitable", "not typical of demyelination")
    assert manifest.objects == ()


def test_acquisitions_that_cannot_be_compared_leave_a_record_and_no_object(bench: Bench) -> None:
    bench.place.comparer = replace(
        bench.place.comparer, compare=lambda current, prior, progress: comparison(current.volume, "D")
    )
    manifest = bench.run()
    assert (manifest.status, manifest.objects) == ("unsuitable", ())
    assert manifest.reason == "the prior shows another part of the head"
    assert bench.files() == {"events.jsonl", "manifest.json", "comparison.json"}
    assert bench.graded == []


def test_fault_in_the_comparison_leaves_nothing_half_made(bench: Bench) -> None:
    def build(*arguments: Any) -> Any:
        (arguments[-1] / "change-seg.dcm").touch()
        raise KeyError("NAME^OF^PATIENT")

    bench.place.comparer = replace(bench.place.comparer, build=build)
    manifest = bench.run()
    assert manifest.status == "failed" and "KeyError in test_comparing.py" in manifest.reason
    assert bench.files() == {"events.jsonl", "manifest.json"}


def test_object_of_the_priors_study_stops_everything(bench: Bench) -> None:
    build = bench.place.comparer.build

    def mistaken(*arguments: Any) -> Any:
        first, *others = build(*arguments)
        return [replace(first, study_uid=PRIOR_STUDY), *others]

    bench.place.comparer = replace(bench.place.comparer, build=mistaken)
    manifest = bench.run()
    assert manifest.status == "failed" and "not of the current study" in manifest.reason
    assert bench.files() == {"events.jsonl", "manifest.json"}


def test_trial_on_itself_waits_for_nobody_and_spoils_nothing(bench: Bench) -> None:
    bench.place.others_wait = lambda: True
    assert bench.run().status == "findings" and bench.graded == []
    bench.place.others_wait = lambda: False
    assert bench.run(job_id="f" * 32, run=2).status == "findings" and bench.graded == [], "one run was lost"

    def fail(*arguments: Any) -> SelfGrade:
        raise RuntimeError

    bench.place.comparer = replace(bench.place.comparer, self_grade=fail)
    assert bench.run(job_id="d" * 32).status == "findings"


def test_lesions_are_left_for_the_node_to_know(bench: Bench) -> None:
    bench.run()
    tracked = read_tracking(bench.spool.results / JOB)
    assert [len(lesions) for lesions in tracked.values()] == [1, 1]
    prior, current = ((one,) for lesions in tracked.values() for one in lesions)
    assert prior[0].examined == bench.prior.examined and current[0].identifier != prior[0].identifier
