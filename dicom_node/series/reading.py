"""Files to datasets without pixels, elements to plain values: bad values pass, cut files do not."""

from __future__ import annotations

import math
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeGuard

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from dicom_node.errors import NoDicomError, UnreadableError
from dicom_node.series.deflated import inflated
from dicom_node.series.limits import LARGE_VALUE, check_items, file_length
from dicom_node.series.plain_values import plain_values

NUMERIC_VRS = frozenset({"DS", "IS", "FD", "FL", "US", "SS", "UL", "SL", "UV", "SV"})
UNDEFINED_LENGTH = 0xFFFFFFFF
SHARED_CHROMA = ("YBR_FULL_422", "YBR_PARTIAL_422")
PIXEL_TAGS = {0x7FE00010, 0x7FE00008, 0x7FE00009}
BAD_FILE_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    NotImplementedError,
    LookupError,
    RecursionError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""What pydicom raises for bytes that are no DICOM or damaged DICOM."""

_QUIET = threading.RLock()


@contextmanager
def tolerant() -> Iterator[None]:
    """Read without pydicom's warnings of values that break the standard: they are everyday in hospitals.

    The filters of `warnings` belong to the whole process, hence the lock.
    """
    with _QUIET, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\.|$)")
        yield


def read_without_pixels(path: Path) -> tuple[FileDataset, bool]:
    """Read a file up to its pixel data and make sure that these are there in full.

    Returns
    -------
    ds : FileDataset
        Without pixel data.
    has_pixels : bool

    Raises
    ------
    NoDicomError
        No DICOM file.
    UnreadableError
        One that is cut off or damaged.
    """
    try:
        with path.open("rb") as stored, tolerant():
            file = inflated(stored)
            ds = _read(file, stop_before_pixels=True)
            syntax = UID(str(ds.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2")))
            size = _pixel_bytes(file, ds, syntax)
            if not syntax.is_compressed:
                _check_native_size(ds, size)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: {error}") from error
    except InvalidDicomError as error:
        raise NoDicomError(f"{path.name}: {why(error)}") from error
    except BAD_FILE_ERRORS as error:
        raise UnreadableError(f"{path.name}: {why(error)}") from error
    except OSError as error:
        raise UnreadableError(f"{path.name} can't be read: {error.strerror or error}") from error
    return ds, size is not None


def read_whole(path: Path) -> FileDataset:
    """Read a file with its pixel data, without long values that nothing here needs; a deflated one within limits.

    Raises
    ------
    UnreadableError
        It goes beyond the limits.
    OSError, or one of BAD_FILE_ERRORS
        As pydicom raises them.
    """
    with path.open("rb") as stored, tolerant():
        return _read(inflated(stored), stop_before_pixels=False)


def _read(file: BinaryIO, *, stop_before_pixels: bool) -> FileDataset:
    """Read a file that is not deflated, and leave out long values that are no sequences and no pixels."""
    check_items(file)
    in_memory = isinstance(file, BytesIO)
    ds = dcmread(file, stop_before_pixels=stop_before_pixels, defer_size=None if in_memory else LARGE_VALUE)
    ds.buffer = None  # else it would keep the whole file in memory
    length = file_length(file)
    _check_last_element(ds, length)
    for tag in list(ds.keys()) if length > LARGE_VALUE else ():
        raw: object = ds.get_item(tag, keep_deferred=True)
        if _is_on_disk(raw) and tag not in PIXEL_TAGS and _vr_of(raw) != "SQ":
            del ds[tag]
    return ds


def why(error: BaseException) -> str:
    """Say what is wrong with a file, without the text of pydicom's errors: it may hold values of elements."""
    if isinstance(error, InvalidDicomError):
        return "not a DICOM file"
    if isinstance(error, EOFError | zlib.error | struct.error):
        return "cut off"
    return f"not readable as DICOM ({type(error).__name__})"


def _pixel_bytes(file: BinaryIO, ds: FileDataset, syntax: UID) -> int | None:
    """Return how many bytes of pixel data follow the place where reading stopped; None when there are none.

    Raises
    ------
    UnreadableError
        The file ends before its pixel data do.
    """
    start, end = file.tell(), file_length(file)
    byte_order = "<" if syntax.is_little_endian else ">"
    head = file.read(12)
    if len(head) < 8:
        return None
    group, element = struct.unpack(byte_order + "HH", head[:4])
    if (group << 16 | element) not in PIXEL_TAGS:
        return None
    implicit_vr, _ = ds.original_encoding
    if implicit_vr:
        (length,), first = struct.unpack(byte_order + "L", head[4:8]), start + 8
    elif len(head) == 12:
        (length,), first = struct.unpack(byte_order + "L", head[8:12]), start + 12
    else:
        raise UnreadableError("cut off at its pixel data")
    if length != UNDEFINED_LENGTH:
        if end - first < length:
            raise UnreadableError(f"cut off: {end - first} of {length} bytes of pixel data are there")
        return int(length)
    return _fragment_bytes(file, first, end)


