"""The channel between the node and its receiver processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dicom_node.receive.association import Association
from dicom_node.receive.channel import LONGEST_PACKET, Channel, pair
from dicom_node.receive.events import AssociationRefused
from dicom_node.receive.process_messages import (
    FROM_RECEIVER,
    FromNode,
    FromReceiver,
    node_channel,
    receiver_channel,
)

CALLER = Association("0123456789ab", "SCANNER", "127.0.0.1", "LESIONNODE")


@pytest.fixture
def ends() -> Iterator[tuple[Channel[FromReceiver, FromNode], Channel[FromNode, FromReceiver]]]:
    """The receiver's end and the node's."""
    one, other = pair()
    receiver, node = receiver_channel(one), node_channel(other)
    yield receiver, node
    receiver.close()
    node.close()


SHORTEST = len(FROM_RECEIVER.encode(AssociationRefused(CALLER, "0")))


@pytest.mark.parametrize(
    "length", [0, 10, *range(LONGEST_PACKET - 3, LONGEST_PACKET + 3), 30 * LONGEST_PACKET], ids=str
)
def test_message_of_any_length_arrives_whole_and_in_order(length, ends) -> None:
    receiver, node = ends
    count, odd = divmod(max(0, length - SHORTEST), 2)
    messages = [AssociationRefused(CALLER, f"{number}{'x' * odd}{'ä' * count}") for number in range(3)]
    sender = threading.Thread(target=lambda: [receiver.send(message) for message in messages])
    sender.start()
    assert [node.receive() for _ in messages] == messages
    sender.join()
    receiver.close()
    assert node.receive() is None


def test_messages_of_several_threads_do_not_mix(ends) -> None:
    receiver, node = ends
    messages = [AssociationRefused(CALLER, f"{n}" * 200_000) for n in range(4)]
    threads = [threading.Thread(target=receiver.send, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    received = [node.receive() for _ in messages]
    assert sorted(received, key=lambda message: message.reason) == messages
    for thread in threads:
        thread.join()


def test_what_is_no_message_is_an_error(ends) -> None:
    receiver, node = ends
    receiver._end.send(b".[]")
    with pytest.raises(ValueError, match="not a message"):
        node.receive()
