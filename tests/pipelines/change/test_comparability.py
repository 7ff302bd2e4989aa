"""Grade of comparability by what the headers and positions say."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.change.comparability import compare_acquisitions
from pipelines.types import Volume
from tests.pipelines.change.heads import SCANNER


def volume(slices_mm: float = 3.0, normal: int = 2, **changed: object) -> Volume:
    axes = np.roll(np.eye(3), normal - 2, axis=0)
    affine = np.eye(4)
    affine[:3, :3] = axes * (1.0, 1.0, slices_mm)
    attributes = {key: value for key, value in {**SCANNER, **changed}.items() if value is not None}
    return Volume(np.zeros((2, 2, 2), np.float32), affine, attributes)


@pytest.mark.parametrize(
    ("other", "grade", "reason"),
    [
        (volume(), "A", None),
        (volume(EchoTime=95.0), "A", None),
        (volume(EchoTime=120.0), "B", "the echo time differs"),
        (volume(SoftwareVersions="E11"), "B", "not stated in the headers: software version"),
        (volume(4.0, SliceThickness=4.0), "B", "the slice distance differs"),
        (volume(ManufacturerModelName="Other"), "B", "the scanner model differs"),
        (volume(ManufacturerModelName=None), "B", "not stated in the headers: scanner model"),
        (volume(5.0), "C", "the slice distance differs"),
        (volume(MagneticFieldStrength=1.5), "C", "the field strength differs"),
        (volume(Manufacturer="GE MEDICAL SYSTEMS"), "C", "the manufacturer differs"),
        (volume(MRAcquisitionType="3D"), "C", "the acquisition differs"),
        (volume(normal=0), "C", "the plane differs"),
        (volume(ContrastBolusAgent="Gadovist"), "C", "the contrast agent differs"),
        (volume(SeriesDescription="t2_flair_tra_fs"), "C", "the fat suppression differs"),
    ],
)
def test_grade_has_its_reason(other: Volume, grade: str, reason: str | None) -> None:
    for pair in ((volume(), other), (other, volume())):
        said = compare_acquisitions(*pair)
        assert said.grade == grade
        assert said.reasons[:1] == (() if reason is None else (reason,))


def test_table_shows_both_acquisitions() -> None:
    table = {row.name: row for row in compare_acquisitions(volume(EchoTime=120.0), volume()).table}
    echo = table["echo time"]
    assert (echo.current, echo.prior, echo.differs) == ("120 ms", "90 ms", True)
    assert table["software version"].current == "not stated"
