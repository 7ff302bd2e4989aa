"""Bounds of what a peer may answer on an association of ours: its PDUs and messages are held in memory, in the node."""

from __future__ import annotations

import logging

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.receive.dimse import IS_COMMAND, ProtocolError
from dicom_node.receive.message_bounds import MessageBounds
from dicom_node.standard.contexts import is_storage_class

LOGGER = logging.getLogger(__name__)

PDU_BYTES = 1 << 20
"""Bytes that a PDU may have; we ask for shorter ones, and some peers count no headers."""
OBJECT_BYTES = 1 << 28
"""Bytes of an object that a peer stores on an association of ours, of which nothing is decoded here."""
INVALID_PDU = "Evt19"
"""Event of the state machine upon which the association is aborted (PS3.8 table 9-10)."""


class BoundedMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """The messages of an association; one that goes beyond its bounds ends the association.

    Parameters
    ----------
    takes_objects : bool
        The peer may store objects on it, in contexts of storage classes: only how long they are is bounded.
    """

    def __init__(self, assoc: Association, *, takes_objects: bool = False) -> None:
        super().__init__(assoc)
        self._takes_objects = takes_objects
        self._bounds = MessageBounds()
        self._object_bytes = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a part of a message."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._count(context_id, fragment)
        except ProtocolError as error:
            LOGGER.warning("an association is aborted: the peer answered with %s", error)
            self.message = None
            self.dul.event_queue.put(INVALID_PDU)
            return
        super().receive_primitive(primitive)
        if self.message is None:
            self._bounds = MessageBounds()
            self._object_bytes = 0

    def _count(self, context_id: int, fragment: bytes) -> None:
        """Count a fragment; its first byte says whether it is of a command set."""
        if not self._takes_objects or fragment[0] & IS_COMMAND or not self._is_storage(context_id):
            self._bounds.add(fragment)
            return
        self._object_bytes += len(fragment)
        if self._object_bytes > OBJECT_BYTES:
            raise ProtocolError(f"an object of more than {OBJECT_BYTES} bytes")

    def _is_storage(self, context_id: int) -> bool:
        return any(
            context.context_id == context_id and is_storage_class(str(context.abstract_syntax))
            for context in self.assoc.requestor.requested_contexts
        )


def check_pdu(size: int) -> None:
    """Raise ConnectionError when a PDU is too long to be read."""
    if size > PDU_BYTES:
        raise ConnectionError(f"a PDU of {size} bytes")
