"""Plain values are those that pydicom would give."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.series import reading
from dicom_node.series.plain_values import plain_values
from dicom_node.series.reading import json_value, tolerant

# A keyword for each VR that is taken at its word
KEYWORDS = {
    "AE": "StationAETitle",
    "AS": "PatientAge",
    "CS": "ImageType",
    "LO": "SeriesDescription",
    "SH": "AccessionNumber",
    "UI": "SeriesInstanceUID",
    "DS": "PixelSpacing",
    "IS": "InstanceNumber",
    "US": "Rows",
    "SS": "TagAngleSecondAxis",
    "UL": "SimpleFrameList",
    "SL": "ReferencePixelX0",
    "FL": "TableOfParameterValues",
    "FD": "DiffusionBValue",
}
FILES = ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "CT_small.dcm", "rtplan.dcm"]


def by_pydicom(ds: Dataset, keyword: str) -> Any:
    """The value by way of pydicom's own conversion."""
    with pytest.MonkeyPatch.context() as patch, tolerant():
        patch.setattr(reading, "plain_values", lambda _: None)
        return json_value(ds, keyword)


def raw(vr: str, value: bytes, *, implicit: bool = False, little: bool = True) -> Dataset:
    ds, tag = Dataset(), Tag(KEYWORDS[vr])
    ds._dict[tag] = RawDataElement(tag, None if implicit else vr, len(value), value, 0, implicit, little)
    return ds


@pytest.mark.parametrize("name", FILES)
def test_values_of_files_are_those_of_pydicom(name: str) -> None:
    encoded = Path(str(get_testdata_file(name))).read_bytes()
    plain, converted = (dcmread(BytesIO(encoded), stop_before_pixels=True) for _ in range(2))
    keywords = [element.keyword for element in dcmread(BytesIO(encoded)) if element.keyword]
    raws: list[object] = [plain.get_item(tag) for tag in plain.keys()]  # noqa: SIM118 - a dataset's items are converted
    assert sum(isinstance(one, RawDataElement) and plain_values(one) is not None for one in raws) > 5
    for keyword in keywords:
        assert json_value(plain, keyword) == by_pydicom(converted, keyword), keyword


TEXT = st.text("AB 01.-+eE\\\0\x1b~n_", max_size=12).map(str.encode) | st.binary(max_size=12)


@settings(max_examples=300, deadline=None)
@given(vr=st.sampled_from(sorted(KEYWORDS)), value=TEXT, implicit=st.booleans(), little=st.booleans())
def test_any_bytes_are_what_pydicom_makes_of_them(
    vr: str, value: bytes, implicit: bool, little: bool
) -> None:
    with tolerant():
        found = json_value(raw(vr, value, implicit=implicit, little=little), KEYWORDS[vr])
    assert found == by_pydicom(raw(vr, value, implicit=implicit, little=little), KEYWORDS[vr])


def test_values_are_written_down() -> None:
    assert json_value(raw("CS", b"ORIGINAL\\PRIMARY \\M"), "ImageType") == ["ORIGINAL", "PRIMARY", "M"]
    assert json_value(raw("DS", b"0.5\\ 1e0 "), "PixelSpacing") == [0.5, 1.0]
    assert json_value(raw("US", b"\x01\x02"), "Rows") == 513.0
    assert json_value(raw("US", b"\x01\x02", little=False), "Rows") == 258.0
    assert json_value(raw("FD", struct.pack("<d", float("nan"))), "DiffusionBValue") is None
    assert json_value(raw("LO", b"  "), "SeriesDescription") is None
