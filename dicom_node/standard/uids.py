"""UIDs: keys for folders and people, and UIDs derived from what they stand for (PS3.5 Clause 9, Annex B)."""

from __future__ import annotations

import hashlib
import re
import uuid

from pydicom.config import IGNORE
from pydicom.uid import UID

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.1"

_UID = re.compile(r"[\d.]{1,64}", re.ASCII)

KEY_LENGTH = 32
"""Hex digits of a SHA-256 that name a series or an image: 128 bits, so that two UIDs never meet."""


def uid_key(uid: str) -> str:
    """Return the name under which a UID from the network may enter a path: 32 hex digits of its SHA-256."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:KEY_LENGTH]


def uid_name(uid: str) -> str:
    """Return what the standard calls a UID, or the UID itself where it is none of the standard's.

    It may be any text that came over the network: one that is no UID is not shown.
    """
    name = str(UID(uid, IGNORE).name)
    return name if name != uid or _UID.fullmatch(uid) else "what is no UID"


def derived_uid(*sources: object) -> str:
    """Return the UID, under the root 2.25, that always stands for these sources.

    Parameters
    ----------
    *sources
        What the object is derived from, in order; each by its text.

    References
    ----------
    DICOM PS3.5 B.2 (UUID-derived UID); RFC 9562, version 8.
    """
    text = "\x1f".join(str(source) for source in sources)
    digest = bytearray(hashlib.sha256(text.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{uuid.UUID(bytes=bytes(digest)).int}"
