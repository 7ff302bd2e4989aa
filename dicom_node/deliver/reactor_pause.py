"""Keeps pynetdicom's reactor away from the answers that a sender waits for.

An association's own thread takes what comes in off the queue of messages, unless it is paused, and who sends a
request pauses it. pynetdicom marks the pause before it is one: a thread that had just found the way free takes
an answer that comes within the next moment, the sender waits for it until its time is up, and a delivery is
repeated that had succeeded. Fast peers answer within that moment about once in 300 times.
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association

LOOK_S = 0.5
"""How often it is seen whether the thread that should come to the checkpoint has ended."""


class ReactorPause(threading.Event):
    """Takes the place of an association's ``_reactor_checkpoint``: clearing it waits until the reactor is there.

    Parameters
    ----------
    assoc : Association
        Whose reactor it stops.
    """

    def __init__(self, assoc: Association) -> None:
        super().__init__()
        self._assoc = assoc
        self._changed = threading.Condition()
        self._is_open = True
        self._is_there = False

    def is_set(self) -> bool:
        """Tell whether the reactor may go on."""
        return self._is_open

    def set(self) -> None:
        """Let the reactor go on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Stop the reactor, and wait until it stands still; its own thread does not wait for itself."""
        with self._changed:
            self._is_open = False
            while not (self._is_there or self._is_over()):
                self._changed.wait(LOOK_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Pass, or stand still until :meth:`set`."""
        with self._changed:
            if not self._is_open:
                self._is_there = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._is_open, timeout)
                self._is_there = False
            return self._is_open

    def _is_over(self) -> bool:
        return threading.current_thread() is self._assoc or not self._assoc.is_alive()
