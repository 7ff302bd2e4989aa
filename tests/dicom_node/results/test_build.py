"""Which objects each outcome gives, that they name one another rightly, and that a retry gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from factories import mr_series
from forbidden_words import forbidden_in
from pydicom import Dataset, dcmread
from result_factories import (
    BOXES,
    CONTEXT,
    REAL,
    SYNTHETIC,
    Case,
    concept,
    findings_on,
    mask_of,
    own_texts,
    sentences,
    tool,
)

from dicom_node.errors import ResultError
from dicom_node.results import build
from dicom_node.results.build import build_results
from dicom_node.results.manifest import ResultObject
from dicom_node.series.volume import load_sources
from pipelines.types import Anatomy, Criterion, Findings, Interval, Percentile, RegionLoad, Rule, Segment

NOTHING = {"segments": (), "lesions": (), "measurements": (), "heatmaps": (), "hypotheses": ()}
ALLOWED = "Error - Missing attribute Type 2C Conditional Element=<Laterality> Module=<GeneralSeries>"
"""A known false finding of dciodvfy on Secondary Capture: laterality is of a paired body part only."""


def without_volume(tmp_path: Path, status: str, **context: object) -> Case:
    sources = mr_series(tmp_path / "source")
    series = load_sources(sources)
    findings = Findings(status, reason="the brain is cut off", models=(SYNTHETIC,))  # type: ignore[arg-type]
    out = tmp_path / "none"
    out.mkdir()
    objects = build_results(findings, series, replace(CONTEXT, **context), out)  # type: ignore[arg-type]
    return Case(sources, series, findings, out, objects)


def roles(case: Case) -> list[str]:
    return sorted({item.role for item in case.objects})


def test_findings_give_outlines_mask_both_reports_and_maps(plain: Case) -> None:
    assert roles(plain) == ["heatmap", "outline", "seg", "sr", "sr-enhanced", "text-sr"]
    for item in plain.objects:
        ds = dcmread(plain.out / item.path)
        assert (ds.SOPClassUID, ds.SOPInstanceUID) == (item.sop_class_uid, item.sop_instance_uid)
        assert (ds.SeriesInstanceUID, ds.StudyInstanceUID) == (item.series_uid, item.study_uid)


def test_series_numbers_follow_the_base(tmp_path: Path) -> None:
    case = Case.make(tmp_path, context=replace(CONTEXT, series_number_base=700))
    found = {role: int(case.read(role).SeriesNumber) for role in roles(case)}
    assert found == {
        "outline": 711,
        "seg": 712,
        "sr": 713,
        "sr-enhanced": 713,
        "text-sr": 714,
        "heatmap": 715,
    }


def test_nothing_found_gives_reports_and_no_mask(tmp_path: Path) -> None:
    case = Case.make(tmp_path, findings={**NOTHING, "status": "none"})
    assert roles(case) == ["sr", "sr-enhanced", "text-sr"]


def test_empty_segment_gives_no_mask(plain: Case, tmp_path: Path) -> None:
    volume = plain.series.volume
    assert volume is not None
    empty = Segment("Lesion", "lesion_of_brain", volume.array > 1e9)
    assert "seg" not in roles(
        Case.make(tmp_path, findings={**NOTHING, "status": "none", "segments": (empty,)})
    )


@pytest.mark.parametrize("status", ["unsuitable", "failed"])
def test_refused_or_broken_analysis_gives_reports_from_headers_alone(tmp_path: Path, status: str) -> None:
    assert roles(without_volume(tmp_path, status)) == ["sr", "sr-enhanced", "text-sr"]


def test_unsuitable_is_silent_when_so_configured_but_a_failure_never_is(tmp_path: Path) -> None:
    assert roles(without_volume(tmp_path / "a", "unsuitable", when_unsuitable="silent")) == []
    assert roles(without_volume(tmp_path / "b", "failed", when_unsuitable="silent")) != []


def test_the_same_run_gives_the_same_bytes(plain: Case, tmp_path: Path) -> None:
    again = Case.make(tmp_path, seed="factory")  # from files of its own
    assert [item.sha256 for item in plain.objects] == [item.sha256 for item in again.objects]


def test_another_run_gives_other_uids(plain: Case, tmp_path: Path) -> None:
    second = Case.make(tmp_path / "2", context=replace(CONTEXT, run=2))
    uids = [{item.sop_instance_uid for item in case.objects} for case in (plain, second)]
    assert not uids[0] & uids[1]
    assert {item.study_uid for item in plain.objects} == {item.study_uid for item in second.objects}


def test_unknown_code_key_is_one_clear_line(plain: Case, tmp_path: Path) -> None:
    wrong = replace(plain.findings.segments[0], code="spleen")
    with pytest.raises(ResultError, match="no finding has the code key 'spleen'; known: lesion"):
        build_results(replace(plain.findings, segments=(wrong,)), plain.series, CONTEXT, tmp_path)


def test_a_series_without_images_is_refused(plain: Case, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="at least one source image"):
        build_results(plain.findings, replace(plain.series, datasets=()), CONTEXT, tmp_path)


def test_source_that_breaks_its_class_is_an_error_that_quotes_no_value(tmp_path: Path) -> None:
    case = Case.make(tmp_path, PatientID="secret-4711")
    case.series.datasets[0].SOPClassUID = "1.2.3.4"
    with pytest.raises(ResultError, match="can't be built from this source: KeyError") as caught:
        build_results(case.findings, case.series, CONTEXT, case.out)
    assert "4711" not in str(caught.value)


def test_folder_that_is_not_there_is_one_clear_error(plain: Case, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file or directory"):
        build_results(plain.findings, plain.series, CONTEXT, tmp_path / "nowhere")


SOURCES = {
    "axial": {},
    "oblique": {"orientation": "oblique"},
    "sagittal, reversed": {"orientation": "sagittal", "reversed": True},
    "enhanced": {"enhanced": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("series", SOURCES.values(), ids=SOURCES.keys())
def test_dciodvfy_and_dcentvfy_find_no_error(tmp_path: Path, series: dict[str, object]) -> None:
    context = replace(CONTEXT, differential="coded", note="A slice came late.")
    case = Case.make(tmp_path, model=REAL, context=context, **series)
    check(case)


@pytest.mark.parametrize("status", ["none", "unsuitable", "failed"])
def test_objects_without_findings_are_valid_too(tmp_path: Path, status: str) -> None:
    if status == "none":
        check(Case.make(tmp_path, findings={**NOTHING, "status": "none"}))
    else:
        check(without_volume(tmp_path, status))


@pytest.mark.slow
def test_place_in_a_cohort_stands_in_text_and_codes_with_number_and_source(tmp_path: Path) -> None:
    place = Percentile(18 / 29, 0.4401, 0.7731, 29, "MS", "Ljubljana", by_hand=True, matched_years=None)
    case = Case.make(tmp_path, findings={"percentile": place})
    check(case)
    said = (
        "Lesion volume: higher than 62 of 100 (44 to 78) of 29 MS patients (Ljubljana, outlined by hand; not matched "
        "for age)."
    )
    assert any(said in text for text in sentences(case.read("text-sr")))
    volume = next(
        item
        for item in items_of(case.read("sr"))
        if "121415" in map(concept, item.get("ContentSequence", ()))
    )
    assert concept(volume) == "118565006"
    told = {concept(item): item for item in volume.ContentSequence}
    ranking = told["121415"].MeasuredValueSequence[0]
    assert (ranking.NumericValue, ranking.MeasurementUnitsCodeSequence[0].CodeValue) == (62, "%")
    assert (
        told["121405"].TextValue == "29 MS patients, not matched for age; 95 % interval of the rank 44 to 78"
    )
    assert told["121406"].TextValue == "Ljubljana, outlined by hand"


@pytest.mark.slow
def test_regions_changes_and_sides_are_valid(plain: Case, tmp_path: Path) -> None:
    first, second = plain.findings.lesions
    whole = plain.findings.segments[0]
    masks = [mask_of(whole.mask.shape, [box]) for box in BOXES]
    segments = (
        Segment("Periventricular", "lesion_of_brain", masks[0], region="periventricular"),
        Segment(
            "Infratentorial", "lesion_of_brain", masks[1], colour_rgb=(0, 200, 90), region="infratentorial"
        ),
    )
    lesions = (
        replace(
            first,
            segment="Periventricular",
            region="periventricular",
            laterality="left",
            long_axis_mm=7.2,
            change="new",
            also_reaches=("juxtacortical",),
        ),
        replace(second, segment="Infratentorial", region="infratentorial", change="stable", borderline=True),
    )
    loads = (RegionLoad("periventricular", 1, 0, 349.9, 7.2), RegionLoad("infratentorial", 1, 1, 14.6, 3.1))
    changes = {"lesions": lesions, "segments": segments, "anatomy": Anatomy(loads)}
    changed = Case.make(tmp_path / "changed", findings=changes)
    check(changed)
    seg = changed.read("seg")
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Periventricular", "Infratentorial"]
    first_region, second_region = (item.AnatomicRegionSequence[0] for item in seg.SegmentSequence)
    assert first_region.CodeValue == "68523003"
    assert second_region.AnatomicRegionModifierSequence[0].CodeValue == "infratentorial"
    assert seg.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DCMNODE"
    colours = {tuple(item.RecommendedDisplayCIELabValue) for item in seg.SegmentSequence}
    assert len(colours) == 2


@pytest.mark.slow
def test_intervals_two_models_and_three_maps_are_valid(plain: Case, tmp_path: Path) -> None:
    first = plain.findings
    volume = replace(first.measurements[1], interval=Interval(300.0, 410.0, "over 4 predictions"))
    lesions = tuple(
        replace(item, probability_interval=Interval(0.1, 0.9, "over 4 predictions")) for item in first.lesions
    )
    mask_model = replace(SYNTHETIC, name="nnunet", device_uid="1.2.3.5", purpose="Lesions on FLAIR")
    second = replace(SYNTHETIC, name="five-slices", device_uid="1.2.3.6", purpose="MS or NMOSD")
    maps = tuple(
        replace(first.heatmaps[0], name=name, model="five-slices", class_name="NMOSD")
        for name in ("Grad-CAM", "slice map")
    )
    also = tuple(replace(item, model="five-slices") for item in first.hypotheses)
    changes = {
        "measurements": (first.measurements[0], volume),
        "lesions": lesions,
        "models": (mask_model, SYNTHETIC, second),
        "heatmaps": (*first.heatmaps, *maps),
        "hypotheses": (*first.hypotheses, *also),
        "rules": (Rule("A rule", "a journal", "MS", (Criterion("a criterion", (1,)),)),),
    }
    case = Case.make(tmp_path / "2", findings=changes)
    check(case)
    images = [dcmread(path) for path in case.paths("heatmap")]
    assert sorted({int(ds.SeriesNumber) for ds in images}) == [9015]
    assert {str(ds.ContributingEquipmentSequence[-1].ManufacturerModelName) for ds in images} == {
        "joint",
        "five-slices",
    }
    assert all("trained on synthetic data" in ds.ImageComments for ds in images)
    segment = case.read("seg").SegmentSequence[0]
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "nnunet"


def items_of(item: Dataset) -> Iterator[Dataset]:
    """Yield the content items of an SR, depth first."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from items_of(child)


