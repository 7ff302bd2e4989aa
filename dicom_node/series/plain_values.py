"""Values of elements as they were read, for those that can be taken at their word.

pydicom makes objects of every value, with checks of their form; of the headers that are read for each received
image most values are plain texts and numbers, which are had in a tenth of the time.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from functools import cache

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

_TEXTS = frozenset({"AE", "AS", "CS", "LO", "SH", "UI"})
_TEXT_NUMBERS = {"DS": float, "IS": int}
_BINARY_NUMBERS = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}


def plain_values(raw: RawDataElement) -> list[str] | list[float] | None:
    """Return the values of an element, or None for one that only pydicom may judge.

    Returns
    -------
    list
        Numbers as finite floats, or texts without padding (one empty text: no value).
    """
    value = raw.value
    if not isinstance(value, bytes) or not value:
        return None
    vr = raw.VR or _vr_of(raw.tag)
    if vr in _BINARY_NUMBERS:
        return _unpacked(value, ("<" if raw.is_little_endian else ">"), _BINARY_NUMBERS[vr])
    if not value.isascii():
        return None
    text = value.decode("ascii").rstrip("\0")
    # Control characters may be escapes, which begin another character set (PS3.5 6.1.2.5); the rest of ASCII is
    # the same in all of them.
    if not text.isprintable():
        return None
    parts = text.split("\\")
    if vr in _TEXTS:
        return [part.strip(" \0") for part in parts]
    return _parsed(parts, _TEXT_NUMBERS[vr]) if vr in _TEXT_NUMBERS else None


def _unpacked(value: bytes, order: str, kind: str) -> list[float] | None:
    count, rest = divmod(len(value), struct.calcsize(order + kind))
    return None if rest else _finite(struct.unpack(f"{order}{count}{kind}", value))


def _parsed(parts: list[str], number: Callable[[str], float]) -> list[float] | None:
    try:
        return _finite(map(number, parts))
    except (ValueError, OverflowError):
        return None


def _finite(numbers: Iterable[float]) -> list[float]:
    return [float(number) for number in numbers if math.isfinite(number)]


@cache
def _vr_of(tag: BaseTag) -> str:
    """Return the VR of an element of implicit VR; "" for one that the dictionary does not know."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""
