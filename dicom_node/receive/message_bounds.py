"""Bounds of a DIMSE message that is held in memory and decoded in the node: bytes, sequence items, and how they are nested."""

from __future__ import annotations

import re

from dicom_node.receive.dimse import ProtocolError

MESSAGE_BYTES = 16 << 20
"""Bytes that a message other than a C-STORE may have: a request for commitment to 100,000 images has some."""
MESSAGE_ITEMS = 1 << 17
"""Sequence items that it may have: one for each image of such a request. A million would take a minute to decode."""

MESSAGE_DEPTH = 32
"""How deep its sequences may be nested; those of undefined length, which alone are decoded at once."""

_ITEM = re.compile(rb"\xfe\xff\x00\xe0|\xff\xfe\xe0\x00")
"""The tag that begins an item, in either byte order (PS3.5 7.5)."""
_NESTING = re.compile(
    rb"(?P<down>\xfe\xff\x00\xe0\xff\xff\xff\xff|\xff\xfe\xe0\x00\xff\xff\xff\xff)|\xfe\xff\x0d\xe0|\xff\xfe\xe0\x0d"
)
"""Beginning of an item of undefined length, and the end of one."""
_CARRIED = 7
"""Bytes of a fragment in which one of these may begin that ends in the next fragment."""


class MessageBounds:
    """Count of what a message has so far; a new one for each message."""

    def __init__(self) -> None:
        self._bytes = 0
        self._items = 0
        self._depth = 0
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
        seen, window = len(self._last), self._last + fragment
        self._items += sum(found.end() > seen for found in _ITEM.finditer(window))
        if self._items > MESSAGE_ITEMS:
            raise ProtocolError(f"a message of more than {MESSAGE_ITEMS} sequence items that is no C-STORE")
        for found in _NESTING.finditer(window):
            if found.end() > seen:
                self._depth = max(0, self._depth + (1 if found["down"] else -1))
                if self._depth > MESSAGE_DEPTH:
                    raise ProtocolError(
                        f"a message of sequences that are nested more than {MESSAGE_DEPTH} deep"
                    )
        self._last = window[-_CARRIED:]
