"""Pictures as RGB Secondary Capture images (PS3.3 A.8.1) that lie where their source slices lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import SecondaryCaptureImageStorage
from pydicom.valuerep import DSfloat

from dicom_node.results.colours import RgbArray
from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import code_item, finish
from dicom_node.results.source import Slice
from dicom_node.standard import codes
from dicom_node.standard.geometry import orientation_letters
from pipelines.types import ModelCard


@dataclass(frozen=True)
class Picture:
    """One picture over one slice.

    Parameters
    ----------
    pixels : uint8 array, shape (j, i, 3)
        The first pixel lies where the slice's does; what is right of the slice or below it is margin.
    spacing_mm : float
        Between its pixels, in both directions.
    comments, derivation : str
        ImageComments (0020,4000) and DerivationDescription (0008,2111).
    """

    pixels: RgbArray
    spacing_mm: float
    comments: str
    derivation: str


class CaptureSeries:
    """One series of pictures: what its images share is made once.

    Parameters
    ----------
    context : ResultContext
    role : str
        Of the objects.
    models : sequence of ModelCard
        What made the things that are shown.
    """

    def __init__(self, context: ResultContext, role: str, models: Sequence[ModelCard]) -> None:
        self._context = context
        self._role = role
        self._models = models
        self._shared: Dataset | None = None

    def image(self, picture: Picture, place: Slice, index: tuple[object, ...]) -> Dataset:
        """Return a picture as a finished image; ``index`` tells it from the others of its role."""
        uid = self._context.derive_uid(self._role, "instance", *index)
        if self._shared is None:
            self._shared = unplaced(picture)
            finish(
                self._shared,
                source=place.source,
                context=self._context,
                models=self._models,
                role=self._role,
                index=index,
            )
        ds = Dataset()
        for element in self._shared:
            ds.add(element)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.update(self._shared.file_meta)
        for part in (ds, ds.file_meta):
            keyword = "SOPInstanceUID" if part is ds else "MediaStorageSOPInstanceUID"
            part[keyword] = DataElement(keyword, "UI", uid)
        ds["InstanceNumber"] = DataElement("InstanceNumber", "IS", place.image_number)
        _add_geometry(ds, place, picture.spacing_mm)
        add_source(ds, place)
        add_pixels(ds, picture.pixels)
        return ds


def unplaced(picture: Picture) -> Dataset:
    """Return an image without pixels or place that `dicom_node.results.provenance.finish` has not finished yet."""
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "YES"
    ds.LossyImageCompression = "00"
    ds.ImageComments = picture.comments
    ds.DerivationDescription = picture.derivation[:1024]
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    return ds


def add_pixels(ds: Dataset, image: RgbArray) -> None:
    """Set the pixels of an image."""
    rows, columns, _ = image.shape
    pixels = np.ascontiguousarray(image).tobytes()
    for keyword, vr, value in (
        ("Rows", "US", rows),
        ("Columns", "US", columns),
        ("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2)),
    ):
        ds[keyword] = DataElement(keyword, vr, value)


def _add_geometry(ds: Dataset, place: Slice, spacing_mm: float) -> None:
    """State that the image lies where its source does (PS3.3 C.7.6.2): in its plane, from the same first pixel on."""
    letters = [orientation_letters(place.orientation[:3]), orientation_letters(place.orientation[3:])]
    for keyword, vr, value in (
        ("FrameOfReferenceUID", "UI", place.source.FrameOfReferenceUID),
        ("PositionReferenceIndicator", "LO", place.source.get("PositionReferenceIndicator", "")),
        ("ImagePositionPatient", "DS", list(place.position)),
        ("ImageOrientationPatient", "DS", list(place.orientation)),
        ("PatientOrientation", "CS", letters),
        ("PixelSpacing", "DS", [DSfloat(spacing_mm, auto_format=True)] * 2),
        ("SliceThickness", "DS", place.thickness_mm),
    ):
        ds[keyword] = DataElement(keyword, vr, value)


def add_source(ds: Dataset, place: Slice, *, same_places: bool = True) -> None:
    """Name the source slice, whose places in the patient may be those of the picture (PS3.3 C.7.6.1.1.4)."""
    item = Dataset()
    item.ReferencedSOPClassUID = place.source.SOPClassUID
    item.ReferencedSOPInstanceUID = place.source.SOPInstanceUID
    if place.frame is not None:
        item.ReferencedFrameNumber = place.frame
    item.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES" if same_places else "NO"
    ds["SourceImageSequence"] = DataElement("SourceImageSequence", "SQ", [item])
