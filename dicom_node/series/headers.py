"""Headers of images, as completeness and routing need them: no pixels, and of the patient keyed digests alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicom_node.errors import UnreadableError
from dicom_node.series.functional_groups import frame_geometry, functional_group_tags
from dicom_node.series.identity import PROCESS_KEY, Identity, identity_of
from dicom_node.series.reading import (
    BAD_FILE_ERRORS,
    json_value,
    read_without_pixels,
    tag_of,
    tolerant,
    why,
)

JSON = str | float | list[str] | list[float]

ROUTING_KEYWORDS = (
    "AcquisitionContrast",
    "BodyPartExamined",
    "Columns",
    "ContentQualification",
    "ContrastBolusAgent",
    "DerivationDescription",
    "DiffusionBValue",
    "EchoNumbers",
    "EchoPlanarPulseSequence",
    "EchoTime",
    "EchoTrainLength",
    "FlipAngle",
    "ImageOrientationPatient",
    "ImageType",
    "InternalPulseSequenceName",
    "InversionTime",
    "MRAcquisitionType",
    "MagneticFieldStrength",
    "Manufacturer",
    "ManufacturerModelName",
    "Modality",
    "NumberOfFrames",
    "NumberOfTemporalPositions",
    "PixelSpacing",
    "ProtocolName",
    "PulseSequenceName",
    "ReconstructionDiameter",
    "RepetitionTime",
    "Rows",
    "SOPClassUID",
    "ScanOptions",
    "ScanningSequence",
    "SequenceName",
    "SequenceVariant",
    "SeriesDescription",
    "SliceThickness",
    "SoftwareVersions",
    "SpacingBetweenSlices",
    "SpectrallySelectedSuppression",
    "StudyDescription",
)
"""The tags that a routing rule may name. None identifies a patient.

