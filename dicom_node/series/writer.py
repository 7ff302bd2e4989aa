"""Volume to an MR series as a scanner would write it: for phantoms and tests (PS3.3 A.4 MR Image IOD)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian

from dicom_node.series.enhanced import enhanced_image
from dicom_node.series.nifti import volume_from_nifti
from dicom_node.series.slices import Numbering, Slices, cut_volume, frame_order, put, window
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID
from dicom_node.standard.uids import (
    ENHANCED_MR_IMAGE,
    MR_IMAGE,
    derived_uid,
)
from pipelines.types import Volume

__all__ = ["volume_from_nifti", "write_series"]

PATIENT = {
    "PatientName": "PHANTOM^BRAIN",
    "PatientID": "PHANTOM",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
}
STUDY = {
    "StudyDate": "20260105",
    "StudyTime": "081500",
    "ReferringPhysicianName": "",
    "StudyID": "1",
    "AccessionNumber": "",
    "StudyDescription": "MRI HEAD",
}
ACQUISITION: Mapping[str, Any] = {
    "Modality": "MR",
    "Manufacturer": "PHANTOM",
    "ManufacturerModelName": "PHANTOM MR",
    "DeviceSerialNumber": "1",
    "SoftwareVersions": "1",
    "InstitutionName": "",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "BodyPartExamined": "HEAD",
    "PositionReferenceIndicator": "",
    "ScanningSequence": "SE",
    "SequenceVariant": "SK",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "RepetitionTime": 9000.0,
    "EchoTime": 100.0,
    "EchoTrainLength": 16,
    "FlipAngle": 150.0,
    "MagneticFieldStrength": 3.0,
}
DEFINED_BY_VOLUME = frozenset(
    {
        "Columns",
        "ImageOrientationPatient",
        "NumberOfFrames",
        "PixelSpacing",
        "Rows",
        "SOPClassUID",
        "SpacingBetweenSlices",
    }
)


def write_series(
    volume: Volume,
    out: Path,
    *,
    patient: Mapping[str, Any] | None = None,
    study: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    series_number: int = 1,
    enhanced: bool = False,
    interleaved: bool = False,
    numbering: Numbering = "spatial",
    images_in_acquisition: bool = False,
    transfer_syntax: str = ExplicitVRLittleEndian,
    seed: object = None,
) -> list[Path]:
    """Write a volume as one MR series into a folder.

    Parameters
    ----------
    volume : Volume
        Its axes perpendicular; written with int16 or uint16 pixels, rescaled only when its values are no such
        integers. The DICOM keywords among its attributes are written too, but for those that its array and
        affine define.
    out : Path
        Folder, made when it is missing.
    patient, study, attributes : mapping of DICOM keyword to value
        Over the defaults of this module; None leaves an attribute out. `attributes` are those of series,
        equipment and image, with classic keywords also for Enhanced MR.
    enhanced : bool
        One Enhanced MR image rather than one MR image for each slice.
    interleaved : bool
        Every second slice is acquired, and its file returned, first.
    numbering : "spatial", "reversed" or "acquisition"
        What InstanceNumber (of Enhanced MR: the order of the frames) follows.
    images_in_acquisition : bool
        Write ImagesInAcquisition (0020,1002).
    transfer_syntax : str
        Native, deflated, or one that pydicom encodes (RLE Lossless; JPEG 2000 and JPEG-LS with plugins).
    seed : object
        From which all UIDs are derived; random when None.

    Returns
    -------
    list of Path
        In the order of acquisition.

    Raises
    ------
    GeometryError
        The axes of the volume are not perpendicular.
    """
    out.mkdir(parents=True, exist_ok=True)
    root = uuid.uuid4().hex if seed is None else seed
    values = _attributes(volume, patient, study, attributes)
    values.setdefault("StudyInstanceUID", derived_uid(root, "study"))
    values.setdefault("SeriesInstanceUID", derived_uid(root, "series", series_number))
    values.setdefault("FrameOfReferenceUID", derived_uid(root, "frame of reference"))
    values["SeriesNumber"] = series_number
    start = datetime.strptime(f"{values['StudyDate']}{values['StudyTime'][:6]}", "%Y%m%d%H%M%S")
    slices = cut_volume(volume, interleaved, numbering, start)
    if enhanced:
        ds = enhanced_image(slices, values)
        ds.SOPInstanceUID = derived_uid(root, "image", series_number)
        return [
            _save(
                ds, ENHANCED_MR_IMAGE, out / "0001.dcm", slices.stored[frame_order(slices)], transfer_syntax
            )
        ]
    if images_in_acquisition:
        values["ImagesInAcquisition"] = len(slices.stored)
    paths = []
    for k in slices.acquired:
        ds = _classic_image(slices, k, values)
        ds.SOPInstanceUID = derived_uid(root, "image", series_number, k)
        path = out / f"{slices.numbers[k]:04d}.dcm"
        paths.append(_save(ds, MR_IMAGE, path, slices.stored[k], transfer_syntax))
    return paths


def _attributes(
    volume: Volume,
    patient: Mapping[str, Any] | None,
    study: Mapping[str, Any] | None,
    attributes: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Merge defaults and what the caller says; refuse what is no DICOM keyword."""
    given = {**(patient or {}), **(study or {}), **(attributes or {})}
    unknown = [keyword for keyword in given if tag_for_keyword(keyword) is None]
    if unknown:
        raise ValueError(f"no DICOM keyword: {', '.join(unknown)}")
    own = {
        key: value
        for key, value in volume.attributes.items()
        if tag_for_keyword(key) is not None and key not in DEFINED_BY_VOLUME
    }
    merged = {**PATIENT, **STUDY, **ACQUISITION, **own, **given}
    merged.setdefault("SeriesDescription", "MR")
    merged.setdefault("ProtocolName", merged["SeriesDescription"])
    merged.setdefault("PatientPosition", "HFS")
    return merged


