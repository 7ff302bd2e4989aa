"""A receiver process: accepts associations from the socket that the node has bound, and tells the node.

Receiving needs little of the processor but needs it often, at the mercy of Python's global lock; beside the
filing of images and the deliveries it would wait for that longer than for the disk.

Run by :mod:`dicom_node.receive.receiver_processes` as ``python -m dicom_node.receive.process LISTENER CHANNEL``, two
descriptors. It ends with the node, however that ends.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from dicom_node.receive.admission import Refusal
from dicom_node.receive.association import Association
from dicom_node.receive.channel import Channel
from dicom_node.receive.commitment_scp import Terms
from dicom_node.receive.limits import Limits
from dicom_node.receive.scp import StorageSCP
from dicom_node.spool.spool import Spool
from dicom_node.standard.status import Rejection
from dicom_node.tls import ServerTls


class RemoteGate:
    """The node's gatekeeper, asked over the channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)
        self._waiting: dict[int, queue.SimpleQueue[Refusal | None]] = {}

    def admit(self, association: Association) -> Refusal | None:
        """Ask whether an association may come in."""
        number = next(self._numbers)
        answer: queue.SimpleQueue[Refusal | None] = queue.SimpleQueue()
        self._waiting[number] = answer
        self._channel.send("admit", number, vars(association))
        try:
            return answer.get()  # the process ends when the node does
        finally:
            del self._waiting[number]

    def leave(self, association: Association) -> None:
        """Say that an association is over."""
        self._channel.send("leave", vars(association))

    def answered(self, number: int, rejection: list[int] | None, reason: str) -> None:
        """Give an answer to the thread that waits for it."""
        self._waiting[number].put(None if rejection is None else Refusal(Rejection(*rejection), reason))


class Reporter:
    """ReceiveEvents that are told to the node."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def tell(association: Association, *details: Any) -> None:
            plain = [str(detail) if isinstance(detail, Path) else detail for detail in details]
            self._channel.send("tell", name, vars(association), *plain)

        return tell


def main(listener: int, end: int) -> None:
    """Receive until the node says stop, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to the whole group; the node says what to do
        signal.signal(number, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=end))
    order = channel.receive()
    if order is None:
        return
    settings: dict[str, Any] = order[1]
    tls = settings["tls"]
    gate = RemoteGate(channel)
    scp = StorageSCP(
        listener=socket.socket(fileno=listener),
        ae_title=settings["ae_title"],
        spool=Spool(Path(settings["root"]), settings["high_water"]),
        gate=gate,
        limits=Limits(**settings["limits"]),
        tls=ServerTls(**{name: path and Path(path) for name, path in tls.items()}).context() if tls else None,
        events=Reporter(channel),
        terms=Terms(settings["terms"][0], frozenset(settings["terms"][1])),
    )
    scp.start()
    channel.send("ready")
    while message := channel.receive():
        if message[0] == "answer":
            gate.answered(*message[1:])
        elif message[0] == "stop":
            threading.Thread(target=_stop, args=(scp, channel), daemon=True).start()
    os._exit(0)  # the node is gone: nobody is left to tell


def _stop(scp: StorageSCP, channel: Channel) -> None:
    scp.stop()
    channel.send("stopped")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
