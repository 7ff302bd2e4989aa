"""The TID 1500 report: what it says of each outcome, and that dcmqi reads the numbers that the SEG holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from result_factories import (
    CONTEXT,
    REAL,
    SYNTHETIC,
    Case,
    coded,
    concept,
    mask_of,
    measurement_groups,
    numbers,
    texts,
    tool,
)

from dicom_node.results.build import build_results
from dicom_node.results.wording import LESIONS_LISTED
from pipelines.types import Interval, Lesion, Measurement, Segment

VOLUME, COUNT, PROBABILITY = "118565006", "246206008", "122157"
BELOW, ABOVE = "371885007", "371886008"
SUMMARY, ANALYSES, DIFFERENTIAL, FINDING = "111017", "111065", "111023", "121071"
NOTHING = {"segments": (), "lesions": (), "measurements": (), "heatmaps": (), "hypotheses": ()}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.make(tmp_path_factory.mktemp("sr"))


def test_positive_report_says_so_and_counts(case: Case) -> None:
    overall = measurement_groups(case.read("sr"))["Analysis"]
    assert coded(overall)[SUMMARY] == "111242"
    assert coded(overall)[FINDING] == "52101004"
    assert numbers(overall) == {COUNT: 2, VOLUME: 364.5}


def test_segment_and_lesions_have_their_own_groups(case: Case) -> None:
    groups = measurement_groups(case.read("sr"))
    assert list(groups) == ["Analysis", "Lesion", "Lesion 1", "Lesion 2"]
    assert numbers(groups["Lesion"]) == {VOLUME: 364.5, COUNT: 2}
    assert numbers(groups["Lesion 1"]) == {VOLUME: 349.92, PROBABILITY: 0.65}
    assert numbers(groups["Lesion 2"]) == {VOLUME: 14.58, PROBABILITY: 0.4}


def test_every_group_has_one_tracking_uid_of_its_own(case: Case) -> None:
    groups = measurement_groups(case.read("sr")).values()
    uids = [str(item.UID) for group in groups for item in group.ContentSequence if concept(item) == "112040"]
    assert len(uids) == len(set(uids)) == 4


def test_segment_group_and_seg_share_the_tracking_uid(case: Case) -> None:
    group = measurement_groups(case.read("sr"))["Lesion"]
    uid = next(str(item.UID) for item in group.ContentSequence if concept(item) == "112040")
    assert uid == case.read("seg").SegmentSequence[0].TrackingUID


def test_lesion_centre_is_a_point_in_the_sources_frame_of_reference(case: Case) -> None:
    group = measurement_groups(case.read("sr"))["Lesion 1"]
    (point,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD3D"]
    assert point.GraphicType == "POINT"
    np.testing.assert_allclose(point.GraphicData, case.findings.lesions[0].centre_lps, atol=1e-3)
    assert point.ReferencedFrameOfReferenceUID == case.series.datasets[0].FrameOfReferenceUID


def test_enhanced_sr_is_the_same_tree_without_points(case: Case) -> None:
    full, enhanced = case.read("sr"), case.read("sr-enhanced")
    assert (full.SOPClassUID, enhanced.SOPClassUID) == (
        "1.2.840.10008.5.1.4.1.1.88.34",
        "1.2.840.10008.5.1.4.1.1.88.22",
    )
    assert full.SOPInstanceUID != enhanced.SOPInstanceUID
    assert "SCOORD3D" not in {item.value for item in enhanced.iterall() if item.keyword == "ValueType"}
    first, second = measurement_groups(full), measurement_groups(enhanced)
    assert {name: numbers(group) for name, group in first.items()} == {
        name: numbers(g) for name, g in second.items()
    }
    assert texts(full) == texts(enhanced)


@pytest.mark.slow
@pytest.mark.parametrize(
    "geometry", [{}, {"orientation": "oblique"}, {"wrong_spacing_between_slices": 0.3}, {"enhanced": True}]
)
def test_dcmqi_reads_the_volume_that_the_seg_holds(tmp_path: Path, geometry: dict[str, object]) -> None:
    case = Case.make(tmp_path, **geometry)
    tool(
        "segimage2itkimage", "--inputDICOM", case.paths("seg")[0], "--outputDirectory", tmp_path, "-t", "nrrd"
    )
    image = sitk.ReadImage(str(tmp_path / "1.nrrd"))
    recomputed = int((sitk.GetArrayFromImage(image) > 0).sum()) * float(np.prod(image.GetSpacing()))
    assert recomputed == pytest.approx(364.5, rel=1e-5)
    for role in ("sr", "sr-enhanced"):
        out = tmp_path / f"{role}.json"
        done = tool("tid1500reader", "--inputDICOM", case.paths(role)[0], "--outputMetadata", out)
        assert done.returncode == 0, done.stderr
        read = {item["TrackingIdentifier"]: item for item in json.loads(out.read_text())["Measurements"]}
        values = {
            name: {m["quantity"]["CodeValue"]: float(m["value"]) for m in item["measurementItems"]}
            for name, item in read.items()
        }
        assert values["Lesion"][VOLUME] == pytest.approx(recomputed, rel=1e-5)
        assert values["Analysis"] == {COUNT: 2, VOLUME: 364.5}
        assert values["Lesion 1"] == {VOLUME: 349.92, PROBABILITY: 0.65}
        assert read["Lesion"]["ReferencedSegment"] == 1
        assert read["Lesion"]["segmentationSOPInstanceUID"] == str(case.read("seg").SOPInstanceUID)


def test_negative_report_says_absent_with_zero_lesions(tmp_path: Path) -> None:
    report = Case.make(tmp_path, findings={**NOTHING, "status": "none"}).read("sr")
    (overall,) = measurement_groups(report).values()
    assert coded(overall)[SUMMARY] == "111241"
    assert coded(overall)[FINDING] == "272519000"
    assert numbers(overall) == {COUNT: 0, VOLUME: 0}


def reach(group: Dataset, code: str) -> dict[str, tuple[float, str]]:
    """How far a number reaches below and above, with the unit, by code value."""
    (item,) = [item for item in group.ContentSequence if item.ValueType == "NUM" and concept(item) == code]
    return {
        concept(child): (
            float(child.MeasuredValueSequence[0].NumericValue),
            str(child.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
        )
        for child in item.get("ContentSequence") or ()
        if child.ValueType == "NUM"
    }


@pytest.mark.slow
def test_interval_is_stated_as_the_distances_below_and_above_in_the_unit_of_the_value(
    plain: Case, tmp_path: Path
) -> None:
    first = plain.findings
    volume = Measurement("volume", 364.5, "mm3", derivation="total", interval=Interval(300.0, 410.25, "x"))
    lesion = replace(first.lesions[0], probability_interval=Interval(0.58, 0.71, "over 4 predictions"))
    changes = {"measurements": (first.measurements[0], volume), "lesions": (lesion, first.lesions[1])}
    case = Case.make(tmp_path / "2", findings=changes)
    for role in ("sr", "sr-enhanced"):
        groups = measurement_groups(case.read(role))
        assert numbers(groups["Analysis"]) == {COUNT: 2, VOLUME: 364.5}
        assert reach(groups["Analysis"], VOLUME) == {BELOW: (64.5, "mm3"), ABOVE: (45.75, "mm3")}
        assert reach(groups["Lesion 1"], PROBABILITY) == {BELOW: (0.07, "1"), ABOVE: (0.06, "1")}
        assert reach(groups["Lesion 2"], PROBABILITY) == {}
        done = tool("dciodvfy", case.paths(role)[0])
        assert not [line for line in done.stderr.splitlines() if line.startswith("Error")], done.stderr
        out = tmp_path / f"{role}.json"
        assert (
            tool("tid1500reader", "--inputDICOM", case.paths(role)[0], "--outputMetadata", out).returncode
            == 0
        )
        (overall,) = [
            item
            for item in json.loads(out.read_text())["Measurements"]
            if item["TrackingIdentifier"] == "Analysis"
        ]
        assert [float(item["value"]) for item in overall["measurementItems"]] == [2, 364.5]


@pytest.mark.parametrize(("status", "analyses"), [("unsuitable", "111225"), ("failed", "111224")])
def test_report_of_no_analysis_says_why(tmp_path: Path, status: str, analyses: str) -> None:
    changes = {**NOTHING, "status": status, "reason": "the series covers 12 mm of brain"}
    report = Case.make(tmp_path, findings=changes).read("sr")
    (overall,) = measurement_groups(report).values()
    assert (coded(overall)[SUMMARY], coded(overall)[ANALYSES]) == ("111245", analyses)
    assert numbers(overall) == {}
    assert any("the series covers 12 mm of brain." in text for text in texts(overall))


@pytest.mark.parametrize(
    ("setting", "model", "is_coded"),
    [("coded", REAL, True), ("coded", SYNTHETIC, False), ("text", REAL, False), ("off", REAL, False)],
)
def test_diseases_are_coded_only_when_asked_for_and_trained_on_real_data(
    tmp_path: Path, setting: str, model: object, is_coded: bool
) -> None:
    context = replace(CONTEXT, differential=setting)
    groups = measurement_groups(Case.make(tmp_path, model=model, context=context).read("sr"))
    assert ("MS" in groups, "NMOSD" in groups) == (is_coded, is_coded)
    if is_coded:
        assert coded(groups["MS"])[DIFFERENTIAL] == "24700007"
        assert numbers(groups["MS"]) == {PROBABILITY: 0.834}


def test_one_synthetic_model_among_real_ones_keeps_diseases_uncoded(tmp_path: Path) -> None:
    mixed = (REAL, replace(SYNTHETIC, name="classifier", trained_on="real and synthetic"))
    case = Case.make(tmp_path, context=replace(CONTEXT, differential="coded"), findings={"models": mixed})
    assert "MS" not in measurement_groups(case.read("sr"))


@pytest.mark.slow
def test_the_largest_fifty_lesions_are_listed(tmp_path: Path) -> None:
    lesions = tuple(Lesion(n, "Lesion", 3.0 + n, (0.0, 0.0, 0.0), 0.5, (3, 4)) for n in range(1, 61))
    case = Case.make(tmp_path, findings={"lesions": lesions, "measurements": ()})
    groups = measurement_groups(case.read("sr"))
    listed = [name for name in groups if name.startswith("Lesion ")]
    assert (len(listed), listed[0], listed[-1]) == (LESIONS_LISTED, "Lesion 60", "Lesion 11")
    assert numbers(groups["Analysis"])[COUNT] == 60
    for role in ("sr", "text-sr"):
        assert any(
            "50 largest lesions are listed; 10 smaller ones" in text for text in texts(case.read(role))
        )


def test_each_eye_has_its_own_group_with_its_side(tmp_path: Path) -> None:
    measurements = (
        Measurement("probability", 0.91, "1", laterality="left"),
        Measurement("probability", 0.12, "1", laterality="right"),
    )
    nerve = Segment("Lesion", "lesion", mask_of((12, 64, 64)), laterality="left")
    changes = {"measurements": measurements, "lesions": (), "segments": (nerve,), "hypotheses": ()}
    case = Case.make(tmp_path, context=replace(CONTEXT, pipeline="fatsat", title="FAT-SAT"), findings=changes)
    groups = measurement_groups(case.read("sr"))
    assert numbers(groups["left optic_nerve"]) == {PROBABILITY: 0.91}
    site = next(item for item in groups["right optic_nerve"].ContentSequence if concept(item) == "363698007")
    assert site.ConceptCodeSequence[0].CodeValue == "18234004"
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "24028007"


def test_region_and_change_of_a_lesion_are_coded(plain: Case, tmp_path: Path) -> None:
    first, second = plain.findings.lesions
    changed = (replace(first, region="periventricular", change="enlarging"), second)
    report = Case.make(tmp_path / "2", findings={"lesions": changed}).read("sr")
    group = measurement_groups(report)["Lesion 1"]
    assert coded(group)["change"] == "15454001"
    site = next(item for item in group.ContentSequence if concept(item) == "363698007")
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "periventricular"
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DCMNODE"


def test_algorithm_is_named_as_in_the_contributing_equipment(case: Case) -> None:
    report = case.read("sr")
    group = measurement_groups(report)["Lesion"]
    said = {concept(item): str(item.TextValue) for item in group.ContentSequence if item.ValueType == "TEXT"}
    equipment = report.ContributingEquipmentSequence[-1]
    assert said["111001"] == equipment.ManufacturerModelName == "joint"
    assert said["111003"] == equipment.SoftwareVersions[0] == "1.2.0"
    assert equipment.SoftwareVersions[1] in said["111002"]


def test_replaced_reports_are_predecessors(plain: Case, tmp_path: Path) -> None:
    replaced = tuple((o.sop_class_uid, o.sop_instance_uid, o.series_uid, o.study_uid) for o in plain.objects)
    out = tmp_path / "again"
    out.mkdir()
    objects = build_results(plain.findings, plain.series, replace(CONTEXT, run=2, replaces=replaced), out)
    second = Case(plain.sources, plain.series, plain.findings, out, objects)
    for role in ("sr", "text-sr"):
        (study,) = second.read(role).PredecessorDocumentsSequence
        (reference,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == plain.read(role).SOPInstanceUID


def test_procedure_is_the_sources_when_it_is_coded(case: Case) -> None:
    (item,) = [item for item in case.read("sr").ContentSequence if concept(item) == "121058"]
    assert item.ConceptCodeSequence[0].CodeValue == "816077007"
