"""Rows and findings of made-up patients."""

from __future__ import annotations

from typing import Any

from pydicom import Dataset

from dicom_node.cohort.table import Row
from pipelines.types import Findings, Interval, Measurement

DIGEST = "0123456789abcdef"


def row(**changes: Any) -> Row:
    values = {"age": 40, "sex": "F", "volume_ml": 5.0, "lesions": 9, "pipeline": DIGEST}
    return Row(**{**values, "group": "MS", "source": "Hospital", **changes})


def rows(count: int, **changes: Any) -> list[Row]:
    """Patients alike save for their volumes: 1, 2, 3 ... mL."""
    return [row(volume_ml=float(n + 1), **changes) for n in range(count)]


def found(volume_ml: float = 10.5, interval_ml: tuple[float, float] | None = None) -> Findings:
    between = (
        Interval(1000 * interval_ml[0], 1000 * interval_ml[1], "over 4 predictions") if interval_ml else None
    )
    total = Measurement("volume", 1000 * volume_ml, "mm3", derivation="total", interval=between)
    return Findings("findings", measurements=(Measurement("lesion_count", 9, "{lesions}"), total))


def image(**changes: Any) -> Dataset:
    ds = Dataset()
    for keyword, value in {"PatientAge": "042Y", "PatientSex": "F", **changes}.items():
        setattr(ds, keyword, value)
    return ds
