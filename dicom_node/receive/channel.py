"""What the node and a receiver process say to each other: lists, as JSON, one to a packet."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

LONGEST_PACKET = 1 << 18


class Channel:
    """One end of a pair of connected sockets that keep packets apart.

    Parameters
    ----------
    end : socket
        Of the type SOCK_SEQPACKET.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send a message; one for an end that is closed is lost, which the reader of this end finds out."""
        packet = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogateescape")
        with contextlib.suppress(OSError), self._lock:
            self._end.send(packet)

    def receive(self) -> list[Any] | None:
        """Wait for a message; None when the other end is closed."""
        try:
            packet = self._end.recv(LONGEST_PACKET)
        except OSError:
            return None
        if not packet:
            return None
        message: list[Any] = json.loads(packet.decode("utf-8", "surrogateescape"))
        return message

    def close(self) -> None:
        """Close this end, and wake who waits at it."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
