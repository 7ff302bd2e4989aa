from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random

import numpy as np
import pydicom
import pytest
from factories import mr_series
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import UnreadableError
from dicom_node.series.headers import ROUTING_KEYWORDS, ImageHeader, header_of, read_header

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
    JPEGLSLossless,
]
NAMES = [syntax.name for syntax in SYNTAXES]
PATIENT = {"PatientName": "SECRET^NAME", "PatientID": "SECRET-4711", "PatientBirthDate": "19610813"}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=NAMES)
def test_header_is_read_from_every_transfer_syntax(tmp_path: Path, syntax: str) -> None:
    paths = mr_series(
        tmp_path, shape=(5, 40, 32), transfer_syntax=syntax, AccessionNumber="A1", EchoTime=91.5
    )
    header = read_header(paths[2])
    assert header.sop_class_uid == "1.2.840.10008.5.1.4.1.1.4"
    assert (header.series_number, header.instance_number, header.frames) == (1, 3, 1)
    assert (header.rows, header.columns, header.pixel_spacing) == (40, 32, (0.9, 0.9))
    assert header.positions == ((-28.0, -30.0, -10.5),)
    assert header.orientations == ((1.0, 0.0, 0.0, 0.0, 1.0, 0.0),)
    assert header.accession_number == "A1"
    assert header.is_image
    assert header.tags["EchoTime"] == 91.5
    assert header.tags["ScanningSequence"] == ["SE", "IR"]
    assert "DiffusionBValue" not in header.tags


@pytest.mark.parametrize("enhanced", [False, True])
def test_json_gives_the_same_header_back(tmp_path: Path, enhanced: bool) -> None:
    header = read_header(mr_series(tmp_path, enhanced=enhanced, orientation="oblique")[0])
    assert ImageHeader.from_json(json.loads(json.dumps(header.to_json()))) == header
    assert ImageHeader.from_json({**header.to_json(), "of a later version": 1}) == header


@pytest.mark.parametrize("enhanced", [False, True])
def test_header_holds_no_patient(tmp_path: Path, enhanced: bool) -> None:
    text = json.dumps(read_header(mr_series(tmp_path, enhanced=enhanced, **PATIENT)[0]).to_json())
    assert "SECRET" not in text
    assert "19610813" not in text


def test_enhanced_image_speaks_in_classic_keywords(tmp_path: Path) -> None:
    path = mr_series(
        tmp_path,
        shape=(6, 32, 32),
        enhanced=True,
        InversionTime=2370.0,
        EchoTime=119.0,
        RepetitionTime=8500.0,
    )[0]
    ds = pydicom.dcmread(path)
    ds.SpectrallySelectedSuppression = "FAT"
    ds.save_as(path)
    header = read_header(path)
    assert header.frames == 6
    assert [position[2] for position in header.positions] == [-16.5, -13.5, -10.5, -7.5, -4.5, -1.5]
    assert len(header.orientations) == 6
    assert header.pixel_spacing == (0.9, 0.9)
    expected = {
        "InversionTime": 2370.0,
        "EchoTime": 119.0,
        "RepetitionTime": 8500.0,
        "EchoTrainLength": 16.0,
        "ScanningSequence": ["SE", "IR"],
        "ScanOptions": "FS",
        "BodyPartExamined": "BRAIN",
        "SliceThickness": 3.0,
        "NumberOfFrames": 6.0,
        "PulseSequenceName": "tse",
    }
    assert {key: header.tags[key] for key in expected} == expected
    assert header.tags["ImageType"] == ["ORIGINAL", "PRIMARY", "M", "NONE"]


def test_frames_that_differ_give_a_list(tmp_path: Path) -> None:
    ds = pydicom.dcmread(mr_series(tmp_path, shape=(5, 16, 16), enhanced=True)[0])
    for frame, b_value in zip(ds.PerFrameFunctionalGroupsSequence, [0, 1000, 1000, 0, 1000], strict=True):
        item = Dataset()
        item.DiffusionBValue = float(b_value)
        frame.MRDiffusionSequence = [item]
    assert header_of(ds).tags["DiffusionBValue"] == [0.0, 1000.0]


def test_ge_private_sequence_name_is_found_under_its_creator(tmp_path: Path) -> None:
    path = mr_series(tmp_path, shape=(5, 16, 16))[0]
    ds = pydicom.dcmread(path)
    ds.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0x9C, "LO", "CUBE_FLAIR")
    ds.save_as(path)
    assert read_header(path).tags["InternalPulseSequenceName"] == "CUBE_FLAIR"


def test_bad_values_are_absent_rather_than_fatal(tmp_path: Path) -> None:
    path = mr_series(tmp_path, shape=(5, 16, 16))[0]
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x18\x00\x81\x00DS\x06\x00100.0 ", b"\x18\x00\x81\x00DS\x06\x00abcde "))
    assert path.read_bytes() != data
    header = read_header(path)
    assert "EchoTime" not in header.tags
    assert header.tags["RepetitionTime"] == 9000.0


