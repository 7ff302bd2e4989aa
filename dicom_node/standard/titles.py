"""Rules of what an AE title may be.

References
----------
DICOM PS3.5 table 6.2-1, VR AE
"""

from __future__ import annotations

from typing import Final

LONGEST_TITLE: Final = 16


def fault_of_title(title: str) -> str:
    """Return what is wrong with an AE title; "" when it may be used."""
    if not title.strip() or len(title) > LONGEST_TITLE:
        return f"AE title {title!r} is not 1 to {LONGEST_TITLE} characters long"
    if "\\" in title or not title.isascii() or not title.isprintable():
        return f"AE title {title!r} has a character that DICOM forbids"
    return ""
