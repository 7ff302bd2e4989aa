"""Status values of C-STORE and reasons for rejecting an association.

References
----------
DICOM PS3.4 B.2.3 (storage service), PS3.7 annex C (general status), PS3.8 9.3.4 table 9-21 (A-ASSOCIATE-RJ).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

# C-STORE-RSP status (0000,0900), PS3.4 table B.2-1
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
CANNOT_UNDERSTAND: Final = 0xC000
STORE_FAILED: Final = 0xC001
"""Our own value in the range Cxxx: the bytes could not be written for a reason other than space."""

# General failures, PS3.7 annex C
PROCESSING_FAILURE: Final = 0x0110
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORISED: Final = 0x0124

Category = Literal["success", "warning", "failure"]

_EXACT: Final[dict[int, str]] = {
    SUCCESS: "success",
    0x0001: "attribute list error",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    PROCESSING_FAILURE: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class and instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
    NOT_AUTHORISED: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match the SOP class",
}


def category(status: int) -> Category:
    """Return what a C-STORE status means for the object: kept (success, warning) or not (failure)."""
    if status == SUCCESS:
        return "success"
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return "warning"
    return "failure"


def is_temporary(status: int) -> bool:
    """Tell whether the same object may be taken later: the archive lacks space or another resource."""
    return 0xA700 <= status <= 0xA7FF or status == 0x0213


def describe(status: int) -> str:
    """Return a status as people read it, for example ``A700 out of resources``."""
    if status in _EXACT:
        text = _EXACT[status]
    elif 0xA700 <= status <= 0xA7FF:
        text = "out of resources"
    elif 0xA900 <= status <= 0xA9FF:
        text = "data set does not match the SOP class"
    elif 0xC000 <= status <= 0xCFFF:
        text = "cannot understand"
    elif 0xB000 <= status <= 0xBFFF:
        text = "warning"
    else:
        text = "unknown status"
    return f"{status:04X} {text}"


@dataclass(frozen=True)
class Rejection:
    """The three numbers of an A-ASSOCIATE-RJ (PS3.8 table 9-21).

    Attributes
    ----------
    result : int
        1 rejected permanently, 2 rejected for now.
    source : int
        1 service user, 2 service provider (ACSE), 3 service provider (presentation).
    diagnostic : int
        The reason; its meaning depends on the source.
    """

    result: int
    source: int
    diagnostic: int


CALLING_AE_NOT_RECOGNISED: Final = Rejection(1, 1, 3)
CALLED_AE_NOT_RECOGNISED: Final = Rejection(1, 1, 7)
LOCAL_LIMIT_EXCEEDED: Final = Rejection(2, 3, 2)
