"""What a few bytes may ask for: inflating, sequence items and decoding have limits."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from factories import mr_series
from pydicom import Dataset, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.errors import UnreadableError
from dicom_node.receive.file_meta import encode_file_meta
from dicom_node.series import deflated, limits, reading
from dicom_node.series.headers import read_header
from dicom_node.series.limits import check_decoded, check_items, frame_and_all_bytes
from dicom_node.series.reading import read_whole, read_without_pixels
from dicom_node.series.volume import load_series


def _head(syntax: str) -> bytes:
    return bytes(
        encode_file_meta(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
            sop_instance_uid="1.2.3",
            transfer_syntax_uid=syntax,
            calling_ae="SCU",
        )
    )


def _element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sHL", group, number, vr, 0, len(value)) + value


def _write_deflated(path: Path, data: bytes) -> Path:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(_head(DeflatedExplicitVRLittleEndian) + packer.compress(data) + packer.flush())
    return path


def test_deflated_image_is_read_as_it_is_when_inflated(tmp_path: Path) -> None:
    (path, *_) = mr_series(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    expected, found = dcmread(path), read_whole(path)
    assert found == expected
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (found.pixel_array == expected.pixel_array).all()


def test_data_set_that_inflates_beyond_the_limit_is_refused_without_inflating_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deflated, "INFLATED_MB", 4)
    path = _write_deflated(tmp_path / "bomb.dcm", _element(0x0009, 0x1010, b"UN", bytes(64_000_000)))
    tracemalloc.start()
    with pytest.raises(
        UnreadableError, match=r"bomb\.dcm: its data set has more than 4 MB when it is inflated"
    ):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_data_set_that_inflates_to_many_times_its_size_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deflated, "FREE_MB", 1)
    path = _write_deflated(tmp_path / "bomb.dcm", _element(0x0009, 0x1010, b"UN", bytes(4_000_000)))
    with pytest.raises(UnreadableError, match="more than 1 MB, and to more than 100 times its size"):
        read_without_pixels(path)


def test_small_image_of_zeros_is_read_however_well_it_deflates(tmp_path: Path) -> None:
    pixels = _element(0x7FE0, 0x0010, b"OW", bytes(2_000_000))
    path = _write_deflated(tmp_path / "zeros.dcm", _element(0x0008, 0x0060, b"UT", b"MR") + pixels)
    assert len(read_whole(path).PixelData) == 2_000_000


def test_deflated_data_set_that_is_cut_off_is_unreadable(tmp_path: Path) -> None:
    (path, *_) = mr_series(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableError, match="cut off within its deflated data set"):
        read_without_pixels(path)


def test_damaged_file_meta_information_does_not_lead_around_the_limit(tmp_path: Path) -> None:
    (path, *_) = mr_series(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    content = bytearray(path.read_bytes())
    at = content.index(DeflatedExplicitVRLittleEndian.encode())
    # (0002,0010) in Implicit VR, which pydicom reads too
    content[132 : at - 8] = b""
    content[132:140] = struct.pack("<HHL", 2, 0x10, 22)
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="may say that it is deflated"):
        read_without_pixels(path)


def test_file_of_too_many_sequence_items_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SEQUENCE_ITEMS", 100)
    monkeypatch.setattr(limits, "_CHUNK", 61)  # tags lie across its borders
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    path = tmp_path / "items.dcm"
    for count, is_refused in ((100, False), (101, True)):
        path.write_bytes(_head(ExplicitVRLittleEndian) + _element(0x0008, 0x1140, b"SQ", items * count))
        if is_refused:
            with pytest.raises(UnreadableError, match="it has more than 100 sequence items"):
                read_without_pixels(path)
        else:
            read_without_pixels(path)


def test_file_is_left_where_it_was_when_its_items_are_counted() -> None:
    file = BytesIO(bytes(8 * limits.SEQUENCE_ITEMS))
    file.seek(7)
    check_items(file)
    assert file.tell() == 7


def test_long_private_value_is_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGE_VALUE", 1000)
    (path, *_) = mr_series(tmp_path, shape=(1, 32, 32))
    ds = dcmread(path)
    ds.add_new(0x00090010, "LO", "SOMEBODY")
    ds.add_new(0x00091001, "UN", bytes(1002))
    ds.add_new(0x00091002, "UN", bytes(1000))
    ds.save_as(path)
    found = read_whole(path)
    assert 0x00091001 not in found
    assert 0x00091002 in found
    assert found.PixelData == ds.PixelData
    assert read_header(path).is_image


def test_file_that_ends_within_a_long_value_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGE_VALUE", 1000)
    path = tmp_path / "cut.dcm"
    path.write_bytes(_head(ExplicitVRLittleEndian) + _element(0x0009, 0x1001, b"UN", bytes(1002))[:-1])
    with pytest.raises(UnreadableError, match="cut off within its header"):
        read_without_pixels(path)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"Rows": 10000, "Columns": 10000, "BitsAllocated": 16}, (200_000_000, 200_000_000)),
        ({"Rows": 16, "Columns": 16, "BitsAllocated": 1, "NumberOfFrames": 10}, (32, 320)),
        ({"Rows": 2, "Columns": 2, "BitsAllocated": 8, "SamplesPerPixel": 3}, (12, 12)),
        ({}, (0, 0)),
    ],
)
def test_decoded_bytes_come_from_the_header(header: dict[str, int], expected: tuple[int, int]) -> None:
    ds = Dataset()
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    assert frame_and_all_bytes(ds) == expected


def test_frame_and_series_have_limits_of_their_own() -> None:
    check_decoded(100, 200_000_000, frame_mb=1, together_mb=200)
    with pytest.raises(UnreadableError, match="a frame would take 2 MB when decoded, 1 MB are allowed"):
        check_decoded(2_000_000, 2_000_000, frame_mb=1, together_mb=200)
    with pytest.raises(UnreadableError, match="all frames together would take 201 MB"):
        check_decoded(100, 201_000_000, frame_mb=1, together_mb=200)


def test_series_that_asks_for_too_much_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = mr_series(tmp_path)

    def decode(*_: object) -> None:
        pytest.fail("it was decoded")

    monkeypatch.setattr("dicom_node.series.decoding.pixel_array", decode)
    for path in paths:
        ds = dcmread(path)
        ds.Rows = ds.Columns = 50_000
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
        ds.PixelData = struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE0DD, 0)
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
        ds.save_as(path)
    with pytest.raises(UnreadableError, match="a frame would take 5000 MB when decoded, 512 MB are allowed"):
        load_series(paths)
