"""Bounds of a DIMSE message that is held in memory and decoded in the node: bytes, and sequence items."""

from __future__ import annotations

from dicom_node.receive.dimse import ProtocolError

MESSAGE_BYTES = 16 << 20
"""Bytes that a message other than a C-STORE may have: a request for commitment to 100,000 images has some."""
MESSAGE_ITEMS = 1 << 17
"""Sequence items that it may have: one for each image of such a request. A million would take a minute to decode."""

_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""The tag that begins an item, in either byte order (PS3.5 7.5)."""
_CARRIED = len(_ITEMS[0]) - 1


class MessageBounds:
    """Count of what a message has so far; a new one for each message.

    How deep its sequences are nested is bounded by the decoder, which gives up after some hundred levels.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._items = 0
        self._last = b""

    def add(self, fragment: bytes | memoryview) -> None:
        """Count a fragment.

        Raises
        ------
        ProtocolError
            The message is beyond its bounds.
        """
        self._bytes += len(fragment)
        if self._bytes > MESSAGE_BYTES:
            raise ProtocolError(f"a message of more than {MESSAGE_BYTES} bytes that is no C-STORE")
        window = self._last + fragment
        self._items += sum(window.count(tag) for tag in _ITEMS)
        if self._items > MESSAGE_ITEMS:
            raise ProtocolError(f"a message of more than {MESSAGE_ITEMS} sequence items that is no C-STORE")
        self._last = window[-_CARRIED:]  # too short for a tag: none is counted twice
