"""Summary of a series in a few words for the worklog: by its physics, never by text that a person typed."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.routing.values import Tilt, number, show_number, value_of
from dicom_node.series.headers import ImageHeader


def series_summary(headers: Sequence[ImageHeader]) -> str:
    """Return e.g. ``TI 2570 ms, TE 133 ms, TR 10000 ms, 4 mm axial``; what the headers lack is left out."""
    parts = [*_contrast(headers), *_times(headers), _slices(headers)]
    return ", ".join(part for part in parts if part) or "a header without acquisition parameters"


def _contrast(headers: Sequence[ImageHeader]) -> list[str]:
    words = []
    b_values = [b for b in _numbers(headers, "DiffusionBValue") if b > 0]
    if b_values:
        words.append(f"DWI (b {show_number(max(b_values))})")
    sequence = _texts(headers, "ScanningSequence")
    if "EP" in sequence or "EPI" in _texts(headers, "ImageType"):
        words.append("echo planar")
    elif "GR" in sequence:
        words.append("gradient echo")
    if _texts(headers, "MRAcquisitionType") == {"3D"}:
        words.append("3D")
    return words


def _times(headers: Sequence[ImageHeader]) -> list[str]:
    words = []
    for label, keyword in (("TI", "InversionTime"), ("TE", "EchoTime"), ("TR", "RepetitionTime")):
        figures = [figure for figure in _numbers(headers, keyword) if figure > 0]
        if figures:
            words.append(f"{label} {_span(figures)} ms")
    return words


def _slices(headers: Sequence[ImageHeader]) -> str:
    thickness = _numbers(headers, "SliceThickness")
    words = [f"{_span(thickness)} mm"] if thickness else []
    tilts = [tilt for header in headers for tilt in value_of(header, "Plane") if isinstance(tilt, Tilt)]
    words += sorted({tilt.plane for tilt in tilts})
    return " ".join(words)


def _numbers(headers: Sequence[ImageHeader], keyword: str) -> list[float]:
    found = (number(part) for header in headers for part in value_of(header, keyword))
    return sorted({figure for figure in found if figure is not None})


def _texts(headers: Sequence[ImageHeader], keyword: str) -> set[str]:
    return {str(part).upper() for header in headers for part in value_of(header, keyword)}


def _span(figures: Sequence[float]) -> str:
    low, high = show_number(min(figures)), show_number(max(figures))
    return low if low == high else f"{low} to {high}"
