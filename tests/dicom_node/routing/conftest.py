"""Headers for routing: of the shared real series, and of the plausible ones in ``vendor_headers.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR

from dicom_node.series.headers import ImageHeader

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
PLANES = {
    "axial": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
}
NUMERIC_VRS = {"DS", "IS", "FD", "FL", "US", "SS", "UL", "SL"}

HeaderMaker = Callable[..., ImageHeader]


@pytest.fixture
def make_header() -> HeaderMaker:
    """One image, by default axial MR without any acquisition parameter; tags as keyword arguments."""
    return _make_header


@pytest.fixture
def real_series() -> Callable[[dict[str, Any]], list[ImageHeader]]:
    """A line of ``series.jsonl`` (all values text) to three images of that series."""
    return _real_series


@pytest.fixture
def vendor_series() -> Callable[[dict[str, Any]], list[ImageHeader]]:
    """An entry of ``vendor_headers.json`` to all images of that series."""
    return _vendor_series


def vendor_entries() -> list[dict[str, Any]]:
    return json.loads((Path(__file__).parent / "vendor_headers.json").read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vendor_entry" in metafunc.fixturenames:
        entries = vendor_entries()
        names = [
            f"{e['tags']['Manufacturer'].split()[0]}-{e['tags'].get('SeriesDescription')}" for e in entries
        ]
        metafunc.parametrize("vendor_entry", entries, ids=names)


def _make_header(
    *,
    sop_class_uid: str = MR_IMAGE,
    number: int = 1,
    rows: int | None = 256,
    pixel_spacing: tuple[float, float] | None = (0.9, 0.9),
    orientation: tuple[float, ...] | str | None = "axial",
    is_image: bool = True,
    **tags: Any,
) -> ImageHeader:
    direction = PLANES[orientation] if isinstance(orientation, str) else orientation
    held = {"Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY"], **tags}
    return ImageHeader(
        sop_class_uid=sop_class_uid,
        sop_instance_uid=f"1.2.3.{number}",
        series_uid="1.2.3",
        study_uid="1.2",
        accession_number="",
        series_number=1,
        instance_number=number,
        frames=1,
        rows=rows,
        columns=rows,
        pixel_spacing=pixel_spacing,
        positions=((0.0, 0.0, 3.0 * number),) if direction else (),
        orientations=(tuple(direction),) if direction else (),  # type: ignore[arg-type]
        images_in_acquisition=None,
        is_image=is_image,
        tags={keyword: value for keyword, value in held.items() if value is not None},
    )


def _real_series(record: dict[str, Any]) -> list[ImageHeader]:
    tags = {k: _typed(k, v) for k, v in record.items() if not k.startswith("_") and k != "SOPClassUID"}
    tags.setdefault("ImageType", None)
    spacing = tags.get("PixelSpacing")
    orientation = tags.get("ImageOrientationPatient")
    rows = tags.get("Rows")
    return [
        _make_header(
            sop_class_uid=record.get("SOPClassUID", MR_IMAGE),
            number=number,
            rows=int(rows) if rows else None,
            pixel_spacing=tuple(spacing) if spacing else None,
            orientation=tuple(orientation) if orientation else None,
            **tags,
        )
        for number in (1, 2, 3)
    ]


def _typed(keyword: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_typed(keyword, part) for part in value]
    return float(value) if dictionary_VR(keyword) in NUMERIC_VRS else value


def _vendor_series(entry: dict[str, Any]) -> list[ImageHeader]:
    wanted = entry["orientation"]
    planes = list(PLANES) if wanted == "three planes" else [tuple(wanted)]
    return [
        _make_header(
            number=number,
            rows=entry["rows"],
            pixel_spacing=tuple(entry["pixel_spacing"]),
            orientation=planes[number % len(planes)],
            **entry["tags"],
        )
        for number in range(1, entry["images"] + 1)
    ]
