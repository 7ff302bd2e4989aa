"""A receiver process: accepts associations from the socket that the node has bound, and tells the node.

Receiving needs little of the processor but needs it often, at the mercy of Python's global lock; beside the
filing of images and the deliveries it would wait for that longer than for the disk.

Run by :mod:`dicom_node.receive.receiver_processes` as
``python -m dicom_node.receive.receiver_process LISTENER CHANNEL``, two descriptors. It ends with the node, however
that ends.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import socket
import sys
import threading

from dicom_node.receive.admission import Refusal
from dicom_node.receive.association import Association
from dicom_node.receive.channel import Channel
from dicom_node.receive.process_messages import (
    Admit,
    Admitted,
    Begin,
    FromNode,
    FromReceiver,
    Leave,
    Ready,
    Stop,
    Stopped,
    receiver_channel,
)
from dicom_node.receive.scp import StorageSCP
from dicom_node.spool.spool import Spool

ToNode = Channel[FromReceiver, FromNode]


class RemoteGate:
    """The node's gatekeeper, asked over the channel."""

    def __init__(self, channel: ToNode) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Refusal | None]] = {}

    def admit(self, association: Association) -> Refusal | None:
        """Ask whether an association may come in."""
        number = next(self._numbers)
        answer: queue.SimpleQueue[Refusal | None] = queue.SimpleQueue()
        self._waiting[number] = answer
        self._channel.send(Admit(number, association))
        try:
            return answer.get()  # the process ends when the node does
        finally:
            del self._waiting[number]

    def leave(self, association: Association) -> None:
        """Say that an association is over."""
        self._channel.send(Leave(association))

    def answered(self, answer: Admitted) -> None:
        """Give an answer to the thread that waits for it."""
        self._waiting[answer.number].put(answer.refusal)


def main(listener: int, end: int) -> None:
    """Receive until the node says stop, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to the whole group; the node says what to do
        signal.signal(number, signal.SIG_IGN)
    channel = receiver_channel(socket.socket(fileno=end))
    begin = channel.receive()
    if begin is None:
        return
    assert isinstance(begin, Begin), "the node says that first"
    gate = RemoteGate(channel)
    scp = StorageSCP(
        listener=socket.socket(fileno=listener),
        ae_title=begin.ae_title,
        spool=Spool(begin.root, begin.high_water),
        gate=gate,
        limits=begin.limits,
        tls=begin.tls.context() if begin.tls else None,
        tell=channel.send,
        commitment=begin.commitment,
    )
    scp.start()
    channel.send(Ready())
    while message := channel.receive():
        match message:
            case Admitted():
                gate.answered(message)
            case Stop():
                threading.Thread(target=_stop, args=(scp, channel), daemon=True).start()
    os._exit(0)  # the node is gone: nobody is left to tell


def _stop(scp: StorageSCP, channel: ToNode) -> None:
    scp.stop()
    channel.send(Stopped())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
