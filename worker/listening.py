"""Watch over the worker: does it still take what its broker holds for it?

Celery can come back from a lost connection deaf: where the connection ends while a message is being acknowledged, its loop goes
on without the socket that new messages come on, and waits for ever. From outside such a worker looks idle.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import redis
from celery.worker import state

from dicom_node.jobs.dispatch import connect, queue_key

log = logging.getLogger(__name__)

LOOK_S = 10.0
LOOKS = 3
"""So many looks in a row must find messages that wait for an idle worker: it takes one at once."""


class Listening:
    """Ends the process when messages wait and it takes none; whoever keeps it alive starts it anew.

    Nothing is lost by it: the worker is idle, and what it could not acknowledge is known to the node.

    Parameters
    ----------
    broker_url : str
    queues : sequence of str
        Those that the worker takes from.
    is_busy : callable
        Tells whether it has something to do.
    end : callable
        Ends the process.
    """

    def __init__(
        self,
        broker_url: str,
        queues: Sequence[str],
        is_busy: Callable[[], bool],
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._client = connect(broker_url)
        self._queues, self._is_busy, self._end = queues, is_busy, end
        self._in_vain = 0
        self._thread = threading.Thread(target=self._run, name="listening", daemon=True)

    def start(self, **_: object) -> None:
        """Look for as long as the process lives, on a thread; a worker is ready again after each reconnection."""
        if not self._thread.is_alive():
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        try:
            waiting = sum(int(self._client.llen(queue_key(queue))) for queue in self._queues)
        except (redis.RedisError, OSError):
            waiting = 0  # nobody can take anything
        deaf = waiting > 0 and not self._is_busy() and state.should_stop is None
        self._in_vain = self._in_vain + 1 if deaf else 0
        if self._in_vain >= LOOKS:
            log.error(
                "%d messages wait, and this idle worker takes none: it ends, to be started anew", waiting
            )
            self._end(os.EX_TEMPFAIL)
