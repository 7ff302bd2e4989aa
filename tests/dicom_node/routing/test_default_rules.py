"""The built-in rules on real headers, and on plausible ones of six vendors."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from dicom_node.routing.match import decide
from dicom_node.routing.rules import built_in_rules

RULES = built_in_rules()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("series.jsonl", {None: 74, "flair": 2}), ("openneuro.jsonl", {None: 106, "flair": 129})],
)
def test_all_real_headers_go_where_they_belong(shared_data: Path, real_series, name, expected):
    lines = (shared_data / "mr_headers" / name).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    decisions = [decide(real_series(record), RULES) for record in records]
    wrong = [
        f"{record['SeriesDescription']}: {decision.reason}"
        for record, decision in zip(records, decisions, strict=True)
        if (decision.pipeline or "none") != record["_expected"]
    ]
    assert wrong == []
    assert Counter(decision.pipeline for decision in decisions) == expected


def test_vendor_header_goes_where_it_belongs(vendor_entry, vendor_series):
    decision = decide(vendor_series(vendor_entry), RULES)
    assert (decision.pipeline or "none") == vendor_entry["expected"], decision.reason


def test_decision_does_not_depend_on_the_order_of_the_images(vendor_entry, vendor_series):
    headers = vendor_series(vendor_entry)
    shuffled = random.Random(7).sample(headers, len(headers))
    assert decide(shuffled, RULES) == decide(headers, RULES)


def test_without_any_geometry_flair_is_recognised_and_orbits_are_not(vendor_entry, make_header):
    if vendor_entry["orientation"] == "three planes":
        return  # nothing but its geometry tells a localizer
    header = make_header(rows=None, pixel_spacing=None, orientation=None, **vendor_entry["tags"])
    expected = "flair" if vendor_entry["expected"] == "flair" else None
    assert decide([header], RULES).pipeline == expected


def test_anonymised_series_without_names_is_judged_by_physics(make_header):
    header = make_header(EchoTime=120.0, RepetitionTime=9000.0, InversionTime=2400.0, ImageType=None)
    assert decide([header], RULES).rule == "flair-by-physics"


def test_numbers_written_as_text_are_numbers(make_header):
    header = make_header(EchoTime="120.0 ", RepetitionTime="9000", InversionTime="2400")
    assert decide([header], RULES).pipeline == "flair"


def test_double_inversion_with_both_times_is_nothing(make_header):
    header = make_header(EchoTime=325.0, RepetitionTime=7500.0, InversionTime=[450.0, 2550.0])
    assert decide([header], RULES).pipeline is None


ORIGINAL = ["ORIGINAL", "PRIMARY"]
FLAIR_2D = {
    "EchoTime": 120.0,
    "RepetitionTime": 9000.0,
    "InversionTime": 2400.0,
    "ScanningSequence": ["SE", "IR"],
}


@pytest.mark.parametrize(
    ("change", "pipeline"),
    [
        ({}, "flair"),
        ({"InversionTime": 1500.0}, "flair"),
        ({"InversionTime": 2900.0}, "flair"),
        ({"InversionTime": 1499.0}, None),
        ({"InversionTime": 2901.0}, None),
        ({"EchoTime": 70.0}, "flair"),
        ({"EchoTime": 69.0}, None),
        ({"EchoTime": None}, None),
        ({"ScanningSequence": ["EP", "IR"]}, None),
        ({"ScanningSequence": ["GR", "IR"]}, None),
        ({"ScanningSequence": None}, "flair"),
        ({"EchoPlanarPulseSequence": "YES"}, None),
        ({"EchoPlanarPulseSequence": "NO"}, "flair"),
        ({"DiffusionBValue": 0.0}, "flair"),
        ({"DiffusionBValue": 500.0}, None),
        ({"AcquisitionContrast": "DIFFUSION"}, None),
        ({"ImageType": [*ORIGINAL, "P", "ND"]}, None),
        ({"ImageType": [*ORIGINAL, "M", "ND", "NORM", "FM", "FIL"]}, "flair"),
        ({"ImageType": [*ORIGINAL, "M_IR", "M", "IR"]}, "flair"),
        ({"BodyPartExamined": "LSPINE"}, None),
        ({"BodyPartExamined": "KNEE"}, None),
        ({"BodyPartExamined": "HEADNECK"}, "flair"),
        ({"SeriesDescription": "sag T2 HWS"}, None),
        ({"SeriesDescription": "Ax FLAIR directional"}, "flair"),
        ({"ScanOptions": ["FS", "SPAIR"], "SeriesDescription": "T2_FLAIR_SPAIR_FS"}, "flair"),
    ],
)
def test_each_condition_for_flair_by_physics_counts(make_header, change, pipeline):
    assert decide([make_header(**{**FLAIR_2D, **change})], RULES).pipeline == pipeline


@pytest.mark.parametrize(
    ("names", "pipeline"),
    [
        ({}, None),
        ({"StudyDescription": "MRI BRAIN WITHOUT CONTRAST"}, "flair"),
        ({"StudyDescription": "MRT_Schädel"}, "flair"),
        ({"StudyDescription": "SCHAEDEL MRT"}, "flair"),
        ({"StudyDescription": "Head^Routine"}, "flair"),
        ({"ProtocolName": "BRAIN MS"}, "flair"),
        ({"SeriesDescription": "FLAIR brain"}, "flair"),
        ({"StudyDescription": "MRI CERVICAL SPINE WO CONTRAST"}, None),
        ({"StudyDescription": "MRI BRAIN", "SeriesDescription": "SAG FLAIR C-SPINE"}, None),
    ],
)
@pytest.mark.parametrize("spine", ["TSPINE", "CSPINE", "SPINE", "CSPINAL"])
def test_body_part_of_the_spine_counts_only_where_no_name_speaks_of_the_head(
    make_header, names, pipeline, spine
):
    by_physics = {**FLAIR_2D, "SeriesDescription": "SAG FLAIR", "BodyPartExamined": spine, **names}
    by_name = {**by_physics, "InversionTime": None}
    assert decide([make_header(**by_physics)], RULES).pipeline == pipeline
    assert decide([make_header(**by_name)], RULES).pipeline == pipeline


NAMED_FLAIR = {"EchoTime": 120.0, "RepetitionTime": 9000.0, "SeriesDescription": "T2_FLAIR"}


@pytest.mark.parametrize(
    ("change", "pipeline"),
    [
        ({}, "flair"),
        ({"InversionTime": 0.0}, "flair"),
        ({"InversionTime": 900.0}, None),
        ({"RepetitionTime": 3999.0}, None),
        ({"RepetitionTime": None}, None),
        ({"EchoTime": 69.0}, None),
        ({"EchoTime": None}, None),
        ({"ScanningSequence": "EP"}, None),
        ({"EchoPlanarPulseSequence": "YES"}, None),
        ({"DiffusionBValue": 500.0}, None),
        ({"AcquisitionContrast": "DIFFUSION"}, None),
        ({"ImageType": [*ORIGINAL, "P", "ND"]}, None),
        ({"BodyPartExamined": "CSPINE"}, None),
        ({"SeriesDescription": "T1FLAIR"}, None),
        ({"SeriesDescription": "tirm_tra_darkfluid"}, "flair"),
        ({"SeriesDescription": "TIRM dark"}, "flair"),
        ({"SeriesDescription": "t2_tirm_tra"}, None),
        ({"SeriesDescription": "T2 TSE", "ProtocolName": "FLAIR"}, None),
        ({"SeriesDescription": "T2 TSE", "AcquisitionContrast": "FLUID_ATTENUATED"}, "flair"),
        ({"InternalPulseSequenceName": "3dasl"}, None),
        ({"SeriesDescription": None, "ProtocolName": "FLAIR"}, "flair"),
        ({"SeriesDescription": "Ax T2", "ScanOptions": ["FAST_GEMS", "T2FLAIR_GEMS"]}, "flair"),
    ],
)
def test_each_condition_for_flair_by_name_counts(make_header, change, pipeline):
    assert decide([make_header(**{**NAMED_FLAIR, **change})], RULES).pipeline == pipeline


ORBIT = {
    "EchoTime": 84.0,
    "RepetitionTime": 4000.0,
    "SliceThickness": 3.0,
    "ScanOptions": "FS",
    "orientation": "coronal",
    "rows": 360,
    "pixel_spacing": (0.5, 0.5),
}
WIDE = {"rows": 512, "pixel_spacing": (0.47, 0.47)}
UNSUPPRESSED = {"ScanOptions": None}


@pytest.mark.parametrize(
    ("change", "pipeline"),
    [
        ({}, "fatsat"),
        ({"orientation": "axial"}, None),
        ({"orientation": "sagittal"}, None),
        ({"orientation": None}, None),
        ({"EchoTime": 60.0}, "fatsat"),
        ({"EchoTime": 59.0}, None),
        ({"EchoTime": 120.0}, "fatsat"),
        ({"EchoTime": 121.0}, None),
        ({"EchoTime": 40.0, "InversionTime": 180.0}, "fatsat"),
        ({"EchoTime": 39.0, "InversionTime": 180.0}, None),
        ({"EchoTime": 50.0, "InversionTime": 90.0}, None),
        ({"InversionTime": 301.0}, None),
        ({"RepetitionTime": 1999.0}, None),
        ({"SliceThickness": 2.0}, "fatsat"),
        ({"SliceThickness": 4.0}, "fatsat"),
        ({"SliceThickness": 1.9}, None),
        ({"SliceThickness": 4.1}, None),
        ({"pixel_spacing": (0.8, 0.8), "rows": 240}, "fatsat"),
        ({"pixel_spacing": (0.5, 0.9), "rows": 200}, None),
        ({"ScanningSequence": "EP"}, None),
        ({"EchoPlanarPulseSequence": "YES"}, None),
        ({"DiffusionBValue": 500.0}, None),
        ({"AcquisitionContrast": "DIFFUSION"}, None),
        ({"ImageType": [*ORIGINAL, "M", "FAT"]}, None),
        ({"BodyPartExamined": "KNEE"}, None),
        ({"BodyPartExamined": "HEAD"}, "fatsat"),
        ({"StudyDescription": "MR Shoulder left"}, None),
        ({"ProtocolName": "WRIST"}, None),
        ({"SeriesDescription": "T2 cor FS pituitary"}, None),
        ({"SeriesDescription": "cor T2 dixon_F"}, None),
        ({"SeriesDescription": "cor T2 dixon opp"}, None),
        (UNSUPPRESSED, None),
        ({**UNSUPPRESSED, "SeriesDescription": "T2 FSE cor offset"}, None),
        ({**UNSUPPRESSED, "SeriesDescription": "T2_fatsat_cor"}, "fatsat"),
        ({**UNSUPPRESSED, "SeriesDescription": "T2 fat suppressed"}, "fatsat"),
        ({**UNSUPPRESSED, "SeriesDescription": "t2_dixon_cor_W"}, "fatsat"),
        ({**UNSUPPRESSED, "SpectrallySelectedSuppression": "FAT"}, "fatsat"),
        ({**UNSUPPRESSED, "SpectrallySelectedSuppression": "NONE"}, None),
        ({**UNSUPPRESSED, "InversionTime": 160.0}, "fatsat"),
        ({**UNSUPPRESSED, "AcquisitionContrast": "STIR"}, "fatsat"),
        ({**UNSUPPRESSED, "ImageType": [*ORIGINAL, "DIXON", "WATER"]}, "fatsat"),
        (WIDE, None),
        ({**WIDE, "BodyPartExamined": "ORBIT"}, "fatsat"),
        ({**WIDE, "StudyDescription": "MRI orbits"}, "fatsat"),
        ({**WIDE, "ProtocolName": "ORBITS"}, "fatsat"),
        ({**WIDE, "SeriesDescription": "cor N.opticus"}, "fatsat"),
        ({**WIDE, "SeriesDescription": "Augenhoehle"}, "fatsat"),
    ],
)
def test_each_condition_for_orbits_counts(make_header, change, pipeline):
    assert decide([make_header(**{**ORBIT, **change})], RULES).pipeline == pipeline
