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
    measurement_groups,
    numbers,
    outcome,
    part,
    texts,
    tool,
    totals,
)

from dicom_node.results.build import build_results
from dicom_node.results.wording import LESIONS_LISTED
from pipelines.types import Interval, Lesion, Measurement

VOLUME, COUNT, PROBABILITY = "118565006", "246206008", "122157"
BELOW, ABOVE = "371885007", "371886008"
SUMMARY, ANALYSES, DIFFERENTIAL, FINDING = "111017", "111065", "111023", "121071"
NOTHING = {"segments": (), "lesions": (), "measurements": (), "heatmaps": (), "hypotheses": ()}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.make(tmp_path_factory.mktemp("sr"))


def test_positive_report_says_so_and_counts(case: Case) -> None:
    report = case.read("sr")
    assert coded(outcome(report)) == {SUMMARY: "111242", FINDING: "52101004"}
    assert totals(report) == {COUNT: 2, VOLUME: 364.5}


def test_segment_and_lesions_have_their_own_groups(case: Case) -> None:
    groups = measurement_groups(case.read("sr"))
    assert list(groups) == ["Lesion 1", "Lesion 2", "Lesion"], "viewers open the first one first"
    assert numbers(groups["Lesion"]) == {VOLUME: 364.5, COUNT: 2}
    assert numbers(groups["Lesion 1"]) == {VOLUME: 349.92, PROBABILITY: 0.65}
    assert numbers(groups["Lesion 2"]) == {VOLUME: 14.58, PROBABILITY: 0.4}


def test_every_group_has_one_tracking_uid_of_its_own(case: Case) -> None:
    groups = measurement_groups(case.read("sr")).values()
    uids = [str(item.UID) for group in groups for item in group.ContentSequence if concept(item) == "112040"]
    assert len(uids) == len(set(uids)) == 3


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
        assert values["Lesion 1"] == {VOLUME: 349.92, PROBABILITY: 0.65}
        assert read["Lesion"]["ReferencedSegment"] == 1
        assert read["Lesion"]["segmentationSOPInstanceUID"] == str(case.read("seg").SOPInstanceUID)


def test_negative_report_says_absent_with_zero_lesions(tmp_path: Path) -> None:
    report = Case.make(tmp_path, findings={**NOTHING, "status": "none"}).read("sr")
    assert measurement_groups(report) == {}
    assert coded(outcome(report)) == {SUMMARY: "111241", FINDING: "272519000"}
    assert totals(report) == {COUNT: 0, VOLUME: 0}


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
        report = case.read(role)
        groups = measurement_groups(report)
        assert reach(part(report, "126011"), VOLUME) == {BELOW: (64.5, "mm3"), ABOVE: (45.75, "mm3")}
        assert reach(groups["Lesion 1"], PROBABILITY) == {BELOW: (0.07, "1"), ABOVE: (0.06, "1")}
        assert reach(groups["Lesion 2"], PROBABILITY) == {}


@pytest.mark.parametrize(("status", "analyses"), [("unsuitable", "111225"), ("failed", "111224")])
def test_report_of_no_analysis_says_why(tmp_path: Path, status: str, analyses: str) -> None:
    changes = {**NOTHING, "status": status, "reason": "the series covers 12 mm of brain"}
    report = Case.make(tmp_path, findings=changes).read("sr")
    assert coded(outcome(report)) == {SUMMARY: "111245", ANALYSES: analyses}
    assert totals(report) == {}
    assert any("the series covers 12 mm of brain." in text for text in texts(outcome(report)))


@pytest.mark.parametrize(
    ("setting", "model", "is_coded"),
    [("coded", REAL, True), ("coded", SYNTHETIC, False), ("text", REAL, False), ("off", REAL, False)],
)
def test_diseases_are_coded_only_when_asked_for_and_trained_on_real_data(
    tmp_path: Path, setting: str, model: object, is_coded: bool
) -> None:
    context = replace(CONTEXT, differential=setting)
    said = outcome(Case.make(tmp_path, model=model, context=context).read("sr"))
    diseases = [item for item in said.ContentSequence if concept(item) == DIFFERENTIAL]
    assert [item.ConceptCodeSequence[0].CodeValue for item in diseases] == (
        ["24700007", "25044007"] if is_coded else []
    )
    assert [numbers(item) for item in diseases] == (
        [{PROBABILITY: 0.834}, {PROBABILITY: 0.166}] if is_coded else []
    )


def test_one_synthetic_model_among_real_ones_keeps_diseases_uncoded(tmp_path: Path) -> None:
    mixed = (REAL, replace(SYNTHETIC, name="classifier", trained_on="real and synthetic"))
    case = Case.make(tmp_path, context=replace(CONTEXT, differential="coded"), findings={"models": mixed})
    assert DIFFERENTIAL not in coded(outcome(case.read("sr")))


@pytest.mark.slow
def test_the_largest_fifty_lesions_are_listed(tmp_path: Path) -> None:
    lesions = tuple(Lesion(n, "Lesion", 3.0 + n, (0.0, 0.0, 0.0), 0.5, (3, 4)) for n in range(1, 61))
    case = Case.make(tmp_path, findings={"lesions": lesions, "measurements": ()})
    report = case.read("sr")
    groups = measurement_groups(report)
    listed = [name for name in groups if name.startswith("Lesion ")]
    assert (len(listed), listed[0], listed[-1]) == (LESIONS_LISTED, "Lesion 60", "Lesion 11")
    assert totals(report)[COUNT] == 60
    assert any("50 largest lesions are listed; 10 smaller ones" in text for text in texts(report))