InternalPulseSequenceName is GE's private (0019,xx9C) of GEMS_ACQU_01; all others are DICOM keywords.
"""

GE_CREATORS = tuple(BaseTag(0x00190000 | element) for element in range(0x10, 0x20))

DATE_DIGITS = 8
LONGEST_TIME = 26  # PS3.5 table 6.2-1, DT

MAX_TEXT = 256
"""Longer texts are cut: rules look for words."""


@dataclass(frozen=True)
class ImageHeader:
    """One image as completeness and routing see it.

    Parameters
    ----------
    positions : tuple of (x, y, z), mm, LPS
        One for each frame; empty when the image, or any of its frames, has none.
    orientations : tuple of 6 direction cosines
        As many as `positions`, or empty.
    is_image : bool
        It has rows and columns and pixel data.
    tags : dict
        ROUTING_KEYWORDS that are present: numbers as float, other values as str, several values as a list.
        Enhanced MR: values of the shared and per-frame functional groups under the keywords of the classic MR
        image; a list when frames differ.
    identity : Identity or None
        Patient and frame of reference, comparable with headers that were read with the same key; None in headers that were
        kept by a version that did not look.
    study_date : str
        StudyDate (0008,0020) or, where that is blank, AcquisitionDate (0008,0022), as YYYYMMDD; "" where neither is there.
    acquired_at : str
        Date and time of acquisition, as YYYYMMDDHHMMSS with a fraction or without; "" where they are not there.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    accession_number: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    frames: int = 1
    rows: int | None = None
    columns: int | None = None
    pixel_spacing: tuple[float, float] | None = None
    positions: tuple[tuple[float, float, float], ...] = ()
    orientations: tuple[tuple[float, ...], ...] = ()
    images_in_acquisition: int | None = None
    is_image: bool = True
    tags: dict[str, JSON] = field(default_factory=dict)
    identity: Identity | None = None
    study_date: str = ""
    acquired_at: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values that JSON keeps, not to be changed."""
        values = dict(vars(self))
        values["identity"] = None if self.identity is None else dict(vars(self.identity))
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ImageHeader:
        """Return the header that `to_json` wrote; keys of a newer version are left out."""
        known = {name: values[name] for name in (f.name for f in fields(cls)) if name in values}
        spacing = known.get("pixel_spacing")
        known["pixel_spacing"] = None if spacing is None else (spacing[0], spacing[1])
        for name in ("positions", "orientations"):
            known[name] = tuple(tuple(point) for point in known.get(name, ()))
        if known.get("identity") is not None:
            known["identity"] = Identity(**known["identity"])
        return cls(**known)


def read_header(path: Path, *, key: bytes = PROCESS_KEY) -> ImageHeader:
    """Read a file's header; pixels are not read, but that they are there is seen from the file's length.

    Parameters
    ----------
    path : Path
        A file of the DICOM File Format.
    key : bytes
        Of the digests in its identity: the node's own where headers are kept.

    Raises
    ------
    UnreadableError
        No DICOM, cut off, or without the UIDs that say what it is.
    """
    ds, has_pixels = read_without_pixels(path)
    try:
        return header_of(ds, has_pixels=has_pixels, key=key)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: {error}") from error
    except BAD_FILE_ERRORS as error:  # elements are only decoded where they are asked for
        raise UnreadableError(f"{path.name}: {why(error)}") from error
    except OSError as error:
        if (
            error.errno is not None
        ):  # the disk's; pydicom raises one without a number where a sequence ends early
            raise
        raise UnreadableError(f"{path.name}: cut off within a sequence") from error


def header_of(ds: Dataset, *, has_pixels: bool | None = None, key: bytes = PROCESS_KEY) -> ImageHeader:
    """Return the header of a dataset.

    Parameters
    ----------
    ds : Dataset
        With or without its pixel data.
    has_pixels : bool, optional
        Whether the object has pixel data; by default seen from `ds` itself.
    key : bytes
        As for `read_header`.

    Raises
    ------
    UnreadableError
        One of SOPClassUID, SOPInstanceUID, SeriesInstanceUID and StudyInstanceUID is missing.
    """
    with tolerant():
        return _header_of(ds, has_pixels, key)


def _header_of(ds: Dataset, has_pixels: bool | None, key: bytes) -> ImageHeader:
    uids = [
        _uid(ds, keyword)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    ]
    rows, columns = _integer(ds, "Rows"), _integer(ds, "Columns")
    frames = max(1, _integer(ds, "NumberOfFrames") or 1)
    geometry = frame_geometry(ds, frames)
    if has_pixels is None:
        has_pixels = any(keyword in ds for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    return ImageHeader(
        sop_class_uid=uids[0],
        sop_instance_uid=uids[1],
        series_uid=uids[2],
        study_uid=uids[3],
        accession_number=_text(ds, "AccessionNumber"),
        series_number=_integer(ds, "SeriesNumber"),
        instance_number=_integer(ds, "InstanceNumber"),
        frames=frames,
        rows=rows,
        columns=columns,
        pixel_spacing=geometry.pixel_spacing,
        positions=geometry.positions,
        orientations=geometry.orientations,
        images_in_acquisition=_integer(ds, "ImagesInAcquisition"),
        is_image=bool(rows and columns and has_pixels),
        tags=_tags(ds),
        identity=identity_of(ds, key),
        study_date=_date(ds, "StudyDate") or _date(ds, "AcquisitionDate"),
        acquired_at=_acquired_at(ds),
    )


def _date(ds: Dataset, keyword: str) -> str:
    """Return a date as YYYYMMDD, also where it is written with dots, as before 1993; "" where it is none."""
    digits = "".join(filter(str.isdigit, _text(ds, keyword)))
    return digits if len(digits) == DATE_DIGITS else ""


def _acquired_at(ds: Dataset) -> str:
    """Return AcquisitionDateTime (0008,002A), or AcquisitionDate and AcquisitionTime (0008,0022 and 0032)."""
    if together := _text(ds, "AcquisitionDateTime"):
        return together[:LONGEST_TIME]
    day, time = _date(ds, "AcquisitionDate"), _text(ds, "AcquisitionTime").replace(":", "")
    return (day + time)[:LONGEST_TIME] if day and time else ""


def _tags(ds: Dataset) -> dict[str, JSON]:
    tags: dict[str, JSON] = {}
    for keyword in ROUTING_KEYWORDS:
        value = None if keyword == "InternalPulseSequenceName" else json_value(ds, keyword)
        if value is not None:
            tags[keyword] = value
    if (name := _ge_pulse_sequence(ds)) is not None:
        tags["InternalPulseSequenceName"] = name
    for keyword, value in functional_group_tags(ds).items():
        if keyword in ("ImageType", "ScanOptions", "ScanningSequence", "BodyPartExamined"):
            tags.setdefault(keyword, value)
        else:
            tags[keyword] = value
    return {keyword: _cut(value) for keyword, value in tags.items()}


def _cut(value: JSON) -> JSON:
    return value[:MAX_TEXT] if isinstance(value, str) else value


def _ge_pulse_sequence(ds: Dataset) -> str | None:
    """GE's private InternalPulseSequenceName, (0019,xx9C) of the creator GEMS_ACQU_01."""
    for creator in GE_CREATORS:
        if ds.get_item(creator) is not None and str(ds[creator].value).strip() == "GEMS_ACQU_01":
            raw = ds.get((0x0019, creator.element << 8 | 0x9C))
            value = getattr(raw, "value", None)
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
            return text.strip(" \0") or None
    return None


def _uid(ds: Dataset, keyword: str) -> str:
    uid = _text(ds, keyword).strip("\0")
    if not uid:
        raise UnreadableError(f"{keyword} is missing")
    if not uid.isascii():
        raise UnreadableError(f"{keyword} is damaged")
    return uid


def _text(ds: Dataset, keyword: str) -> str:
    found, tag = json_value(ds, keyword), tag_of(keyword)
    if isinstance(found, str):
        return found.strip()
    if ds.get_item(tag) is None:
        return ""
    try:
        value = ds[tag].value
    except (ValueError, TypeError):
        return ""
    no_text = value is None or (isinstance(value, Sequence) and not isinstance(value, str))
    return "" if no_text else str(value).strip()


def _integer(ds: Dataset, keyword: str) -> int | None:
    value = json_value(ds, keyword)
    return int(value) if isinstance(value, float) else None
