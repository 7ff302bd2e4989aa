"""Comparison of two files that carry the same SOP Instance UID: are they the same object?

Archives transcode, change the byte order and coerce identification, so files are not compared byte by byte:
images by their pixels, everything else by what it says beyond whom it is about.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicom_node.errors import UnreadableError
from dicom_node.series.decoding import decode_pixels
from dicom_node.series.limits import check_decoded, frame_and_all_bytes
from dicom_node.series.reading import read_whole, tolerant

IMAGE_GROUP = 0x0028
"""Groups from here on say what an object holds; those below whom, where and when, which archives coerce."""

FRAME_MB = 128
COMPARED_MB = 400
"""Decoded pixels that are compared: MB of one frame and of an object, at most. Larger ones are compared as they are encoded."""

_SHAPE = (
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "PixelRepresentation",
    "PlanarConfiguration",
    "PhotometricInterpretation",
)


def same_content(first: Path, second: Path) -> bool:
    """Tell whether two files hold the same pixels, or the same content where there are no pixels.

    Pixel data in the same transfer syntax is compared as it is encoded; what differs there, and what is in
    different ones, is decoded and compared as numbers.

    Raises
    ------
    UnreadableError
        One of them can't be read or decoded, so that nobody can say.
    """
    a, b = _read(first), _read(second)
    try:
        with tolerant():
            if "PixelData" in a and "PixelData" in b:
                if _encoded_alike(a, b):
                    return True
                return np.array_equal(_pixels(a, first), _pixels(b, second))
            if "PixelData" in a or "PixelData" in b:
                return False
            return _content(a) == _content(b)
    except (UnreadableError, MemoryError):
        raise
    # Elements are decoded where they are looked at.
    except Exception as error:
        raise UnreadableError(f"{second.name}: can't be compared: {type(error).__name__}") from error


def _read(path: Path) -> Dataset:
    try:
        return read_whole(path)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: {error}") from error
    except MemoryError:
        raise
    # pydicom meets arbitrary bytes here and has no error class of its own for them.
    except Exception as error:
        raise UnreadableError(f"{path.name}: can't be read: {type(error).__name__}") from error


def _encoded_alike(a: Dataset, b: Dataset) -> bool:
    if a.file_meta.TransferSyntaxUID != b.file_meta.TransferSyntaxUID:
        return False
    return all(a.get(name) == b.get(name) for name in _SHAPE) and bool(a.PixelData == b.PixelData)


def _pixels(dataset: Dataset, path: Path) -> npt.NDArray[np.generic]:
    try:
        with tolerant():
            check_decoded(*frame_and_all_bytes(dataset), frame_mb=FRAME_MB, together_mb=COMPARED_MB)
        return decode_pixels(dataset)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: {error}") from error


def _content(dataset: Dataset) -> Dataset:
    content = Dataset()
    for element in dataset:
        if element.tag.group >= IMAGE_GROUP and not element.tag.is_private:
            content.add(element)
    return content
