"""The messages of an association, put together from its P-DATA (PS3.8 9.3.5, annex E; PS3.7 6.3)."""

from __future__ import annotations

import time
from typing import Any, Protocol

from pynetdicom.pdu_primitives import P_DATA

from dicom_node.receive import dimse
from dicom_node.receive.dimse import ProtocolError, StoreRequest
from dicom_node.receive.limits import Limits
from dicom_node.receive.message_bounds import MessageBounds
from dicom_node.receive.timed_socket import LateError

COMMAND_LIMIT = 1 << 16
"""Bytes that a command set may have."""


class StoreHandler(Protocol):
    """Takes the data sets of an association, fragment by fragment."""

    def begin(self, request: StoreRequest) -> None:
        """Note that an object comes."""

    def write(self, fragment: memoryview) -> None:
        """Take a fragment; the view is only valid until the return."""

    def finish(self) -> bytes:
        """Return the PDU that answers: the object is on the disk, or it is refused."""


class MessageAssociation(Protocol):
    """The association whose messages come in: pynetdicom's parts of it, and ours."""

    limits: Limits
    store_handler: StoreHandler | None
    dul: Any
    """pynetdicom's upper layer: its socket answers, its event queue says whether it has work."""
    dimse: Any
    """pynetdicom's DIMSE provider: it gets every message but C-STORE."""
    _accepted_cx: Any
    """Presentation contexts that were accepted, by their IDs."""


class Messages:
    """Puts P-DATA together: C-STORE goes to the association's handler, everything else to pynetdicom."""

    def __init__(self, assoc: MessageAssociation) -> None:
        self._assoc = assoc
        self._command = bytearray()
        self._request: StoreRequest | None = None
        self._deadline = 0.0
        self._other: MessageBounds | None = (
            None  # of the message that pynetdicom is given, when one has begun
        )

    def take(self, pdu: memoryview) -> bool:
        """Take the content of a P-DATA-TF PDU, and tell whether all of it was the handler's.

        Raises
        ------
        ProtocolError
            It does not fit in here.
        """
        for context_id, control, fragment in dimse.fragments(pdu):
            if control & dimse.IS_COMMAND:
                self._take_command(context_id, control, fragment)
            elif self._request is not None:
                self._take_data(context_id, control, fragment)
            else:
                self._pass_on(context_id, control, fragment)
        assoc = self._assoc
        return self._other is None and assoc.dimse.msg_queue.empty() and assoc.dul.event_queue.empty()

    def _take_command(self, context_id: int, control: int, fragment: memoryview) -> None:
        if self._request is not None or self._other is not None:
            raise ProtocolError("a command in the middle of a data set")
        if not self._command:
            self._deadline = time.monotonic() + self._assoc.limits.object_s
        self._command += fragment
        if len(self._command) > COMMAND_LIMIT:
            raise ProtocolError("a command set without an end")
        if not control & dimse.IS_LAST:
            self._check_time("a command")
            return
        command, self._command = self._command, bytearray()
        if context_id not in self._assoc._accepted_cx:
            raise ProtocolError("a message in a presentation context that was not accepted")
        elements = dimse.read_command(command)
        handler = self._assoc.store_handler
        if handler is None or dimse.command_field(elements) != dimse.C_STORE_RQ:
            self._other = MessageBounds()
            self._pass_on(context_id, control, memoryview(command))
            return
        request = dimse.store_request(context_id, elements)
        handler.begin(request)
        if request.has_data_set:
            self._request = request
        else:
            self._assoc.dul.socket.send(handler.finish())

    def _take_data(self, context_id: int, control: int, fragment: memoryview) -> None:
        handler, request = self._assoc.store_handler, self._request
        assert handler is not None and request is not None
        if context_id != request.context_id:
            raise ProtocolError("a data set in another presentation context than its command")
        handler.write(fragment)
        if control & dimse.IS_LAST:
            self._request = None
            self._assoc.dul.socket.send(handler.finish())
        else:
            self._check_time("an object")

    def _pass_on(self, context_id: int, control: int, fragment: memoryview) -> None:
        if self._other is None:
            raise ProtocolError("a data set without a command")
        self._other.add(fragment)
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, bytes((control,)) + fragment))
        provider = self._assoc.dimse
        provider.receive_primitive(primitive)
        if provider.message is None:
            self._other = None
        else:
            self._check_time("a message")

    def _check_time(self, what: str) -> None:
        """Raise LateError when a message that is not complete has had its time."""
        if time.monotonic() > self._deadline:
            raise LateError(f"{what} took longer than {self._assoc.limits.object_s:g} s")
