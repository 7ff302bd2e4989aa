"""Bounds of what a peer may answer on an association of ours: its PDUs and messages are held in memory, in the node."""

from __future__ import annotations

import logging

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.receive.dimse import ProtocolError
from dicom_node.receive.message_bounds import MessageBounds

LOGGER = logging.getLogger(__name__)

PDU_BYTES = 1 << 20
"""Bytes that a PDU may have; we ask for shorter ones, and some peers count no headers."""
INVALID_PDU = "Evt19"
"""Event of the state machine upon which the association is aborted (PS3.8 table 9-10)."""


class BoundedMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """The messages of an association; one that goes beyond its bounds ends the association."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self._bounds = MessageBounds()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a part of a message."""
        try:
            for _, fragment in primitive.presentation_data_value_list:
                self._bounds.add(fragment)
        except ProtocolError as error:
            LOGGER.warning("an association is aborted: the peer answered with %s", error)
            self.message = None
            self.dul.event_queue.put(INVALID_PDU)
            return
        super().receive_primitive(primitive)
        if self.message is None:
            self._bounds = MessageBounds()


def check_pdu(size: int) -> None:
    """Raise ConnectionError when a PDU is too long to be read."""
    if size > PDU_BYTES:
        raise ConnectionError(f"a PDU of {size} bytes")
