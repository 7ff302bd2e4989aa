"""Objects of a comparison: all of the current study, valid, read back by others, in words and numbers that agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
import SimpleITK as sitk
from factories import CHANGED_BOXES, comparison, mr_series
from forbidden_words import forbidden_in
from pydicom import Dataset, dcmread
from result_factories import (
    CONTEXT,
    coded,
    concept,
    measurement_groups,
    numbers,
    outcome,
    own_texts,
    part,
    sentences,
    texts,
    tool,
)

from dicom_node.errors import ResultError
from dicom_node.results.change_objects import build_comparison
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.manifest import ResultObject
from dicom_node.results.tracking import TrackedLesion
from dicom_node.series.volume import LoadedSeries, load_series, load_sources
from pipelines.comparison import Comparison

CHANGE = replace(CONTEXT, pipeline="change", title="change since a prior", job_id="c0ffee00" * 4)
TRACKING = {
    1: TrackedLesion("1.2.3.1", "L07"),
    2: TrackedLesion("1.2.3.2", "L08"),
    3: TrackedLesion("1.2.3.3", "L02", "merged with L05"),
    4: TrackedLesion("1.2.3.4", "L03"),
    6: TrackedLesion("1.2.3.6", "L06"),
    -3: TrackedLesion("1.2.3.5", "L04"),
}
PRIOR_STUDY = "1.2.826.0.1.3680043.8.498.17"
FALSE_FINDING = "Error - Missing attribute Type 2C Conditional Element=<Laterality> Module=<GeneralSeries>"
"""Of dciodvfy, on every Secondary Capture."""


@dataclass
class Pair:
    """Both series on disk, their comparison, and the objects made of it."""

    files: list[Path]
    prior_files: list[Path]
    current: LoadedSeries
    prior: LoadedSeries
    comparison: Comparison
    out: Path
    objects: list[ResultObject]

    @classmethod
    def make(
        cls, folder: Path, grade: str = "B", changes: Mapping[str, Any] | None = None, **series: Any
    ) -> Pair:
        files = mr_series(folder / "current", StudyDate="20261130", **series)
        prior_files = mr_series(
            folder / "prior", seed="prior", StudyInstanceUID=PRIOR_STUDY, StudyDate="20250301"
        )
        current, prior = load_series(files), load_sources(prior_files)
        assert current.volume is not None
        found = comparison(current.volume, grade, **(changes or {}))
        (out := folder / "out").mkdir()
        objects = build_comparison(found, current, prior, CHANGE, TRACKING, out)
        return cls(files, prior_files, current, prior, found, out, objects)

    def read(self, role: str) -> Dataset:
        return dcmread(next(self.out / item.path for item in self.objects if item.role == role))

    @property
    def record(self) -> ComparisonRecord:
        found = ComparisonRecord.read(self.out)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair.make(tmp_path_factory.mktemp("pair"))


def test_no_object_bears_the_study_of_the_prior_as_its_own(pair: Pair) -> None:
    study = str(pair.current.datasets[0].StudyInstanceUID)
    for item in pair.objects:
        ds = dcmread(pair.out / item.path)
        assert str(ds.StudyInstanceUID) == item.study_uid == study != PRIOR_STUDY
        assert str(ds.StudyDate) == "20261130"


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"StudyInstanceUID": None}, "is of the study that it is compared with"),
        ({"StudyInstanceUID": PRIOR_STUDY, "PatientID": "0815"}, "another patient"),
    ],
)
def test_prior_of_the_same_study_or_of_another_patient_gives_nothing(
    pair: Pair, tmp_path: Path, tags: dict[str, Any], told: str
) -> None:
    wrong = [dcmread(path, stop_before_pixels=True) for path in pair.prior_files]
    for ds in wrong:
        for keyword, value in tags.items():
            setattr(ds, keyword, value or pair.current.datasets[0].StudyInstanceUID)
    prior = replace(pair.prior, datasets=tuple(wrong))
    with pytest.raises(ResultError, match=told):
        build_comparison(pair.comparison, pair.current, prior, CHANGE, TRACKING, tmp_path)
    assert not list(tmp_path.iterdir())


def test_object_of_another_study_is_not_written(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dicom_node.results import change_objects

    make = change_objects.build_change_text

    def mistaken(*arguments: Any) -> Dataset:
        ds = make(*arguments)
        ds.StudyInstanceUID = PRIOR_STUDY
        return ds

    monkeypatch.setattr(change_objects, "build_change_text", mistaken)
    with pytest.raises(ResultError, match="another study"):
        build_comparison(pair.comparison, pair.current, pair.prior, CHANGE, TRACKING, tmp_path)
    assert not (tmp_path / "change-text.dcm").exists()


def test_series_stand_behind_those_of_the_flair(pair: Pair) -> None:
    found = {item.role: int(dcmread(pair.out / item.path).SeriesNumber) for item in pair.objects}
    assert found == {
        "change-seg": 9016,
        "change-picture": 9017,
        "change-sr": 9018,
        "change-sr-enhanced": 9018,
        "change-text": 9019,
    }


def test_segments_are_the_kinds_that_occur(pair: Pair) -> None:
    segments = pair.read("change-seg").SegmentSequence
    assert [str(item.SegmentLabel) for item in segments] == [
        "New lesions",
        "Enlarging lesions",
        "Smaller lesions",
        "Resolved lesions",
        "Possible change",
    ]
    kinds = [
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0].CodeValue
        for item in segments
    ]
    assert kinds == ["new", "15454001", "19776001", "resolved", "possible"]


@pytest.mark.slow
def test_dcmqi_and_highdicom_give_back_the_masks(pair: Pair, tmp_path: Path) -> None:
    path = next(pair.out / item.path for item in pair.objects if item.role == "change-seg")
    done = tool("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "-t", "nrrd")
    assert done.returncode == 0, done.stderr
    read = highdicom.seg.segread(path)
    planes = read.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in pair.current.datasets])
    for segment, change in enumerate((1, 3, 4, 5, 2), start=1):
        expected = np.zeros(pair.comparison.labels.shape, bool)
        expected[CHANGED_BOXES[change]] = True
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{segment}.nrrd")))
        assert int((image > 0).sum()) == int(expected.sum())
        assert np.array_equal(planes[..., segment - 1] > 0, expected)


def test_groups_tell_change_volumes_and_identity(pair: Pair) -> None:
    groups = measurement_groups(pair.read("change-sr"))
    assert list(groups)[:6] == ["L07", "L02", "L08", "L03", "L04", "L06"]
    assert {name: coded(groups[name])["change"] for name in list(groups)[:6]} == {
        "L07": "new",
        "L02": "15454001",
        "L03": "19776001",
        "L04": "resolved",
        "L06": "260388006",
        "L08": "new",
    }
    unchanged = numbers(groups["L06"])
    assert (unchanged["118565006"], unchanged["prior-volume"]) == (84.0, 80.0) and "125314" not in unchanged
    told = "L06 unchanged: juxtacortical or cortical, right, 80 and 84 mm3, outlined as 6"
    assert told in texts(groups["L06"])
    assert coded(groups["L08"])["change-certainty"] == "possible"
    assert "change-certainty" not in coded(groups["L07"])
    enlarging = numbers(groups["L02"])
    assert enlarging["prior-volume"] == 160.0
    assert enlarging["125314"] == pytest.approx(enlarging["118565006"] / 160.0 - 1, abs=1e-3)
    resolved = numbers(groups["L04"])
    assert (resolved["118565006"], resolved["prior-volume"]) == (0.0, 14.6)
    assert "125314" not in resolved  # of a tiny lesion
    uid = next(item.UID for item in groups["L02"].ContentSequence if concept(item) == "112040")
    assert uid == "1.2.3.3"
    assert any("merged with L05" in text for text in texts(groups["L02"]))


def test_groups_are_of_the_current_time_point(pair: Pair) -> None:
    for group in measurement_groups(pair.read("change-sr")).values():
        told = {concept(item): item for item in group.ContentSequence}
        assert told["C2348792"].TextValue == told["126070"].TextValue == "2026-11-30"
        assert told["126073"].MeasuredValueSequence[0].NumericValue == 2
        assert told["128740"].MeasuredValueSequence[0].NumericValue == 639
        assert told["128740"].ContentSequence[0].ConceptCodeSequence[0].CodeValue == "prior-study"


def test_every_group_opens_on_a_point_of_a_current_image(pair: Pair) -> None:
    current = {str(ds.SOPInstanceUID) for ds in pair.current.datasets}
    for role in ("change-sr", "change-sr-enhanced"):
        for group in measurement_groups(pair.read(role)).values():
            places = [item for item in group.ContentSequence if item.ValueType in ("SCOORD", "SCOORD3D")]
            assert places[0].ValueType == "SCOORD"
            reference = places[0].ContentSequence[0].ReferencedSOPSequence[0]
            assert str(reference.ReferencedSOPInstanceUID) in current


def test_images_of_the_prior_are_evidence_as_temporal_predecessors(pair: Pair) -> None:
    priors = {str(ds.SOPInstanceUID) for ds in pair.prior.datasets}
    for role in ("change-sr", "change-sr-enhanced", "change-text"):
        ds = pair.read(role)
        assert {item.StudyInstanceUID for item in ds.CurrentRequestedProcedureEvidenceSequence} == {
            ds.StudyInstanceUID
        }
        found = {
            str(reference.ReferencedSOPInstanceUID): reference.PurposeOfReferenceCodeSequence[0].CodeValue
            for study in ds.PertinentOtherEvidenceSequence
            if study.StudyInstanceUID == PRIOR_STUDY
            for series in study.ReferencedSeriesSequence
            for reference in series.ReferencedSOPSequence
        }
        assert found == dict.fromkeys(priors, "121348")


def test_totals_and_comparability_are_coded(pair: Pair) -> None:
    report = pair.read("change-sr")
    assert coded(outcome(report)) == {
        "111017": "111242",
        "122140": "373066001",
        "comparability": "comparability-b",
        "total-change": "within-error",
    }
    counted = {
        item.ContentSequence[0].ConceptCodeSequence[0].CodeValue: float(
            item.MeasuredValueSequence[0].NumericValue
        )
        for item in part(report, "126011").ContentSequence
        if concept(item) == "246206008"
    }
    assert counted == {"new": 1, "15454001": 1, "19776001": 1, "resolved": 1, "260388006": 1}
    totals = numbers(part(report, "126011"))
    assert (totals["118565006"], totals["prior-volume"]) == (3100.0, 2900.0)
    assert totals["125314"] == pytest.approx(200 / 2900, abs=1e-3)


def test_text_says_what_has_changed_first(pair: Pair) -> None:
    said = sentences(pair.read("change-text"))
    assert said[1] == (
        "1 new lesion since 2025-03-01 (comparability B). 1 possible. 1 enlarging. 1 smaller. 1 resolved."
    )
    assert said[3] == "Prior of 2025-03-01, 639 days before: comparability B, the slice thickness differs."
    assert "L02 enlarging: deep white matter, left, image 6, 160 to 97 mm3" in said[5]
    assert (
        "Total lesion volume 2.90 mL on 2025-03-01, 3.10 mL now: +7 %, within measurement error"
        " (below 15 % of the mean of both)." in said
    )
    assert (
        "Lesions since 2025-03-01: new 1 (1 possible), enlarging 1, smaller 1, resolved 1, unchanged 1."
        in said
    )
    assert "Of 12 lesions painted into this prior 9 were found, 0 false." in said


def test_picture_shows_both_in_one_frame(pair: Pair) -> None:
    pictures = [dcmread(pair.out / item.path) for item in pair.objects if item.role == "change-picture"]
    assert [int(ds.InstanceNumber) for ds in pictures] == [1, 2, 3, 4, 5]
    for ds in pictures:
        assert ds.pixel_array.shape[1] > 2 * 512
        assert "ImagePositionPatient" not in ds
    assert pictures[0].ImageComments.startswith("RESEARCH. L07 new: periventricular, left, image 4, ")


def test_grade_c_has_nothing_certain(tmp_path: Path) -> None:
    made = Pair.make(tmp_path, "C")
    assert [str(item.SegmentLabel) for item in made.read("change-seg").SegmentSequence] == ["Possible change"]
    first = sentences(made.read("change-text"))[1]
    assert first == "Nothing certain since 2025-03-01 (comparability C). 2 possible new lesions."
    assert all(one.possible for one in made.record.changes) and made.record.unchanged == ()
    assert "125314" not in numbers(part(made.read("change-sr"), "126011"))


def test_grade_d_gives_reports_with_the_reason_alone(tmp_path: Path) -> None:
    made = Pair.make(tmp_path, "D")
    assert {item.role for item in made.objects} == {"change-sr", "change-sr-enhanced", "change-text"}
    told = "Not compared with 2025-03-01: the prior shows another part of the head."
    assert told in sentences(made.read("change-text"))
    assert coded(outcome(made.read("change-sr")))["122140"] == "373067005"


def test_record_comes_back_as_it_was(pair: Pair) -> None:
    record = pair.record
    assert record.days == 639
    assert [one.number for one in record.changes] == [1, 3, 2, 4, 5]
    assert record.lesions[3] == TRACKING[3]
    assert record.self_grade == pair.comparison.self_grade
    assert [item.change for item in record.pictures] == [1, 3, 2, 4]
    assert all((pair.out / item.file).exists() for item in record.pictures)
    assert ComparisonRecord.read(pair.out / "nowhere") is None


def test_same_comparison_gives_the_same_bytes(pair: Pair, tmp_path: Path) -> None:
    again = build_comparison(pair.comparison, pair.current, pair.prior, CHANGE, TRACKING, tmp_path)
    assert [item.sha256 for item in again] == [item.sha256 for item in pair.objects]


SOURCES = {"axial": {}, "oblique": {"orientation": "oblique"}, "enhanced": {"enhanced": True}}


@pytest.mark.slow
@pytest.mark.parametrize("series", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("grade", ["B", "D"])
def test_validators_find_no_error_and_no_forbidden_word(
    tmp_path: Path, series: dict[str, Any], grade: str
) -> None:
    made = Pair.make(tmp_path, grade, **series)
    for item in made.objects:
        path = made.out / item.path
        done = tool("dciodvfy", path)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        allowed = [FALSE_FINDING] if item.role == "change-picture" else []
        assert [line for line in errors if line not in allowed] == [], item.role
        assert forbidden_in(own_texts(dcmread(path))) == [], item.role
    sent = [made.out / item.path for item in made.objects if item.role != "change-sr-enhanced"]
    done = tool("dcentvfy", *made.files, *made.prior_files, *sent)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line] == []


@pytest.mark.slow
def test_readers_of_others_read_the_numbers(pair: Pair, tmp_path: Path) -> None:
    path = next(pair.out / item.path for item in pair.objects if item.role == "change-sr")
    report = highdicom.sr.srread(path)
    groups = report.content.get_planar_roi_measurement_groups()
    groups += report.content.get_image_measurement_groups()
    assert {str(item.tracking_identifier) for item in groups} >= {"L07", "L02", "L03", "L04", "L06", "L08"}
    done = tool("tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "read.json")
    assert done.returncode == 0, done.stderr
    assert "New lesions" in (tmp_path / "read.json").read_text()
