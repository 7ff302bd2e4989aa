"""Pixels decoded, and the one place where errors of pydicom and of the decoders are put into words of our own.

Their texts quote elements, in which a name may stand. In ours stand numbers, defined terms and names of the standard.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from dicom_node.errors import UnreadableError
from dicom_node.series.jpeg import FRAME_FAULTS
from dicom_node.series.jpeg2000 import check_codestreams
from dicom_node.series.reading import BAD_FILE_ERRORS, json_value, tolerant
from dicom_node.standard.defined_terms import OTHER, term
from dicom_node.standard.uids import uid_name

NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
"""Attributes, all of them numbers, without which no pixels can be decoded (PS3.3 C.7.6.3)."""

_FAULT = re.compile("|".join(FRAME_FAULTS))


def decode_pixels(ds: Dataset) -> npt.NDArray[Any]:
    """Return the stored values of a dataset with its pixel data.

    Raises
    ------
    UnreadableError
        They can't be decoded; the message quotes no text of the header.
    """
    try:
        with tolerant():
            check_codestreams(ds)
            return np.asarray(pixel_array(ds))
    except UnreadableError as error:
        raise UnreadableError(f"the pixels of {image_name(ds)} can't be decoded: {error}") from error
    except (*BAD_FILE_ERRORS, RuntimeError) as error:
        raise UnreadableError(
            f"the pixels of {image_name(ds)} can't be decoded: {_reason(ds, error)}"
        ) from error


def image_name(ds: Dataset) -> str:
    """Return by what an image can be found: the end of its UID, where that is one."""
    uid = str(ds.get("SOPInstanceUID", ""))
    return f"image ...{uid[-12:]}" if re.fullmatch(r"[\d.]+", uid) else "an image"


def _reason(ds: Dataset, error: Exception) -> str:
    if said := _FAULT.search(str(error)):
        return said[0]
    lacking = [keyword for keyword in NEEDED if not isinstance(json_value(ds, keyword), float)]
    if lacking:
        return f"the header has no {', '.join(lacking)}"
    if "NumberOfFrames" in ds and not isinstance(json_value(ds, "NumberOfFrames"), float):
        return "its NumberOfFrames is no number"
    photometric = json_value(ds, "PhotometricInterpretation")
    if not isinstance(photometric, str):
        return "the header has no PhotometricInterpretation"
    if term("PhotometricInterpretation", photometric) == OTHER:
        return "its PhotometricInterpretation is none that DICOM defines"
    syntax = uid_name(str(ds.file_meta.get("TransferSyntaxUID", "")))
    return f"damaged, or in a form that is not known here ({syntax}, {type(error).__name__})"
