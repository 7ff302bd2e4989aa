"""What every object shares: patient and study, research mark, equipment, dates; and what a poor source does not break."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from factories import mr_series
from pydicom import dcmread
from result_factories import CONTEXT, REAL, Case, texts, tool

from dicom_node.results.series_list import listed_series

ROLES = ("outline", "seg", "sr", "text-sr", "heatmap", "sr-enhanced")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    patient = {
        "PatientName": "Roe^Jane",
        "PatientID": "4711",
        "IssuerOfPatientID": "HOSPITAL",
        "PatientAge": "035Y",
        "PatientWeight": 61.5,
        "StudyDescription": "MR Head",
        "AccessionNumber": "A17",
        "BodyPartExamined": "BRAIN",
    }
    return Case.make(tmp_path_factory.mktemp("common"), **patient)


@pytest.mark.parametrize("role", ROLES)
def test_patient_and_study_are_the_sources(case: Case, role: str) -> None:
    source, ds = dcmread(case.sources[0]), case.read(role)
    assert ds.StudyInstanceUID == source.StudyInstanceUID
    shown = (
        ds.PatientName,
        ds.PatientID,
        ds.IssuerOfPatientID,
        ds.PatientAge,
        ds.StudyDescription,
        ds.AccessionNumber,
    )
    assert shown == ("Roe^Jane", "4711", "HOSPITAL", "035Y", "MR Head", "A17")
    assert float(ds.PatientWeight) == 61.5


@pytest.mark.parametrize("role", ROLES)
def test_body_part_is_the_sources_where_the_object_may_have_one(case: Case, role: str) -> None:
    ds = case.read(role)
    assert ds.get("BodyPartExamined") == (None if ds.Modality == "SR" else "BRAIN")


@pytest.mark.parametrize("role", ROLES)
def test_object_is_marked_as_research(case: Case, role: str) -> None:
    ds = case.read(role)
    assert ds.ContentQualification == "RESEARCH"
    assert re.fullmatch(r"RESEARCH 1\d [\w -]+: FLAIR lesions", ds.SeriesDescription)
    if ds.Modality == "SR":
        assert (ds.PreliminaryFlag, ds.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


@pytest.mark.parametrize("role", ROLES)
def test_node_and_algorithm_are_named_as_equipment(case: Case, role: str) -> None:
    ds = case.read(role)
    assert (ds.Manufacturer, ds.ManufacturerModelName) == ("dicom-node project", "dicom-node")
    assert (ds.SoftwareVersions, ds.DeviceSerialNumber) == ("0.1.0", "node-1")
    (algorithm,) = [
        item
        for item in ds.ContributingEquipmentSequence
        if item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    ]
    assert (algorithm.ManufacturerModelName, algorithm.DeviceUID) == ("joint", "1.2.3.4")
    assert list(algorithm.SoftwareVersions) == ["1.2.0", "ab" * 32]


@pytest.mark.parametrize("role", ROLES)
def test_every_date_is_the_runs(case: Case, role: str) -> None:
    ds = case.read(role)
    assert {ds.ContentDate, ds.InstanceCreationDate, ds.SeriesDate} == {"20261121"}
    assert {ds.ContentTime, ds.InstanceCreationTime, ds.SeriesTime} == {"081203"}


def test_dates_are_in_the_zone_that_the_source_names(tmp_path: Path) -> None:
    case = rewritten(tmp_path, mr_series(tmp_path / "source"), TimezoneOffsetFromUTC="-0930")
    for role in ROLES:
        ds = case.read(role)
        assert (ds.TimezoneOffsetFromUTC, ds.ContentDate, ds.ContentTime) == ("-0930", "20261120", "224203")
    assert any("analysed 2026-11-20 22:42 UTC-09:30 by" in text for text in texts(case.read("text-sr")))


def test_broken_zone_of_the_source_is_harmless(tmp_path: Path) -> None:
    case = rewritten(tmp_path, mr_series(tmp_path / "source"), TimezoneOffsetFromUTC="9")
    assert case.read("sr").ContentTime == "081203"


@pytest.mark.parametrize("role", ROLES)
def test_encoding_is_utf_8_explicit_little_endian(case: Case, role: str) -> None:
    ds = case.read(role)
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing",
    [
        "AccessionNumber",
        "StudyID",
        "PatientBirthDate",
        "PatientSex",
        "StudyTime",
        "ReferringPhysicianName",
        "SliceThickness",
        "InstanceNumber",
        "SeriesDescription",
    ],
)
def test_missing_attribute_does_not_stop_the_result(tmp_path: Path, missing: str) -> None:
    sources = mr_series(tmp_path / "source")
    case = rewritten(tmp_path, sources, **{missing: None})
    assert [item.role for item in case.objects].count("heatmap") == 2
    if missing not in ("SliceThickness", "InstanceNumber", "SeriesDescription"):
        assert case.read("sr")[missing].value in ("", None)


def test_missing_study_date_does_not_stop_the_result(tmp_path: Path) -> None:
    case = rewritten(tmp_path, mr_series(tmp_path / "source"), StudyDate=None, StudyTime=None)
    assert case.read("sr").StudyDate == ""


@pytest.mark.slow
def test_unknown_patient_sex_becomes_empty(tmp_path: Path) -> None:
    case = rewritten(tmp_path, mr_series(tmp_path / "source"), PatientSex="X")
    assert case.read("seg").PatientSex == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_names_in_other_character_sets_become_utf_8(
    tmp_path: Path, character_set: str | list[str], name: str
) -> None:
    sources = mr_series(tmp_path / "source")
    case = rewritten(tmp_path, sources, SpecificCharacterSet=character_set, PatientName=name)
    for role in ROLES:
        ds = case.read(role)
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert str(ds.PatientName) == name
        done = tool("dciodvfy", case.paths(role)[0])
        lines = (done.stdout + done.stderr).splitlines()
        assert [line for line in lines if line.startswith("Error") and "<Laterality>" not in line] == []


def test_long_titles_are_cut_and_keep_what_matters() -> None:
    shown = listed_series(replace(CONTEXT, title="t" * 80), "seg").description
    assert len(shown) == 64
    assert shown.startswith("RESEARCH 12 lesion mask: ttt")


@pytest.mark.slow
def test_long_series_description_of_the_source_is_harmless(tmp_path: Path) -> None:
    case = Case.make(tmp_path, SeriesDescription="s" * 64)
    assert all(len(case.read(role).SeriesDescription) <= 64 for role in ROLES)


def rewritten(tmp_path: Path, sources: list[Path], **values: object) -> Case:
    """A case on the same files with some attributes set, or left out where the value is None."""
    from dicom_node.series.volume import load_series

    for path in sources:
        ds = dcmread(path)
        ds.decode()
        for keyword, value in values.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
        ds.save_as(path)
    return Case.of(tmp_path, sources, load_series(sources), CONTEXT, REAL)
