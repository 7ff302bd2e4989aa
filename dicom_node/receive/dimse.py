"""Command sets of C-STORE, read and written without decoding anything else.

References
----------
DICOM PS3.7 6.3 (structure), 9.3.1 (C-STORE), E.1 (elements); PS3.8 9.3.5 (P-DATA-TF), E.2 (control header)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101

AFFECTED_SOP_CLASS_UID = 0x0002
COMMAND_FIELD = 0x0100
MESSAGE_ID = 0x0110
MESSAGE_ID_RESPONDED_TO = 0x0120
DATA_SET_TYPE = 0x0800
STATUS = 0x0900
ERROR_COMMENT = 0x0902
AFFECTED_SOP_INSTANCE_UID = 0x1000

IS_COMMAND = 1
"""Bit of the message control header: the fragment belongs to a command set, not to a data set."""
IS_LAST = 2
"""Bit of the message control header: no more fragments follow."""

LONGEST_UID = 64
LONGEST_COMMENT = 64

_ELEMENT = struct.Struct("<HHL")
_UINT16 = struct.Struct("<H")
_PDV = struct.Struct(">LBB")
_P_DATA = struct.Struct(">BBLLBB")


class ProtocolError(Exception):
    """The peer sent what the protocol does not allow; its association is aborted."""


@dataclass(frozen=True)
class StoreRequest:
    """A C-STORE request.

    Attributes
    ----------
    context_id, message_id : int
        The presentation context that it came in, and its number.
    sop_class_uid, sop_instance_uid : str
        As they were sent, well formed or not, without padding.
    has_data_set : bool
        Whether one follows.
    """

    context_id: int
    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


def fragments(pdu: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield context ID, control header and content of each presentation data value of a P-DATA-TF.

    Parameters
    ----------
    pdu : memoryview
        The PDU without its first six bytes; the contents are views on it.

    Raises
    ------
    ProtocolError
        The lengths don't fit.
    """
    offset = 0
    while offset < len(pdu):
        if offset + _PDV.size > len(pdu):
            raise ProtocolError("a P-DATA-TF PDU ends in the middle of an item")
        length, context_id, control = _PDV.unpack_from(pdu, offset)
        end = offset + 4 + length
        if length < 2 or end > len(pdu):
            raise ProtocolError("an item of a P-DATA-TF PDU has a wrong length")
        yield context_id, control, pdu[offset + _PDV.size : end]
        offset = end


def read_command(encoded: bytes | bytearray) -> dict[int, bytes]:
    """Return the elements of a command set by their number in group 0000 (PS3.7 6.3.1: implicit VR, little endian).

    Raises
    ------
    ProtocolError
        It is no command set.
    """
    elements: dict[int, bytes] = {}
    offset = 0
    while offset < len(encoded):
        if offset + _ELEMENT.size > len(encoded):
            raise ProtocolError("a command set is cut off")
        group, element, length = _ELEMENT.unpack_from(encoded, offset)
        offset += _ELEMENT.size
        if group != 0 or offset + length > len(encoded):
            raise ProtocolError("a command set holds something else")
        elements[element] = bytes(encoded[offset : offset + length])
        offset += length
    return elements


def command_field(elements: dict[int, bytes]) -> int:
    """Return what kind of message a command set begins.

    Raises
    ------
    ProtocolError
        It does not say.
    """
    return _number(elements, COMMAND_FIELD)


def store_request(context_id: int, elements: dict[int, bytes]) -> StoreRequest:
    """Return a command set as a C-STORE request.

    Raises
    ------
    ProtocolError
        A number is missing or malformed.
    """
    return StoreRequest(
        context_id,
        _number(elements, MESSAGE_ID),
        _uid(elements, AFFECTED_SOP_CLASS_UID),
        _uid(elements, AFFECTED_SOP_INSTANCE_UID),
        _number(elements, DATA_SET_TYPE) != NO_DATA_SET,
    )


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """Return the P-DATA-TF PDU that answers a C-STORE request.

    Parameters
    ----------
    request : StoreRequest
        What is answered. Its UIDs are repeated unless they are longer than a UID can be.
    status : int
        The status.
    comment : str
        Goes with a failure, cut to 64 characters.
    """
    elements = [(DATA_SET_TYPE, _UINT16.pack(NO_DATA_SET)), (STATUS, _UINT16.pack(status))]
    if comment:
        elements.append((ERROR_COMMENT, _padded(comment[:LONGEST_COMMENT].encode("ascii", "replace"), b" ")))
    elements += [
        (COMMAND_FIELD, _UINT16.pack(C_STORE_RSP)),
        (MESSAGE_ID_RESPONDED_TO, _UINT16.pack(request.message_id)),
    ]
    for number, uid in (
        (AFFECTED_SOP_CLASS_UID, request.sop_class_uid),
        (AFFECTED_SOP_INSTANCE_UID, request.sop_instance_uid),
    ):
        if uid and len(uid) <= LONGEST_UID:
            elements.append((number, _padded(uid.encode("ascii", "surrogateescape"), b"\0")))
    encoded = b"".join(
        _ELEMENT.pack(0, number, len(value)) + value for number, value in sorted(elements, key=lambda e: e[0])
    )
    encoded = _ELEMENT.pack(0, 0, 4) + struct.pack("<L", len(encoded)) + encoded
    item = len(encoded) + 2
    return _P_DATA.pack(4, 0, item + 4, item, request.context_id, IS_COMMAND | IS_LAST) + encoded


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != _UINT16.size:
        raise ProtocolError(f"a command set without (0000,{element:04X})")
    return int(_UINT16.unpack(value)[0])


def _uid(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").rstrip(b"\0 ").decode("ascii", "surrogateescape")


def _padded(value: bytes, padding: bytes) -> bytes:
    return value + padding if len(value) % 2 else value
