"""The page as DICOM objects: RGB Secondary Capture (PS3.3 A.8.1) and Encapsulated PDF (PS3.3 A.45.1)."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Final

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage

from dicom_node.results.colours import RgbArray
from dicom_node.results.provenance import DISCLAIMER, code_item
from dicom_node.standard import codes

DOTS_PER_INCH: Final = 150.0
PDF_QUALITY: Final = 92
TITLE: Final = "Study summary, research use only"


def page_capture(page: RgbArray) -> Dataset:
    """Return the page as a Secondary Capture that `dicom_node.results.provenance.finish` has not finished yet."""
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "YES"
    ds.LossyImageCompression = "00"
    ds.PatientOrientation = ""
    ds.ImageComments = f"RESEARCH. {DISCLAIMER}"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = page.shape
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    pixels = np.ascontiguousarray(page).tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    return ds


def page_pdf(page: RgbArray, made_at: datetime) -> bytes:
    """Return the page as a PDF of one side of A4; the same page and time give the same bytes."""
    stream = io.BytesIO()
    when = made_at.timetuple()
    Image.fromarray(page).save(
        stream,
        "PDF",
        resolution=DOTS_PER_INCH,
        quality=PDF_QUALITY,
        title=TITLE,
        creationDate=when,
        modDate=when,
    )
    return stream.getvalue()


def encapsulated_pdf(pdf: bytes) -> Dataset:
    """Return a PDF as DICOM that `dicom_node.results.provenance.finish` has not finished yet."""
    ds = Dataset()
    ds.SOPClassUID = EncapsulatedPDFStorage
    ds.Modality = "DOC"
    ds.ConversionType = "WSD"
    ds.BurnedInAnnotation = "YES"
    ds.AcquisitionDateTime = ""
    ds.DocumentTitle = TITLE
    ds.ConceptNameCodeSequence = [code_item(codes.REPORT)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    return ds
