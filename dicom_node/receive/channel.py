"""Channel between the node and a receiver process: lists, as JSON, each in as many packets as it needs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any

LONGEST_PACKET = 1 << 16
"""A socket takes no packet that is longer than its buffer, which is 200 kB on Linux as it comes."""
MORE, LAST = b"+", b"."
"""How a packet begins: the message goes on in the next one, or ends with it."""


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
        rest = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogateescape")
        with contextlib.suppress(OSError), self._lock:
            while len(rest) >= LONGEST_PACKET:
                self._end.send(MORE + rest[: LONGEST_PACKET - 1])
                rest = rest[LONGEST_PACKET - 1 :]
            self._end.send(LAST + rest)

    def receive(self) -> list[Any] | None:
        """Wait for a message, which one thread at a time may do; None when the other end is closed."""
        text = b""
        while True:
            try:
                packet = self._end.recv(LONGEST_PACKET)
            except OSError:
                return None
            if not packet:
                return None
            text += packet[1:]
            if packet[:1] == LAST:
                message: list[Any] = json.loads(text.decode("utf-8", "surrogateescape"))
                return message

    def close(self) -> None:
        """Close this end, and wake who waits at it."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