def check(case: Case) -> None:
    """Every object passes dciodvfy, and all together with their sources dcentvfy."""
    assert case.objects
    for item in first_outline_and_all_others(case):
        done = tool("dciodvfy", case.out / item.path)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        allowed = [ALLOWED] if item.role in ("heatmap", "outline") else []
        assert [line for line in errors if line not in allowed] == [], item.role
        assert forbidden_in(own_texts(dcmread(case.out / item.path))) == [], item.role
    sent = [case.out / item.path for item in case.objects if item.role != "sr-enhanced"]
    done = tool("dcentvfy", *case.sources, *sent)
    assert [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line] == []
    known = {str(dcmread(path).SOPInstanceUID) for path in [*case.sources, *sent]}
    for path in sent:
        assert referenced(path) <= known


def first_outline_and_all_others(case: Case) -> list[ResultObject]:
    """Outlines differ in their pixels and places only; a program for each would take long."""
    outlines = [item for item in case.objects if item.role == "outline"]
    return outlines[:1] + [item for item in case.objects if item.role != "outline"]


def referenced(path: Path) -> set[str]:
    """Every SOP instance that a file refers to."""
    return {str(item.value) for item in dcmread(path).iterall() if item.keyword == "ReferencedSOPInstanceUID"}


def test_findings_on_a_series_are_those_of_the_brief(plain: Case) -> None:
    series = plain.series
    assert series.volume is not None
    assert [round(item.volume_mm3, 1) for item in findings_on(series).lesions] == [349.9, 14.6]


def test_object_of_another_patient_than_its_sources_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case.make(tmp_path / "whole", seed="own")  # the report shares elements with its sources
    (out := tmp_path / "out").mkdir()
    make = build.build_text_report

    def mistaken(*arguments: object) -> Dataset:
        report = make(*arguments)  # type: ignore[arg-type]
        report.PatientID = "0815"
        return report

    monkeypatch.setattr(build, "build_text_report", mistaken)
    with pytest.raises(ResultError, match="more than one patient"):
        build_results(case.findings, case.series, CONTEXT, out)
    assert "text-sr.dcm" not in {path.name for path in out.iterdir()}
