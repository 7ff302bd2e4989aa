"""Functional groups of multi-frame images under the keywords of classic ones (PS3.3 C.7.6.16)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from dicom_node.series.reading import json_value, tag_of

JSON = str | float | list[str] | list[float]

TAGS_OF_GROUPS = (
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime", "RepetitionTime"),
    ("MRTimingAndRelatedParametersSequence", "FlipAngle", "FlipAngle"),
    ("MRTimingAndRelatedParametersSequence", "EchoTrainLength", "EchoTrainLength"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRImageFrameTypeSequence", "FrameType", "ImageType"),
    ("MRImageFrameTypeSequence", "AcquisitionContrast", "AcquisitionContrast"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("PixelMeasuresSequence", "SliceThickness", "SliceThickness"),
    ("PixelMeasuresSequence", "SpacingBetweenSlices", "SpacingBetweenSlices"),
    ("PixelMeasuresSequence", "PixelSpacing", "PixelSpacing"),
    ("PlaneOrientationSequence", "ImageOrientationPatient", "ImageOrientationPatient"),
)
"""Functional group, its attribute, and the classic keyword that says the same."""


@dataclass(frozen=True)
class FrameGeometry:
    """Geometry of the frames: one position (mm, LPS) and one orientation for each, or none at all."""

    positions: tuple[tuple[float, float, float], ...] = ()
    orientations: tuple[tuple[float, ...], ...] = ()
    pixel_spacing: tuple[float, float] | None = None


def group_item(ds: Dataset, frame: Dataset | None, name: str) -> Dataset | None:
    """Return the item of a functional group: of the frame, or else the shared one."""
    for holder in (frame, *_items(ds, "SharedFunctionalGroupsSequence")):
        if holder is not None:
            for item in _items(holder, name):
                return item
    return None


def frame_items(ds: Dataset) -> list[Dataset]:
    """Return the items of PerFrameFunctionalGroupsSequence (5200,9230), one for each frame."""
    return list(_items(ds, "PerFrameFunctionalGroupsSequence"))


def frame_geometry(ds: Dataset, frames: int) -> FrameGeometry:
    """Return the geometry of each frame, from the functional groups or, single-frame, from the dataset."""
    items = frame_items(ds)
    if not items:
        position, orientation = (
            _numbers(ds, "ImagePositionPatient", 3),
            _numbers(ds, "ImageOrientationPatient", 6),
        )
        spacing = _pair(_numbers(ds, "PixelSpacing", 2))
        if frames != 1 or position is None or orientation is None:
            return FrameGeometry(pixel_spacing=spacing)
        return FrameGeometry((_triple(position),), (tuple(orientation),), spacing)
    positions, orientations, spacings = [], [], []
    for item in items:
        position = _of_group(ds, item, "PlanePositionSequence", "ImagePositionPatient", 3)
        orientation = _of_group(ds, item, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacings.append(_of_group(ds, item, "PixelMeasuresSequence", "PixelSpacing", 2))
        if position is not None and orientation is not None:
            positions.append(_triple(position))
            orientations.append(tuple(orientation))
    spacing = _pair(spacings[0]) if all(other == spacings[0] for other in spacings) else None
    if len(positions) != len(items) or len(items) != frames:
        return FrameGeometry(pixel_spacing=spacing)
    return FrameGeometry(tuple(positions), tuple(orientations), spacing)


def functional_group_tags(ds: Dataset) -> dict[str, JSON]:
    """Return acquisition values of a multi-frame image under classic keywords; a list where frames differ."""
    frames = frame_items(ds)
    if not frames and not list(_items(ds, "SharedFunctionalGroupsSequence")):
        return {}
    tags: dict[str, JSON] = {}
    for group, attribute, keyword in TAGS_OF_GROUPS:
        values = _distinct(ds, frames, group, attribute)
        if len(values) == 1:
            tags[keyword] = values[0]
        elif values and keyword not in ("ImageType", "PixelSpacing", "ImageOrientationPatient"):
            flat = [part for value in values for part in (value if isinstance(value, list) else [value])]
            tags[keyword] = list(dict.fromkeys(flat))  # type: ignore[assignment]
        elif values:
            tags[keyword] = values[0]
    return {**_pulse_sequence_tags(ds, frames), **tags}


def _pulse_sequence_tags(ds: Dataset, frames: list[Dataset]) -> dict[str, JSON]:
    """ScanningSequence, ScanOptions and BodyPartExamined in classic terms (PS3.3 C.8.3.1.1.1, C.8.13.4)."""
    tags: dict[str, JSON] = {}
    sequence = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(
        str(ds.get("EchoPulseSequence")), []
    )
    if "YES" in _distinct(ds, frames, "MRModifierSequence", "InversionRecovery"):
        sequence = [*sequence, "IR"]
    if ds.get("EchoPlanarPulseSequence") == "YES":
        sequence = [*sequence, "EP"]
    if sequence:
        tags["ScanningSequence"] = sequence if len(sequence) > 1 else sequence[0]
    # The standard has it in the MR Pulse Sequence module, some vendors put it with the modifiers.
    suppressed = _distinct(ds, frames, "MRModifierSequence", "SpectrallySelectedSuppression")
    if {"FAT", "FAT_AND_WATER"} & {
        str(value) for value in (ds.get("SpectrallySelectedSuppression"), *suppressed)
    }:
        tags["ScanOptions"] = "FS"
    anatomy = group_item(ds, frames[0] if frames else None, "FrameAnatomySequence")
    for region in _items(anatomy, "AnatomicRegionSequence") if anatomy is not None else ():
        if (meaning := json_value(region, "CodeMeaning")) is not None:
            tags["BodyPartExamined"] = str(meaning).upper()
    return tags


def _distinct(
    ds: Dataset, frames: list[Dataset], group: str, attribute: str
) -> list[str | float | list[str] | list[float]]:
    """Different values of an attribute over all frames, in the order of the frames."""
    values: list[str | float | list[str] | list[float]] = []
    for frame in frames or [Dataset()]:
        item = group_item(ds, frame, group)
        value = json_value(item, attribute) if item is not None else None
        if value is not None and value not in values:
            values.append(value)
    return values


def _items(ds: Dataset, name: str) -> Iterator[Dataset]:
    tag = tag_of(name)
    if ds.get_item(tag) is None:
        return
    try:
        value = ds[tag].value
    except (ValueError, TypeError, BytesLengthException):
        return
    yield from value or ()


def _of_group(ds: Dataset, frame: Dataset, group: str, attribute: str, count: int) -> list[float] | None:
    item = group_item(ds, frame, group)
    return None if item is None else _numbers(item, attribute, count)


def _numbers(ds: Dataset, keyword: str, count: int) -> list[float] | None:
    value = json_value(ds, keyword)
    if not isinstance(value, list) or len(value) != count:
        return None
    return [float(part) for part in value]


def _triple(values: list[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _pair(values: list[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])
