"""Keeps the broker supplied: sends queued runs, and again what it lost or a dead worker took along."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dicom_node.errors import BrokerError, NodeError
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.comparison_turns import take_turn
from dicom_node.jobs.message import JobMessage, version_conflict
from dicom_node.jobs.reconciler_events import Events
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Pending, Store
from dicom_node.spool.refusals import Refusal, take_refusals
from dicom_node.spool.run_folder import run_name
from dicom_node.spool.spool import Spool

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
PING_S = 10.0
WAITS = "waits for job"
"""Beginning of the reason of a comparison that has to wait for another one."""


class Queues(Protocol):
    """Queues of the broker, as :class:`dicom_node.jobs.dispatch.Dispatcher` has them; see there."""

    def enqueue(self, job: JobRow, message: JobMessage) -> None:
        """Send a job's current run to the queue of its pipeline."""

    def ping(self) -> str:
        """Return the broker's run ID."""

    def places(self, queue: str) -> Mapping[str, str]:
        """Return where the broker has each task of a queue: "queue" or "taken"."""

    def forget(self, job_id: str, queue: str) -> None:
        """Remove every message of a job."""


class Enqueuer:
    """The reconciler's side towards the broker.

    A message counts as missing when its run has no folder and the broker has not had it in the queue for
    ``lease_s``: also one that a worker took and did nothing with. To send one twice does no harm, since
    only one worker can make the run's folder. That also brings a run to a worker that can read its message, where another
    one could not.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        dispatcher: Queues,
        *,
        message_of: Callable[[JobRow], JobMessage],
        events: Events,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._refused_folder = spool.refused
        self._dispatcher = dispatcher
        self._message_of = message_of
        self._events = events
        self._lease_s = lease_s
        self._clock = clock
        self._incarnation = ""  # the broker's run ID
        self._in_queue: dict[str, float] = {}  # task ID to when it was last known to wait in its queue
        self._next_ping = 0.0
        self._next_check = 0.0
        self._pause_s = 0.0
        self._retry_at = 0.0
        self._unwanted: deque[tuple[str, str]] = deque()  # jobs and pipelines of messages to be taken back
        self._explained: list[str] = []  # jobs whose reason names the broker's trouble
        self._refused: set[str] = set()  # task IDs of the runs that a worker could not read
        self._told: set[str] = set()  # of refusals

    @property
    def is_down(self) -> bool:
        """True when the broker did not answer when it was last asked."""
        return self._pause_s > 0

    def step(self, jobs: Sequence[Pending]) -> None:
        """Make sure that the broker knows of these queued jobs, whose runs have not begun.

        Parameters
        ----------
        jobs : sequence of Pending
            As the database has them now.
        """
        if self._clock() < self._retry_at:
            return
        try:
            self._forget()
            self._step(jobs)
        except BrokerError as error:
            first = not self.is_down
            self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
            self._retry_at = self._clock() + self._pause_s
            if first:
                self._events.broker_lost(str(error))
            self._explain([job.id for job in jobs], str(error))

    def _explain(self, job_ids: Sequence[str], reason: str) -> None:
        """Give waiting jobs the reason for which they wait, or take it back."""
        for job_id in job_ids:
            self._give_reason(job_id, reason)
        self._explained = list(dict.fromkeys([*self._explained, *job_ids])) if reason else []

    def forget_soon(self, job: JobRow) -> None:
        """Have a job's messages taken back by the next step; may be called from any thread."""
        self._unwanted.append((job.id, job.pipeline))

    def _forget(self) -> None:
        """Take back the messages of all jobs that were given up or begin anew."""
        while self._unwanted:
            job_id, pipeline = self._unwanted[0]
            self._dispatcher.forget(job_id, pipeline)
            self._unwanted.popleft()
            self._in_queue = {name: at for name, at in self._in_queue.items() if not name.startswith(job_id)}
            job = self._store.job(job_id)
            if job is not None and job.state == JobState.QUEUED and job.enqueued_at:
                # Held and released meanwhile: it is sent again.
                self._store.update_job(job_id, enqueued_at=0.0)

    def _give_reason(self, job_id: str, reason: str) -> None:
        job = self._store.job(job_id)
        if job is not None and job.state == JobState.QUEUED and job.reason != reason:
            self._store.update_job(job_id, reason=reason)

    def _step(self, jobs: Sequence[Pending]) -> None:
        new = [job for job in jobs if job.enqueued_at == 0.0]
        check = self._clock() >= self._next_check
        if new or check or self.is_down or self._clock() >= self._next_ping:
            check = self._ping() or check
        for job in new:
            self._send(job)
        if check:
            self._next_check = self._clock() + self._lease_s / 3
            sent = [job for job in jobs if job.enqueued_at != 0.0]
            self._hear_refusals(sent)
            self._check(sent)

    def _ping(self) -> bool:
        """Ask the broker for a sign of life; return True when it is another one than before."""
        incarnation = self._dispatcher.ping()
        self._next_ping = self._clock() + PING_S
        if self.is_down:
            self._pause_s = self._retry_at = 0.0
            self._events.broker_back()
            self._explain(self._explained, "")
        is_new = incarnation != self._incarnation
        if is_new:
            self._in_queue.clear()
        self._incarnation = incarnation
        return is_new

    def _hear_refusals(self, jobs: list[Pending]) -> None:
        """Tell of workers that could not read messages, each once, and give the jobs that wait the reason."""
        waiting = {run_name(job.id, job.run): job.id for job in jobs}
        self._refused &= waiting.keys()
        for refusal in take_refusals(self._refused_folder):
            reason = _refusal_reason(refusal)
            if reason not in self._told:
                self._told.add(reason)
                self._events.message_refused(reason)
            if refusal.run in waiting:
                self._refused.add(refusal.run)
                self._give_reason(waiting[refusal.run], reason)

    def _check(self, jobs: list[Pending]) -> None:
        now = self._clock()
        places = {queue: self._dispatcher.places(queue) for queue in {job.pipeline for job in jobs}}
        for job in jobs:
            name = run_name(job.id, job.run)
            place = places[job.pipeline].get(name)
            if place == "queue":
                self._in_queue[name] = now
                if name in self._refused:  # the worker that could not read it is gone, or busy
                    self._refused.discard(name)
                    self._give_reason(job.id, "")
            elif place is None and name not in self._in_queue:
                self._send(job)  # a broker that we did not know, and that does not know the run
            elif now - self._in_queue.setdefault(name, now) > self._lease_s:
                self._dispatcher.forget(job.id, job.pipeline)
                self._send(job)

    def _send(self, pending: Pending) -> None:
        if pending.pipeline == CHANGE and (other := take_turn(self._store, pending.id)):
            self._give_reason(pending.id, f"{WAITS} {other[:8]}, a comparison of the same patient")
            return
        job = self._store.job(pending.id)
        if job is None:
            return
        try:
            message = self._message_of(job)
        except NodeError as error:  # one job's files must not keep the others from the broker
            log.warning("job %s: no message can be made: %s", job.id[:8], error)
            return
        try:
            self._dispatcher.enqueue(job, message)
        except BrokerError:
            self._store.update_job(job.id, enqueued_at=0.0)  # it was not told: it is new at the next try
            raise
        self._in_queue[run_name(job.id, job.run)] = self._clock()
        waited = {"reason": ""} if job.reason.startswith(WAITS) else {}
        job = self._store.update_job(job.id, enqueued_at=time.time(), **waited)
        if (
            run_name(job.id, job.run) not in self._refused
        ):  # else it was told, and is sent again every lease_s
            self._events.job_queued(job)


def _refusal_reason(refusal: Refusal) -> str:
    return version_conflict(refusal.worker, refusal.program, refusal.reads) or (
        f"worker {refusal.worker} of version {refusal.program} can't read the messages of this node: {refusal.reason}"
    )
