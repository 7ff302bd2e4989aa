"""Messages between the node and a receiver process, each in as many packets as it needs."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Generic, TypeVar

from dicom_node.receive.message_codec import MessageCodec

LONGEST_PACKET = 1 << 16
"""A socket takes no packet that is longer than its buffer, which is 200 kB on Linux as it comes."""
MORE, LAST = b"+", b"."
"""Beginning of a packet: the message goes on in the next one, or ends with it."""

Sent = TypeVar("Sent")
Received = TypeVar("Received")


class Channel(Generic[Sent, Received]):
    """One end of a pair of connected sockets that keep packets apart.

    Parameters
    ----------
    end : socket
        Of the type SOCK_SEQPACKET.
    sends, receives : MessageCodec
        The messages of either direction.
    """

    def __init__(
        self, end: socket.socket, sends: MessageCodec[Sent], receives: MessageCodec[Received]
    ) -> None:
        self._end = end
        self._sends = sends
        self._receives = receives
        self._lock = threading.Lock()

    def send(self, message: Sent) -> None:
        """Send a message; one for an end that is closed is lost, which the reader of this end finds out."""
        rest = self._sends.encode(message)
        with contextlib.suppress(OSError), self._lock:
            while len(rest) >= LONGEST_PACKET:
                self._end.send(MORE + rest[: LONGEST_PACKET - 1])
                rest = rest[LONGEST_PACKET - 1 :]
            self._end.send(LAST + rest)

    def receive(self) -> Received | None:
        """Wait for a message, which one thread at a time may do; None when the other end is closed.

        Raises
        ------
        ValueError
            What came is no message.
        """
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
                return self._receives.decode(text)

    def close(self) -> None:
        """Close this end, and wake who waits at it."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