def test_measurement_of_a_side_without_a_place_stands_with_its_side_among_the_totals(tmp_path: Path) -> None:
    measurements = (
        Measurement("probability", 0.91, "1", laterality="left"),
        Measurement("probability", 0.12, "1", laterality="right"),
    )
    changes = {"measurements": measurements, "lesions": (), "segments": (), "hypotheses": ()}
    case = Case.make(tmp_path, context=replace(CONTEXT, pipeline="fatsat", title="FAT-SAT"), findings=changes)
    report = case.read("sr")
    assert measurement_groups(report) == {}
    left, right = part(report, "126011").ContentSequence
    assert float(left.MeasuredValueSequence[0].NumericValue) == 0.91
    (site,) = right.ContentSequence
    assert site.ConceptCodeSequence[0].CodeValue == "18234004"
    assert site.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "24028007"


@pytest.mark.parametrize("role", ["sr", "sr-enhanced"])
def test_every_group_opens_on_a_point_of_an_image_before_any_other_place(case: Case, role: str) -> None:
    mask = case.findings.segments[0].mask
    sources = {str(ds.SOPInstanceUID): k for k, ds in enumerate(case.series.datasets)}
    for name, group in measurement_groups(case.read(role)).items():
        places = [item for item in group.ContentSequence if item.ValueType in ("SCOORD", "SCOORD3D")]
        assert places[0].ValueType == "SCOORD"
        (image,) = places[0].ContentSequence
        assert image.RelationshipType == "SELECTED FROM"
        k = sources[image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
        i, j = (int(value) for value in places[0].GraphicData)
        assert mask[k, j, i], name
        assert image.ReferencedSOPSequence[0].ReferencedSOPClassUID == case.series.datasets[k].SOPClassUID


def test_lesion_names_its_segment_and_the_frames_that_show_it(case: Case) -> None:
    group = measurement_groups(case.read("sr"))["Lesion 1"]
    (segment,) = [item for item in group.ContentSequence if concept(item) == "121191"]
    (frames,) = [item for item in group.ContentSequence if concept(item) == "121214"]
    seg = case.read("seg")
    assert segment.ReferencedSOPSequence[0].ReferencedSegmentNumber == 1
    assert frames.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    numbers_of = frames.ReferencedSOPSequence[0].ReferencedFrameNumber
    shown = [int(seg.pixel_array[number - 1].sum()) for number in numbers_of]
    assert shown == [48, 48, 48]


def test_place_size_and_change_of_a_lesion_are_coded(plain: Case, tmp_path: Path) -> None:
    first, second = plain.findings.lesions
    first = replace(first, region="periventricular", laterality="left", long_axis_mm=7.25, change="enlarging")
    first = replace(first, also_reaches=("juxtacortical",), borderline=True)
    report = Case.make(tmp_path / "2", findings={"lesions": (first, second)}).read("sr")
    group = measurement_groups(report)["Lesion 1"]
    said = coded(group)
    assert (said["change"], said["region-certainty"]) == ("15454001", "borderline")
    assert said["also-reaches"] == "juxtacortical"
    assert numbers(group)["103339001"] == 7.25
    region, site = (item for item in group.ContentSequence if concept(item) == "363698007")
    assert region.ConceptCodeSequence[0].CodeMeaning == "Periventricular"
    assert coded(region) == {"272741003": "7771000"}
    assert site.ConceptCodeSequence[0].CodeValue == "68523003"
    assert coded(site) == {"272741003": "7771000", "106233006": "periventricular"}
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DCMNODE"


def test_ensemble_is_named_as_such_and_models_without_a_result_here_are_not(tmp_path: Path) -> None:
    mask = replace(SYNTHETIC, name="nnunet", device_uid="1.2.3.5")
    second = replace(mask, name="nnunet-2", version="1.3.0", device_uid="1.2.3.6")
    told = replace(SYNTHETIC, name="five-slices", device_uid="1.2.3.8")
    tasks = {"mask": ("nnunet", "nnunet-2"), "differential": ("five-slices",)}
    case = Case.make(tmp_path, findings={"models": (mask, second, told), "tasks": tasks, "heatmaps": ()})
    named = {
        role: [str(item.ManufacturerModelName) for item in case.read(role).ContributingEquipmentSequence[1:]]
        for role in ("seg", "sr", "text-sr")
    }
    assert named == {
        "seg": ["nnunet", "nnunet-2"],
        "sr": ["nnunet", "nnunet-2"],
        "text-sr": ["nnunet", "nnunet-2", "five-slices"],
    }
    group = measurement_groups(case.read("sr"))["Lesion 1"]
    said = {concept(item): str(item.TextValue) for item in group.ContentSequence if item.ValueType == "TEXT"}
    assert (said["111001"], said["111003"]) == ("ensemble of nnunet and nnunet-2", "1.2.0 and 1.3.0")
    made_by = case.read("seg").SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert made_by.AlgorithmName == "ensemble of nnunet and nnunet-2"


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


def test_report_is_titled_as_one_of_measurements_only_where_it_has_them(plain: Case, tmp_path: Path) -> None:
    nothing = {"status": "none", "segments": (), "lesions": (), "hypotheses": (), "heatmaps": ()}
    titles = {
        case.findings.status: case.read("sr").ConceptNameCodeSequence[0].CodeValue
        for case in (plain, Case.make(tmp_path, findings=nothing))
    }
    assert titles == {"findings": "126000", "none": "18748-4"}
