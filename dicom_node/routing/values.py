"""The value of a rule's key on one image: a tag, or one of the three computed keys."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dicom_node.routing.rules import PLANES, Condition
from dicom_node.series.headers import ImageHeader
from dicom_node.standard.defined_terms import DEFINED_TERMS, term
from dicom_node.standard.uids import uid_name

SEQUENCE_NAMES = ("SequenceName", "PulseSequenceName", "InternalPulseSequenceName")
FREE_TEXT_KEYS = frozenset(
    {
        "ContrastBolusAgent",
        "DerivationDescription",
        "Manufacturer",
        "ManufacturerModelName",
        "Names",
        "ProtocolName",
        "SeriesDescription",
        "StudyDescription",
        *SEQUENCE_NAMES,
    }
)
"""Typed by people, so it may hold anything: shown at the console, never in the one line for the worklog."""

UNITS = {
    "EchoTime": "ms",
    "RepetitionTime": "ms",
    "InversionTime": "ms",
    "SliceThickness": "mm",
    "SpacingBetweenSlices": "mm",
    "PixelSpacing": "mm",
    "FieldOfView": "mm",
    "ReconstructionDiameter": "mm",
    "MagneticFieldStrength": "T",
    "FlipAngle": "degrees",
    "DiffusionBValue": "s/mm2",
}

Value = tuple[str | float, ...]
Vector = Sequence[float]


@dataclass(frozen=True)
class Tilt:
    """Tilt of slices: the angle of their normal to that of each plane, and the nearest plane."""

    degrees: tuple[float, float, float]
    """For axial, coronal, sagittal, 0 to 90."""

    @property
    def plane(self) -> str:
        """The nearest plane."""
        return PLANES[self.degrees.index(min(self.degrees))]

    def __str__(self) -> str:
        """The plane, with its tilt where there is one."""
        tilt = round(min(self.degrees))
        return f"{self.plane}, tilted {tilt} degrees" if tilt else self.plane


def value_of(header: ImageHeader, key: str) -> Value | tuple[Tilt, ...]:
    """Return the values of `key` on an image; empty when the image lacks it.

    Numbers are float (units in `UNITS`), all else is str; ``Plane`` gives a `Tilt` for each orientation.
    """
    if key == "Plane":
        return tuple(tilt_of(axis) for axis in normals((header,)))
    if key == "FieldOfView":
        return _field_of_view(header)
    if key == "Names":
        return _names(header)
    if key == "PixelSpacing" and header.pixel_spacing is not None:
        return tuple(float(spacing) for spacing in header.pixel_spacing)
    return _tag(header, key)


def normals(headers: Sequence[ImageHeader]) -> list[tuple[float, float, float]]:
    """Unit normals (LPS) of the distinct orientations of images; unusable ones are left out."""
    axes: dict[tuple[float, ...], None] = {}
    for header in headers:
        axes.update(dict.fromkeys(_orientations(header)))
    found = (_normal(orientation) for orientation in axes)
    return [axis for axis in found if axis is not None]


def angle_deg(first: Vector, second: Vector) -> float:
    """Angle between two axes (unit vectors whose sign does not matter), 0 to 90 degrees."""
    cosine = abs(sum(a * b for a, b in zip(first, second, strict=True)))
    return math.degrees(math.acos(min(1.0, cosine)))


def tilt_of(axis: Vector) -> Tilt:
    """Return how a slice normal (LPS) lies to those of the axial, coronal and sagittal planes."""
    z, y, x = (angle_deg(axis, unit) for unit in ((0, 0, 1), (0, 1, 0), (1, 0, 0)))
    return Tilt((z, y, x))


def number(value: object) -> float | None:
    """The number that a value is, or None; some headers carry numbers as text."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    try:
        result = float(value)
    except ValueError:
        return None
    return result if math.isfinite(result) else None


def show(values: Sequence[object], key: str) -> str:
    """Values for people: whole numbers without a fraction, with the unit of the key."""
    unit = f" {UNITS[key]}" if key in UNITS else ""
    return ", ".join(show_number(v) if isinstance(v, float) else str(v) for v in values) + unit


def show_terms(values: Sequence[object], key: str, allowed: Collection[str]) -> str:
    """Values for the worklog: numbers, defined terms, what a rule itself names; of other texts only that they are there.

    Parameters
    ----------
    allowed : collection of str
        What the rule names, in any case.
    """
    named = {text.casefold() for text in allowed}
    return show([_term_of(value, key, named) for value in values], key)


def _term_of(value: object, key: str, named: Collection[str]) -> object:
    if not isinstance(value, str) or value.casefold() in named:
        return value
    if key == "SOPClassUID":
        return uid_name(value)
    figure = None if key in DEFINED_TERMS else number(value)
    return term(key, value) if figure is None else figure


def show_number(value: float) -> str:
    """A number with at most four significant digits, more only where it is a whole one."""
    rounded = round(value) if abs(value) >= 100 else float(f"{value:.4g}")
    return f"{rounded:g}" if abs(rounded) < 1e6 else str(rounded)


def plane_holds(condition: Condition, tilt: Tilt, tolerance_deg: float) -> bool:
    """Tell whether the slices lie in one of the wanted planes."""
    return any(tilt.degrees[PLANES.index(plane)] <= tolerance_deg + 1e-3 for plane in condition.has)


def _tag(header: ImageHeader, keyword: str) -> Value:
    value = header.tags.get(keyword)
    parts = value if isinstance(value, list | tuple) else [value]
    kept = (part for part in parts if part is not None and str(part).strip() != "")
    return tuple(float(p) if isinstance(p, int | float) else str(p).strip() for p in kept)


def _names(header: ImageHeader) -> Value:
    """Names of the series itself; GE's protocol name is that of the whole examination."""
    described = _tag(header, "SeriesDescription") or _tag(header, "ProtocolName")
    return (*described, *(part for keyword in SEQUENCE_NAMES for part in _tag(header, keyword)))


def _field_of_view(header: ImageHeader) -> Value:
    if header.pixel_spacing is None or header.rows is None or header.columns is None:
        return _tag(header, "ReconstructionDiameter")
    down_mm, across_mm = header.pixel_spacing
    return (max(header.rows * down_mm, header.columns * across_mm),)


def _orientations(header: ImageHeader) -> list[tuple[float, ...]]:
    """Orientation of each frame; from the tag alone where the header has no whole geometry (no position)."""
    if header.orientations:
        return [tuple(float(cosine) for cosine in orientation) for orientation in header.orientations]
    cosines = [number(cosine) for cosine in _tag(header, "ImageOrientationPatient")]
    return [tuple(cosine for cosine in cosines if cosine is not None)]


def _normal(orientation: Vector) -> tuple[float, float, float] | None:
    """Cross product of row and column direction, normalised. DICOM PS3.3 C.7.6.2.1.1."""
    if len(orientation) != 6:
        return None
    a, b, c, d, e, f = orientation
    cross = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.hypot(*cross)
    if not math.isfinite(length) or length < 0.5:
        return None
    return (cross[0] / length, cross[1] / length, cross[2] / length)
