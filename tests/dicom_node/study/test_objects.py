"""The objects on a study, read back by programs that we did not write."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from forbidden_words import forbidden_in
from pydicom import Dataset, dcmread
from result_factories import measurement_groups, numbers, sentences, texts, tool

from dicom_node.study.content import StudyContent
from dicom_node.study.objects import build_summary
from dicom_node.study.sentences import headline
from pipelines.types import Anatomy, NotTypical, Percentile

FALSE_FINDING = "Error - Missing attribute for Type 2C Conditional - Element=<Laterality>"
"""Of dciodvfy, on every Secondary Capture."""

TABLES = ("Lesions of 3 mm", "Volume and longest axis")
"""How the texts begin that hold the table of regions."""


@pytest.fixture(scope="module")
def built(study: StudyContent, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("summary")
    return {item.role: out / item.path for item in build_summary(study, out, pdf=True)}


def test_objects_are_of_the_study_and_stand_first_in_its_list(built: dict[str, Path], study: StudyContent):
    read = {role: dcmread(path) for role, path in built.items()}
    first = study.context.series_number_base
    assert {role: int(ds.SeriesNumber) - first for role, ds in read.items()} == {
        "summary": 0,
        "summary-text": 1,
        "summary-sr": 2,
        "summary-sr-enhanced": 2,
        "summary-pdf": 3,
    }
    for ds in read.values():
        assert (ds.StudyInstanceUID, ds.PatientID) == (study.source.StudyInstanceUID, "4711")
        assert str(ds.PatientName) == "Müller^Jana"
        assert ds.ContentQualification == "RESEARCH"
        assert ds.SeriesDescription.startswith("RESEARCH 1 study summary")


def test_page_is_one_side_of_a4(built: dict[str, Path]):
    ds = dcmread(built["summary"])
    assert ds.pixel_array.shape == (1754, 1240, 3)
    assert ds.pixel_array.shape[0] / ds.pixel_array.shape[1] == pytest.approx(297 / 210, abs=0.001)
    assert dcmread(built["summary-pdf"]).EncapsulatedDocument.count(b"/Type /Page\n") == 1


@pytest.mark.parametrize(
    "role", ["summary", "summary-text", "summary-sr", "summary-sr-enhanced", "summary-pdf"]
)
def test_dciodvfy_finds_no_errors(built: dict[str, Path], role: str):
    done = tool("dciodvfy", built[role])
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    assert [line for line in errors if not line.startswith(FALSE_FINDING)] == []


def test_text_says_the_result_first(built: dict[str, Path]):
    first = sentences(dcmread(built["summary-text"]))[1]
    assert first == (
        "2 lesions in the brain, 0.36 mL in all. Lesions in 1 of the 3 brain regions that this study shows. Borderline "
        "lesions would add 1. Optic nerves (another series of this study): right rated suspicious, left not, by a "
        "classifier that has never seen a patient. With it, 2 of 4 regions. Research use only."
    )


def test_text_has_at_most_250_words_and_no_forbidden_one(built: dict[str, Path]):
    said = [text for text in sentences(dcmread(built["summary-text"])) if not text.startswith(TABLES)]
    assert len(" ".join(said).split()) <= 250
    for role in ("summary-text", "summary-sr"):
        assert not forbidden_in(" ".join(texts(dcmread(built[role]))))


def test_numbers_of_text_and_codes_are_the_same(built: dict[str, Path]):
    said = " ".join(sentences(dcmread(built["summary-text"])))
    groups = measurement_groups(dcmread(built["summary-sr"]))
    overall = numbers(groups["Study summary"])
    assert (
        f"{overall['246206008']:.0f} lesions in the brain, {overall['118565006'] / 1000:.2f} mL in all"
        in said
    )
    region = numbers(groups["Periventricular"])
    assert f"periventricular {region['246206008']:.0f}," in said
    assert f"periventricular {region['118565006'] / 1000:.2f} mL, {region['103339001']:.0f} mm" in said
    for side in ("Right", "Left"):
        group = numbers(groups[f"{side} optic nerve"])
        assert f"probability {group['122157']:.2f} (" in said.split(f"{side} optic nerve")[1]


def test_coded_report_refers_to_everything_that_was_returned(built: dict[str, Path], study: StudyContent):
    returned = {
        item.sop_instance_uid
        for part in study.parts
        for item in part.objects
        if item.role in ("seg", "sr", "text-sr")
    }
    report = dcmread(built["summary-sr"])
    page = str(dcmread(built["summary"]).SOPInstanceUID)
    assert returned | {page} <= evidence(report)
    assert {item.StudyInstanceUID for item in report.CurrentRequestedProcedureEvidenceSequence} == {
        study.source.StudyInstanceUID
    }


def evidence(report: Dataset) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def test_revision_names_the_page_that_it_replaces(built: dict[str, Path], study: StudyContent, tmp_path):
    before = {role: dcmread(path) for role, path in built.items() if role in ("summary-text", "summary-sr")}
    replaced = tuple(
        (str(ds.SOPClassUID), str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID), str(ds.StudyInstanceUID))
        for ds in before.values()
    )
    context = replace(study.context, job_id="6f" * 16, replaces=replaced)
    after = build_summary(StudyContent(study.parts, context, revision=1), tmp_path)
    for role, ds in before.items():
        (made,) = [dcmread(tmp_path / item.path) for item in after if item.role == role]
        (named,) = made.PredecessorDocumentsSequence
        reference = named.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == ds.SOPInstanceUID != made.SOPInstanceUID


def test_same_content_gives_the_same_bytes(built: dict[str, Path], study: StudyContent, tmp_path):
    for item in build_summary(study, tmp_path, pdf=True):
        assert (tmp_path / item.path).read_bytes() == built[item.role].read_bytes()


def test_dsrdump_prints_the_text(built: dict[str, Path]):
    try:
        done = subprocess.run(
            ["dsrdump", str(built["summary-text"])], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        pytest.skip("dsrdump is missing: apt-get install dcmtk")
    assert done.returncode == 0, done.stderr
    assert "2 lesions in the brain" in done.stdout


def test_coded_report_is_titled_as_a_report_since_its_groups_have_no_point_in_an_image(
    built: dict[str, Path],
):
    for role in ("summary-sr", "summary-sr-enhanced"):
        assert dcmread(built[role]).ConceptNameCodeSequence[0].CodeValue == "18748-4"


@pytest.mark.slow
def test_place_in_a_cohort_stands_below_the_volume(study: StudyContent, tmp_path: Path):
    place = Percentile(0.75, 0.668, 0.818, 120, "MS", "Hospital", by_hand=False, matched_years=5)
    flair, fatsat = study.parts
    known = replace(flair, findings=replace(flair.findings, percentile=place))
    content = replace(study, parts=(known, fatsat))
    built = {item.role: tmp_path / item.path for item in build_summary(content, tmp_path)}
    said = (
        "Lesion volume: higher than 75 of 100 (66 to 82) of 120 MS patients (Hospital; of the same sex, matched for age "
        "within 5 years)."
    )
    assert said in sentences(dcmread(built["summary-text"]))
    done = tool("dciodvfy", built["summary-sr"])
    assert "Error" not in done.stdout + done.stderr


def test_page_of_findings_that_are_not_typical_counts_no_sites(study: StudyContent, tmp_path: Path):
    assert study.flair is not None
    sign = NotTypical("midline shift", "third ventricle off the midline", 7.2, "mm", 5.0)
    withheld = Anatomy(not_available="the findings are not typical of demyelination")
    findings = replace(study.flair.findings, hypotheses=(), not_typical=(sign,), anatomy=withheld)
    flagged = StudyContent((replace(study.flair, findings=findings),), study.context)
    first, second, *_ = headline(flagged)
    assert first == "Not typical of demyelination. Not assessed here: tumour, infarct, haemorrhage, surgery."
    assert second == "Outlined, whatever it is: 0.36 mL in all."
    built = {item.role: tmp_path / item.path for item in build_summary(flagged, tmp_path)}
    for role in ("summary-text", "summary-sr"):
        said = " ".join(sentences(dcmread(built[role])))
        assert first in said
        assert "third ventricle off the midline, 7.2 mm (limit 5.0 mm)" in said or role == "summary-sr"
        assert not [
            words
            for words in (
                "dissemination",
                "MS versus",
                "brain regions",
                "criteria",
                "cord",
                "interval",
                "earlier",
            )
            if words in said
        ]
        assert _errors(built[role]) == []


def _errors(path: Path) -> list[str]:
    done = tool("dciodvfy", path)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