def _classic_image(slices: Slices, k: int, values: Mapping[str, Any]) -> Dataset:
    """MR Image IOD (PS3.3 A.4): everything but UIDs of its own and pixels."""
    ds = Dataset()
    middle, width = window(slices)
    computed: dict[str, Any] = {
        "InstanceNumber": slices.numbers[k],
        "AcquisitionNumber": 1,
        "AcquisitionDate": slices.times[k].strftime("%Y%m%d"),
        "AcquisitionTime": slices.times[k].strftime("%H%M%S.%f"),
        "ContentDate": slices.times[k].strftime("%Y%m%d"),
        "ContentTime": slices.times[k].strftime("%H%M%S.%f"),
        "SeriesDate": values["StudyDate"],
        "SeriesTime": values["StudyTime"],
        "WindowCenter": middle,
        "WindowWidth": width,
        "SliceThickness": slices.spacing_mm,
        "SpacingBetweenSlices": slices.spacing_mm,
        "SliceLocation": float(
            slices.positions[k] @ np.cross(slices.orientation[:3], slices.orientation[3:])
        ),
    }
    if (slices.slope, slices.intercept) != (1.0, 0.0):
        computed.update(RescaleSlope=slices.slope, RescaleIntercept=slices.intercept, RescaleType="US")
    for keyword, value in {**computed, **values}.items():
        put(ds, keyword, value)
    geometry = {
        "ImagePositionPatient": slices.positions[k],
        "ImageOrientationPatient": slices.orientation,
        "PixelSpacing": slices.pixel_spacing,
    }
    for keyword, value in geometry.items():
        put(ds, keyword, value)
    return ds


def _save(ds: Dataset, sop_class: str, path: Path, stored: npt.NDArray[Any], transfer_syntax: str) -> Path:
    """Add pixels (PS3.3 C.7.6.3), and write the file in its transfer syntax."""
    syntax = UID(transfer_syntax)
    ds.SOPClassUID = sop_class
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.Rows, ds.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        ds.NumberOfFrames = len(stored)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.astype(
        stored.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
    ).tobytes()
    ds["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    ds.file_meta = meta
    if syntax.is_encapsulated:
        ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)
    return path
