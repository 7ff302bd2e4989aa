"""Limits on what an image may ask of who reads it: sequence items, and bytes when it is decoded.

A few bytes of a stranger can ask for gigabytes of memory or minutes of time. These limits are far beyond what scanners send.
"""

from __future__ import annotations

import math
import os
from typing import BinaryIO

from pydicom.dataset import Dataset

from dicom_node.errors import UnreadableError

SEQUENCE_ITEMS = 500_000
"""Items that all sequences of a header may have together: an Enhanced image of 10,000 frames has some 150,000."""
LARGE_VALUE = 16 << 20
"""Bytes from which a value of a header is left on the disk; no value that anything here needs is as long."""
FRAME_MB = 512
"""MB that one frame may have when it is decoded."""
DECODED_MB = 4096
"""MB that all images of a series may have when they are decoded."""

_MB = 1_000_000
_CHUNK = 1 << 20
_LOOKED_AT = 32 << 20
_ITEM = b"\xfe\xff\x00\xe0"
"""The tag that begins an item (PS3.5 7.5)."""
_PIXELS = (b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00OB")
"""Beginning of pixel data, (7FE0,0010), in Explicit VR Little Endian."""


def file_length(file: BinaryIO) -> int:
    """Return the bytes of a file, and leave it where it is."""
    place = file.tell()
    length = file.seek(0, os.SEEK_END)
    file.seek(place)
    return length


def check_items(file: BinaryIO) -> None:
    """Raise UnreadableError when a file has too many sequence items: a parser takes minutes for millions.

    The file is left where it is. One that is too short for so many is not looked at, nor is what follows the first bytes that
    look like the beginning of pixel data, or the first 32 MB: items behind these meet the limit on a parser's time.
    """
    if file_length(file) < 8 * SEQUENCE_ITEMS:
        return
    place, items, last = file.tell(), 0, b""
    file.seek(0)
    while file.tell() < _LOOKED_AT and (piece := file.read(_CHUNK)):
        window = last + piece
        pixels = min((at for head in _PIXELS if (at := window.find(head)) >= 0), default=None)
        items += window.count(_ITEM, 0, pixels)
        if items > SEQUENCE_ITEMS:
            raise UnreadableError(f"it has more than {SEQUENCE_ITEMS} sequence items")
        if pixels is not None:
            break
        last = window[-3:]  # too short for an item's tag: none is counted twice
    file.seek(place)


def frame_and_all_bytes(ds: Dataset) -> tuple[int, int]:
    """Return the bytes of one frame of an image when it is decoded, and of all its frames, by what its header says.

    References
    ----------
    DICOM PS3.3 C.7.6.3.1
    """
    rows, columns, bits = (_number(ds, keyword, 0) for keyword in ("Rows", "Columns", "BitsAllocated"))
    samples, frames = (_number(ds, keyword, 1) for keyword in ("SamplesPerPixel", "NumberOfFrames"))
    frame = math.ceil(rows * columns * samples * bits / 8)
    return frame, frame * frames


def check_decoded(
    frame: int, together: int, *, frame_mb: int = FRAME_MB, together_mb: int = DECODED_MB
) -> None:
    """Raise UnreadableError when pixels would take too much memory.

    Parameters
    ----------
    frame, together : int
        Bytes of the largest frame, and of all frames, when they are decoded.
    """
    for size, limit, what in ((frame, frame_mb, "a frame"), (together, together_mb, "all frames together")):
        if size > limit * _MB:
            raise UnreadableError(
                f"{what} would take {size / _MB:.0f} MB when decoded, {limit} MB are allowed"
            )


def _number(ds: Dataset, keyword: str, absent: int) -> int:
    try:
        return max(0, int(ds.get(keyword) or absent))
    except (TypeError, ValueError, OverflowError):
        return absent
