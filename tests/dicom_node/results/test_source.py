"""Sources as strangers write them."""

from __future__ import annotations

from pathlib import Path

from factories import mr_series
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.results.source import copy_patient_and_study, sources_of
from dicom_node.series.volume import load_series


def test_elements_that_cannot_be_read_are_dropped_and_the_others_make_the_report(tmp_path: Path) -> None:
    series = load_series(mr_series(tmp_path, shape=(6, 8, 8)))
    ds = series.datasets[0]
    tag = Tag(0x0018, 0x9087)  # DiffusionBValue, FD: 8 bytes
    ds._dict[tag] = RawDataElement(tag, "FD", 3, b"abc", 0, False, True)
    (first, *others) = sources_of(series)
    assert "DiffusionBValue" not in first
    assert first.PatientID == dcmread(tmp_path / "0001.dcm").PatientID
    assert len(others) == 5


def test_what_is_changed_in_a_source_or_result_stays_out_of_the_image(tmp_path: Path) -> None:
    series = load_series(mr_series(tmp_path, PatientSex="X", shape=(8, 32, 32)))
    image = series.datasets[0]
    (first, *_) = sources_of(series)
    result = Dataset()
    copy_patient_and_study(first, result)
    result.PatientID = "another"
    assert first.PatientID == image.PatientID != "another"
    assert (first.SpecificCharacterSet, image.PatientSex) == ("ISO_IR 192", "X")
