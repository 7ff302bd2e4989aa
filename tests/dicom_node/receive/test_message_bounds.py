"""Bounds of messages that are decoded in the node."""

from __future__ import annotations

import pytest

from dicom_node.receive import message_bounds
from dicom_node.receive.dimse import ProtocolError
from dicom_node.receive.message_bounds import MessageBounds

ITEM = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"


def test_message_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_bounds, "MESSAGE_BYTES", 10)
    bounds = MessageBounds()
    bounds.add(memoryview(bytes(6)))
    bounds.add(bytes(4))
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        bounds.add(bytes(1))


@pytest.mark.parametrize("length", [1, 3, 8, 1000])
def test_sequence_items_are_counted_however_they_are_cut(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_bounds, "MESSAGE_ITEMS", 5)
    for items, is_refused in ((5, False), (6, True)):
        bounds, message = MessageBounds(), ITEM * items
        fragments = [memoryview(message)[at : at + length] for at in range(0, len(message), length)]
        if is_refused:
            with pytest.raises(ProtocolError, match="more than 5 sequence items"):
                for fragment in fragments:
                    bounds.add(fragment)
        else:
            for fragment in fragments:
                bounds.add(fragment)


DOWN, UP = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"


@pytest.mark.parametrize("length", [1, 5, 8, 1000])
def test_depth_is_counted_however_the_message_is_cut(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_bounds, "MESSAGE_DEPTH", 3)
    for message, is_refused in (
        (DOWN * 3 + UP * 3 + DOWN * 3, False),
        ((DOWN + UP) * 9, False),
        (DOWN * 4, True),
    ):
        bounds = MessageBounds()
        fragments = [message[at : at + length] for at in range(0, len(message), length)]
        if is_refused:
            with pytest.raises(ProtocolError, match="nested more than 3 deep"):
                for fragment in fragments:
                    bounds.add(fragment)
        else:
            for fragment in fragments:
                bounds.add(fragment)
