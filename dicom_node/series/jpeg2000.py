"""Sizes that JPEG 2000 frames state themselves: a decoder believes them, whatever the header of the image says."""

from __future__ import annotations

import struct

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import HTJ2K, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, JPEG2000Lossless

from dicom_node.errors import UnreadableError

SYNTAXES = frozenset({JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL})

_SIZE_MARKER = b"\xff\x4f\xff\x51"
"""Start of a codestream, and its size segment, which comes first."""
_LOOKED_AT = 1024
"""Bytes of a frame in which its codestream begins; some put it into boxes of a file format."""


def check_codestreams(ds: Dataset) -> None:
    """Raise UnreadableError when a JPEG 2000 frame is of another size than its image: it could ask for any memory.

    What has another transfer syntax, and a frame without the marker, is left to the decoder.

    References
    ----------
    DICOM PS3.5 A.4.4; ISO 15444-1 A.5.1
    """
    if ds.file_meta.get("TransferSyntaxUID") not in SYNTAXES or "PixelData" not in ds:
        return
    wanted = (int(ds.Rows), int(ds.Columns), int(ds.get("SamplesPerPixel") or 1))
    frames = max(1, int(ds.get("NumberOfFrames") or 1))
    for frame in generate_frames(ds.PixelData, number_of_frames=frames):
        found = codestream_size(frame)
        if found is not None and found != wanted:
            raise UnreadableError(
                "a JPEG 2000 frame has {} x {} x {} samples, its image {} x {} x {}".format(*found, *wanted)
            )


def codestream_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components of a frame, or None where it does not say."""
    at = frame.find(_SIZE_MARKER, 0, _LOOKED_AT)
    try:
        right, bottom, left, top = struct.unpack_from(">4L", frame, at + 8)
        (components,) = struct.unpack_from(">H", frame, at + 40)
    except struct.error:
        return None
    return None if at < 0 else (bottom - top, right - left, components)
