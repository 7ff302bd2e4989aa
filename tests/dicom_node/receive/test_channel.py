"""Messages between the node and its receiver processes."""

from __future__ import annotations

import threading

import pytest

from dicom_node.receive.channel import LONGEST_PACKET, Channel, pair


@pytest.mark.parametrize("length", [0, 10, LONGEST_PACKET - 20, LONGEST_PACKET, 30 * LONGEST_PACKET])
def test_message_of_any_length_arrives_whole_and_in_order(length: int) -> None:
    ours, theirs = map(Channel, pair())
    messages = [("tell", "ä" * (length // 2), {"uid": number}) for number in range(3)]
    sender = threading.Thread(target=lambda: [ours.send(*message) for message in messages])
    sender.start()
    assert [theirs.receive() for _ in messages] == [list(message) for message in messages]
    sender.join()
    ours.close()
    assert theirs.receive() is None
    theirs.close()


def test_messages_of_several_threads_do_not_mix() -> None:
    ours, theirs = map(Channel, pair())
    threads = [threading.Thread(target=ours.send, args=(f"{n}" * 200_000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    received = sorted(str(message[0])[0] * len(message[0]) for _ in threads if (message := theirs.receive()))
    assert received == [f"{n}" * 200_000 for n in range(4)]
    for thread in threads:
        thread.join()
    ours.close()
    theirs.close()
