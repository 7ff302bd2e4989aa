"""Reading from a connection: exactly so many bytes, or the reason why not, within a time that a slow peer can't
stretch.
"""

from __future__ import annotations

import contextlib
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


class Wire(AssociationSocket):  # type: ignore[misc]
    """A connection, plain or over TLS.

    A plain socket stays a blocking one whose limits are options of the socket: one call of the system for
    each read, which waits for all the bytes asked for.
    """

    _limits: tuple[float, float] = (-1.0, -1.0)

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
        try:
            while view:
                count = self._receive(view, deadline, seconds)
                if not count:
                    raise ClosedError("the peer closed the connection")
                view = view[count:]
                if view and time.monotonic() > deadline:
                    raise LateError
        except (BlockingIOError, TimeoutError):
            raise LateError from None
        except (OSError, AttributeError) as error:  # pynetdicom sets the socket to None when it closes it
            raise ClosedError(str(error)) from error

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

    def limit(self, receiving_s: float, sending_s: float) -> None:
        """Set how long one read and one write may take."""
        if (receiving_s, sending_s) == self._limits:
            return
        self._limits = (receiving_s, sending_s)
        for option, seconds in ((socket.SO_RCVTIMEO, receiving_s), (socket.SO_SNDTIMEO, sending_s)):
            whole = int(seconds)
            timeval = _TIMEVAL.pack(whole, max(1, int((seconds - whole) * 1e6)))
            self.socket.setsockopt(socket.SOL_SOCKET, option, timeval)

    def _receive(self, view: memoryview, deadline: float, seconds: float) -> int:
        if isinstance(self.socket, ssl.SSLSocket):
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            return self.socket.recv_into(view)
        self.limit(seconds, SENDING_S)
        return int(self.socket.recv_into(view, 0, socket.MSG_WAITALL))


SENDING_S = 30.0
"""A peer that takes nothing for so long is cut off."""