def test_every_routing_keyword_is_known() -> None:
    private = {"InternalPulseSequenceName"}
    assert [
        k for k in ROUTING_KEYWORDS if pydicom.datadict.tag_for_keyword(k) is None and k not in private
    ] == []
    assert not [keyword for keyword in ROUTING_KEYWORDS if keyword.startswith("Patient")]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=NAMES)
def test_cut_off_image_is_unreadable(tmp_path: Path, syntax: str) -> None:
    path = mr_series(tmp_path, shape=(5, 32, 32), transfer_syntax=syntax)[0]
    data = path.read_bytes()
    for kept in (len(data) - 30, len(data) * 2 // 3, 900, 400, 200):
        path.write_bytes(data[:kept])
        with pytest.raises(UnreadableError) as raised:
            read_header(path)
        assert str(raised.value).startswith("0001.dcm: ")
        assert "\n" not in str(raised.value)


def test_reason_says_how_much_is_there(tmp_path: Path) -> None:
    path = mr_series(tmp_path, shape=(5, 32, 32))[0]
    data = path.read_bytes()
    path.write_bytes(data[:-48])
    with pytest.raises(UnreadableError, match="cut off: 2000 of 2048 bytes of pixel data are there"):
        read_header(path)


def test_pixel_data_shorter_than_the_image_size_are_unreadable(tmp_path: Path) -> None:
    path = mr_series(tmp_path, shape=(5, 32, 32))[0]
    ds = pydicom.dcmread(path)
    ds.Rows = 33
    ds.save_as(path)
    with pytest.raises(UnreadableError, match="2048 bytes of pixel data, 2112 are needed"):
        read_header(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(4096), b"\0" * 128 + b"DICM"]
)
def test_other_files_are_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"^file: "):
        read_header(path)


def test_absent_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"none\.dcm can't be read: No such file"):
        read_header(tmp_path / "none.dcm")


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID"]
)
def test_image_without_a_uid_is_unreadable(tmp_path: Path, keyword: str) -> None:
    path = mr_series(tmp_path, shape=(5, 16, 16))[0]
    ds = pydicom.dcmread(path)
    del ds[keyword]
    ds.save_as(path)
    with pytest.raises(UnreadableError, match=f"{keyword} is missing"):
        read_header(path)


def test_report_is_no_image(tmp_path: Path) -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2", "1.2.3", "SR"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    header = read_header(tmp_path / "sr.dcm")
    assert (header.is_image, header.positions, header.tags["Modality"]) == (False, (), "SR")


def test_reading_a_header_does_not_read_its_pixels(tmp_path: Path) -> None:
    path = mr_series(tmp_path, shape=(5, 16, 16))[0]
    ds = pydicom.dcmread(path)
    ds.Rows = ds.Columns = 8192
    ds.PixelData = np.zeros((8192, 8192), np.uint16).tobytes()
    ds.save_as(path)
    read_header(path)
    start = time.process_time()
    assert read_header(path).rows == 8192
    assert time.process_time() - start < 0.05


def test_damaged_files_are_read_or_unreadable_and_nothing_is_told_of_their_values(tmp_path: Path) -> None:
    (whole, *_) = mr_series(tmp_path / "series", PatientName="SECRET^NAME", PatientID="SECRET")
    data = whole.read_bytes()
    header_bytes = data.index(b"\xe0\x7f\x10\x00")
    random = Random(1)
    path = tmp_path / "damaged.dcm"
    unreadable = 0
    for case in range(200):
        damaged = bytearray(data)
        for _ in range(random.choice([1, 2, 4])):
            damaged[random.randrange(132, header_bytes)] = random.randrange(256)
        path.write_bytes(damaged[: random.randrange(len(data))] if case % 10 == 0 else damaged)
        try:
            read_header(path)
        except UnreadableError as error:
            unreadable += 1
            assert "SECRET" not in str(error)
    assert 20 < unreadable < 200


def test_uid_of_a_vr_that_does_not_exist_is_unreadable(tmp_path: Path) -> None:
    (path, *_) = mr_series(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00U\x94"))
    with pytest.raises(UnreadableError, match=r"not readable as DICOM \(NotImplementedError\)"):
        read_header(path)


def test_sequence_that_ends_early_is_a_damaged_file_and_no_trouble_of_the_disk(tmp_path: Path) -> None:
    (path, *_) = mr_series(tmp_path, shape=(5, 8, 8))
    content = path.read_bytes()
    shared_functional_groups = b"\x00\x52\x29\x92SQ\0\0\x04\0\0\0\xfe\xff\x00\xe0"
    path.write_bytes(content.replace(b"\xe0\x7f\x10\x00OW", shared_functional_groups + b"\xe0\x7f\x10\x00OW"))
    with pytest.raises(UnreadableError, match="cut off within a sequence"):
        read_header(path)
