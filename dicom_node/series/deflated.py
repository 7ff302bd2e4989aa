"""Deflated data sets (PS3.5 A.5), inflated within limits: pydicom has none, and 1 MB can inflate to a gigabyte."""

from __future__ import annotations

import shutil
import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.errors import UnreadableError

INFLATED_MB = 512
"""A deflated data set may have so many MB when it is inflated."""
FREE_MB = 64
INFLATED_RATIO = 100
"""Beyond `FREE_MB`, it may have so many times its deflated bytes: masks and empty images reach that, large ones do not."""

_MB = 1_000_000
_CHUNK = 1 << 18
_DEFLATED = DeflatedExplicitVRLittleEndian.encode()
_META_BEGINS = 132
_META_SEARCHED = 1 << 16
_FILE_META_GROUP = 0x0002
_TRANSFER_SYNTAX_UID = 0x0010
_LONGEST_UID = 64
_UNDEFINED_LENGTH = 0xFFFFFFFF
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
"""VRs whose length has four bytes, after two that are reserved (PS3.5 7.1.2)."""


def inflated(file: BinaryIO) -> BinaryIO:
    """Return a file of the DICOM File Format itself or, where it is deflated, a copy in memory that is not.

    The copy is in Explicit VR Little Endian, which is what a deflated data set is before it is deflated.

    Raises
    ------
    UnreadableError
        It goes beyond the limits or is cut off; or it is deflated, and its file meta information is damaged.
    zlib.error
        It is no deflated stream.
    """
    found = _find_deflated(file)
    file.seek(0)
    if found is None:
        return file
    at, length, data_set = found
    head = file.read(data_set)
    whole = BytesIO()
    whole.write(head[:at] + ExplicitVRLittleEndian.encode().ljust(length, b"\0") + head[at + length :])
    shutil.copyfileobj(inflate(file), whole, _CHUNK)
    whole.seek(0)
    return whole


def inflate(file: BinaryIO) -> BytesIO:
    """Return what the rest of a file inflates to (RFC 1951), within the limits.

    Raises
    ------
    UnreadableError
        It is longer than the limits allow, or it is cut off.
    zlib.error
        It is no deflated stream.
    """
    stream, found, read = zlib.decompressobj(-zlib.MAX_WBITS), BytesIO(), 0
    while not stream.eof and (piece := file.read(_CHUNK)):
        read += len(piece)
        while piece and not stream.eof:
            found.write(stream.decompress(piece, _CHUNK))
            piece = stream.unconsumed_tail
            _check_size(found.tell(), read)
    found.write(stream.flush())
    if not stream.eof:
        raise UnreadableError("cut off within its deflated data set")
    found.seek(0)
    return found


def _check_size(size: int, deflated: int) -> None:
    if size > INFLATED_MB * _MB:
        raise UnreadableError(f"its data set has more than {INFLATED_MB} MB when it is inflated")
    if size > max(FREE_MB * _MB, INFLATED_RATIO * deflated):
        raise UnreadableError(
            f"its data set inflates to more than {FREE_MB} MB, and to more than {INFLATED_RATIO} times its size"
        )


def _find_deflated(file: BinaryIO) -> tuple[int, int, int] | None:
    """Return where a file says that it is deflated, in how many bytes, and where its data set begins; None when it is not.

    The file meta information is in Explicit VR Little Endian (PS3.10 7.1). One that is not, and that only pydicom may
    understand, must not name this transfer syntax.
    """
    place, found = _META_BEGINS, None
    file.seek(place)
    while len(head := file.read(8)) == 8:
        group, element, vr, length = struct.unpack("<HH2sH", head)
        if group != _FILE_META_GROUP:
            break
        place += 8
        if vr in _LONG_VRS:
            length = int.from_bytes(file.read(4), "little")
            place += 4
        if length == _UNDEFINED_LENGTH or not (vr.isalpha() and vr.isupper()):
            _refuse_damaged(file)
            return None
        if element == _TRANSFER_SYNTAX_UID:
            value = file.read(min(length, _LONGEST_UID))
            found = (place, length) if value.strip(b"\0 ") == _DEFLATED else None
        place += length
        file.seek(place)
    return None if found is None else (*found, place)


def _refuse_damaged(file: BinaryIO) -> None:
    file.seek(0)
    if _DEFLATED in file.read(_META_SEARCHED):
        raise UnreadableError("its file meta information is damaged, and may say that it is deflated")