def _fragment_bytes(file: BinaryIO, first: int, end: int) -> int:
    """Walk the fragments of encapsulated pixel data (PS3.5 A.4) to their end; return the bytes they hold."""
    place, held = first, 0
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            raise UnreadableError("cut off within its compressed pixel data")
        group, element, length = struct.unpack("<HHL", head)
        if (group, element) == (0xFFFE, 0xE0DD):
            return held
        if (group, element) != (0xFFFE, 0xE000):
            raise UnreadableError("its compressed pixel data are damaged")
        place += 8 + length
        if place > end:
            raise UnreadableError("cut off within its compressed pixel data")
        held += length


def _check_native_size(ds: Dataset, size: int | None) -> None:
    """Compare native pixel data with what Rows x Columns x ... need (PS3.3 C.7.6.3)."""
    rows, columns = (json_value(ds, keyword) for keyword in ("Rows", "Columns"))
    bits = json_value(ds, "BitsAllocated")
    if not (isinstance(rows, float) and isinstance(columns, float) and isinstance(bits, float)):
        return
    if size is None:
        raise UnreadableError("cut off, or without pixel data")
    samples, frames = (json_value(ds, keyword) or 1.0 for keyword in ("SamplesPerPixel", "NumberOfFrames"))
    if not (isinstance(samples, float) and isinstance(frames, float)):
        return
    chroma = 2 / 3 if json_value(ds, "PhotometricInterpretation") in SHARED_CHROMA else 1.0
    needed = math.ceil(rows * columns * samples * frames * bits * chroma / 8)
    if size < needed:
        raise UnreadableError(f"{size} bytes of pixel data, {needed} are needed")


def _check_last_element(ds: Dataset, file_bytes: int) -> None:
    """Raise when the last element has fewer bytes than it says: the file was cut off within it."""
    if not len(ds):
        raise UnreadableError("a DICOM file without content")
    last: object = ds.get_item(max(ds.keys()), keep_deferred=True)
    if not isinstance(last, RawDataElement) or last.length == UNDEFINED_LENGTH:
        return
    if _is_on_disk(last):
        is_cut = last.value_tell + last.length > file_bytes
    else:
        is_cut = last.value is not None and len(last.value) < last.length
    if is_cut:
        raise UnreadableError("cut off within its header")


def _is_on_disk(element: object) -> TypeGuard[RawDataElement]:
    """Tell whether an element was left unread for its length."""
    return isinstance(element, RawDataElement) and element.value is None and element.length > LARGE_VALUE


def _vr_of(raw: RawDataElement) -> str | None:
    if raw.VR is not None:
        return raw.VR
    try:
        return dictionary_VR(raw.tag)
    except KeyError:
        return None


def json_value(ds: Dataset, keyword: str) -> str | float | list[str] | list[float] | None:
    """Return an element as plain values, several as a list: numbers as float, the rest as str.

    None when it is absent, empty or unreadable.
    """
    tag = tag_of(keyword)
    raw: object = ds.get_item(tag)
    if raw is None:
        return None
    if isinstance(raw, RawDataElement) and (plain := plain_values(raw)) is not None:
        return _unwrap(plain)
    try:
        element = ds[tag]
    except (ValueError, TypeError, BytesLengthException, LookupError, NotImplementedError):
        return None
    value = element.value
    parts = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    if element.VR in NUMERIC_VRS:
        return _unwrap([number for part in parts if (number := _number(part)) is not None])
    if element.VR in ("SQ", "OB", "OW", "UN"):
        return None
    texts = [str(part).strip(" \0") for part in parts if part is not None]
    return _unwrap(texts)


@cache
def tag_of(keyword: str) -> BaseTag:
    """Return a keyword's tag; pydicom looks it up again for each image and each keyword, most of which are absent."""
    return Tag(keyword)


def _unwrap(parts: list[float] | list[str]) -> str | float | list[str] | list[float] | None:
    if not any(part != "" for part in parts):
        return None
    return parts[0] if len(parts) == 1 else parts


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
