"""Watch over the workers: asks who is there, and tells when jobs wait for a queue without a worker, and when no longer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dicom_node.errors import BrokerError, NodeError
from dicom_node.jobs.known_workers import SeenWorker, UnservedQueue, Workers
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.queue_depths import queue_depths
from dicom_node.jobs.stepper import Stepper
from dicom_node.jobs.store import Store

log = logging.getLogger(__name__)

FIRST_LOOK_S = 3.0
LOOK_S = 10.0
REMEMBERED_S = 86_400.0
"""So long a worker that is gone is still named."""


class Answers(Protocol):
    """Broker that asks the workers, as :class:`dicom_node.jobs.dispatch.Dispatcher` does."""

    def workers(self) -> list[LiveWorker]:
        """Return the workers that answer; BrokerError when there is nobody to ask."""

    def close(self) -> None:
        """Close the connections."""


class WorkerWatch:
    """Asks for the workers every ten seconds, on a thread of its own.

    Parameters
    ----------
    answers : Answers
        Of its own: it is used on the thread alone.
    store : Store
        The node's database.
    folder : Path
        The data folder.
    on_unserved, on_served : callable
        Told once when jobs have waited too long for a queue without a worker, and once when that is over.
    clock : callable
        UTC seconds since the epoch.
    """

    def __init__(
        self,
        answers: Answers,
        store: Store,
        folder: Path,
        *,
        on_unserved: Callable[[UnservedQueue], None],
        on_served: Callable[[UnservedQueue], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._answers = answers
        self._store = store
        self._folder = folder
        self._on_unserved, self._on_served = on_unserved, on_served
        self._clock = clock
        self._known = replace(Workers.read(folder), unserved=(), broker_error="", broker_since=0.0)
        # Since when workers could have answered: not from before the node's start, nor the broker's return.
        self._asked_since: float | None = None
        self._told: dict[str, UnservedQueue] = {}
        self._is_begun = False
        self._stepper = Stepper("worker-watch", self._step, self._stumble)

    @property
    def known(self) -> Workers:
        """Workers and queues as they were seen last."""
        return self._known

    def troubles(self) -> Iterable[str]:
        """Yield a line for each queue whose jobs have waited too long for a worker, for /healthz."""
        now = self._clock()
        return [str(one) for one in self._known.unserved if one.is_overdue(now)]

    def start(self) -> None:
        """Begin to ask."""
        self._stepper.start()

    def stop(self) -> None:
        """End the thread after the question that it is in."""
        self._stepper.stop()
        self._answers.close()

    def look(self) -> Workers:
        """Ask once, and return what is known then."""
        try:
            found = self._answers.workers()
        except BrokerError as error:
            self._asked_since = None
            since = self._known.broker_since or self._clock()
            silent = replace(self._known, unserved=(), broker_error=str(error), broker_since=since)
            self._publish(silent)
            return self._known
        now = self._clock()
        if self._asked_since is None or self._asked_since > now:
            self._asked_since = now
        seen = _merged(self._known.seen, found, now)
        self._publish(Workers(now, seen, tuple(self._unserved(seen, now, self._asked_since))))
        self._tell(now)
        return self._known

    def _unserved(self, seen: Iterable[SeenWorker], now: float, asked_since: float) -> list[UnservedQueue]:
        queues = []
        for depth in queue_depths(self._store):
            serving = [one for one in seen if one.serves(depth.queue)]
            # Workers of 0.1.0 never answer: one that has a run in hand shows by its lease that it lives.
            if depth.queued and not depth.running and not any(one.is_alive(now) for one in serving):
                since = max(depth.oldest_at, asked_since, *(min(one.last_at, now) for one in serving))
                queues.append(UnservedQueue(depth.queue, depth.queued, min(since, now)))
        return queues

    def _tell(self, now: float) -> None:
        waiting = {one.queue: one for one in self._known.unserved}
        for queue in self._told.keys() - waiting.keys():
            self._on_served(self._told.pop(queue))
        for queue, one in waiting.items():
            if queue not in self._told and one.is_overdue(now):
                self._told[queue] = one
                self._on_unserved(one)

    def _publish(self, known: Workers) -> None:
        self._known = known
        known.write(self._folder)

    def _step(self) -> float:
        if not self._is_begun:  # a worker that is started with the node needs some seconds, too
            self._is_begun = True
            return FIRST_LOOK_S
        self.look()
        return LOOK_S

    def _stumble(self, error: Exception) -> float:
        log.warning("workers could not be looked for: %s", error, exc_info=not isinstance(error, NodeError))
        return LOOK_S


def _merged(before: Iterable[SeenWorker], found: Iterable[LiveWorker], now: float) -> tuple[SeenWorker, ...]:
    """Return the workers that answered, and of the others those that nobody has taken the place of."""
    seen = {worker.name: SeenWorker(worker, now) for worker in found}
    places = {(one.host, one.worker.queues, one.worker.device) for one in seen.values()}
    for one in before:
        place = (one.host, one.worker.queues, one.worker.device)
        # A worker that was started anew has another process ID, and so another name.
        replaced = not one.is_alive(now) and place in places
        if one.worker.name not in seen and not replaced and now - one.last_at < REMEMBERED_S:
            seen[one.worker.name] = replace(one, last_at=min(one.last_at, now))
    return tuple(seen[name] for name in sorted(seen))
