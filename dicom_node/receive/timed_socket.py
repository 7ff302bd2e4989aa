"""A socket that reads exactly so many bytes, or says why not, within a time that a slow peer can't stretch."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import struct
import time

from pynetdicom.transport import AssociationSocket

_TIMEVAL = struct.Struct("ll")


class LateError(Exception):
    """The peer took too long."""


class ClosedError(Exception):
    """The peer closed the connection, or it broke."""


class TimedSocket(AssociationSocket):  # type: ignore[misc]
    """Socket of an association, plain or over TLS, each of whose reads has a time.

    A plain socket stays a blocking one whose limits are options of the socket: one call of the system for
    each read, which waits for all the bytes asked for.
    """

    _limit_s = math.inf

    def fill(self, view: memoryview, seconds: float) -> None:
        """Read until the view is full.

        Parameters
        ----------
        view : memoryview
            Bytes, writable.
        seconds : float
            How long all of it may take.

        Raises
        ------
        LateError, ClosedError
            It could not be filled.
        """
        deadline = time.monotonic() + seconds
        left = seconds
        while view:
            try:
                count = self._receive(view, left)
            except (BlockingIOError, TimeoutError):
                count = -1
            except (OSError, AttributeError) as error:  # pynetdicom sets the socket to None when it closes it
                raise ClosedError(str(error)) from error
            if not count:
                raise ClosedError("the peer closed the connection")
            view = view[max(0, count) :]
            if view and (left := deadline - time.monotonic()) <= 0:
                raise LateError

    def drain(self, seconds: float) -> None:
        """Throw away what still comes until the peer closes, so that what it was sent last reaches it."""
        waste = memoryview(bytearray(65536))
        deadline = time.monotonic() + seconds
        with contextlib.suppress(LateError, ClosedError):
            while (rest := deadline - time.monotonic()) > 0:
                self.fill(waste, rest)

    def send(self, bytestream: bytes) -> None:
        """Send all of it; a connection that does not take it counts as closed."""
        try:
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.settimeout(SENDING_S)
            self.socket.sendall(bytestream)
        except (OSError, AttributeError):
            self.event_queue.put("Evt17")

    def hang_up(self) -> None:
        """Wake the thread that reads: it finds no more to read. May be called from any thread."""
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                # Not SSLSocket's own, which throws the encryption away.
                socket.socket.shutdown(connection, socket.SHUT_RD)

    def _receive(self, view: memoryview, seconds: float) -> int:
        """Read what comes within some seconds, or less: the limit of a plain socket is only ever lowered."""
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.settimeout(max(0.001, seconds))
            return self.socket.recv_into(view)
        seconds = max(seconds, SHORTEST_S)
        if seconds < self._limit_s:
            for option, limit in ((socket.SO_RCVTIMEO, seconds), (socket.SO_SNDTIMEO, SENDING_S)):
                self.socket.setsockopt(socket.SOL_SOCKET, option, _timeval(limit))
            self._limit_s = seconds
        return int(self.socket.recv_into(view, 0, socket.MSG_WAITALL))


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return _TIMEVAL.pack(whole, max(1, int((seconds - whole) * 1e6)))


SENDING_S = 30.0
"""A peer that takes nothing for so long is cut off."""

SHORTEST_S = 0.1
"""The shortest limit that is set: it stays, and how often an idle connection is looked at follows from it."""
