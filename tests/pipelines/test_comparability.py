"""Grade of comparability by what the headers and positions say."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.comparability import Acquisition, acquisition_of, compare_acquisitions
from pipelines.types import Volume
from tests.pipelines.change.heads import SCANNER


def acquired(slices_mm: float = 3.0, normal: int = 2, **changed: object) -> Acquisition:
    axes = np.roll(np.eye(3), normal - 2, axis=0)
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.0, 1.0, slices_mm)
    attributes = {key: value for key, value in {**SCANNER, **changed}.items() if value is not None}
    return acquisition_of(Volume(np.zeros((2, 2, 2), np.float32), affine, attributes))


@pytest.mark.parametrize(
    ("other", "grade", "reason"),
    [
        (acquired(), "A", None),
        (acquired(EchoTime=95.0), "A", None),
        (acquired(EchoTime=120.0), "B", "the echo time differs"),
        (acquired(SoftwareVersions="E11"), "B", "not stated in the headers: software version"),
        (acquired(4.0, SliceThickness=4.0), "B", "the slice distance differs"),
        (acquired(ManufacturerModelName="Other"), "B", "the scanner model differs"),
        (acquired(ManufacturerModelName=None), "B", "not stated in the headers: scanner model"),
        (acquired(5.0), "C", "the slice distance differs"),
        (acquired(MagneticFieldStrength=1.5), "C", "the field strength differs"),
        (acquired(Manufacturer="GE MEDICAL SYSTEMS"), "C", "the manufacturer differs"),
        (acquired(MRAcquisitionType="3D"), "C", "the acquisition differs"),
        (acquired(normal=0), "C", "the plane differs"),
        (acquired(ContrastBolusAgent="Gadovist"), "C", "the contrast agent differs"),
        (acquired(SeriesDescription="t2_flair_tra_fs"), "C", "the fat suppression differs"),
    ],
)
def test_grade_has_its_reason(other: Acquisition, grade: str, reason: str | None) -> None:
    for pair in ((acquired(), other), (other, acquired())):
        said = compare_acquisitions(*pair)
        assert said.grade == grade
        assert said.reasons[:1] == (() if reason is None else (reason,))


def test_table_shows_both_acquisitions() -> None:
    table = {row.name: row for row in compare_acquisitions(acquired(EchoTime=120.0), acquired()).table}
    echo = table["echo time"]
    assert (echo.current, echo.prior, echo.differs) == ("120 ms", "90 ms", True)
    assert table["software version"].current == "not stated"


def test_silence_of_an_archive_is_no_difference() -> None:
    after_contrast = acquired(ContrastBolusAgent="Gadovist", SeriesDescription="t2_flair_tra_fs")
    told = Acquisition({"Manufacturer": SCANNER["Manufacturer"]}, is_whole=False)
    assert compare_acquisitions(after_contrast, told).grade == "B"
    told = Acquisition({"MagneticFieldStrength": 1.5, "ContrastBolusAgent": "Gadovist"}, is_whole=False)
    assert compare_acquisitions(acquired(), told).reasons[:2] == (
        "the field strength differs",
        "the contrast agent differs",
    )
