"""Reconciler: brings jobs on; sends them to the broker, reads what workers leave in ``results/``, and redelivers.

There is no other redelivery: a run without a sign of life, or one whose worker noted its death, is followed
by the next run. Files count, messages don't: a broker that forgot everything is told again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dicom_node.errors import NodeError, ResultError, StateError
from dicom_node.jobs.enqueue import Enqueuer, Queues
from dicom_node.jobs.leases import Leases
from dicom_node.jobs.message import JobMessage
from dicom_node.jobs.reconciler_events import Events
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.stepper import Stepper
from dicom_node.jobs.store import Pending, Store
from dicom_node.jobs.summary_job import SUMMARY
from dicom_node.results.manifest import Manifest
from dicom_node.spool.run_folder import (
    DEATHS,
    STAGE,
    STARTED,
    STOPPED,
    begun,
    finished_path,
    last_run,
    read_events,
    remove_leftovers,
    run_name,
    set_aside,
)
from dicom_node.spool.spool import Spool

log = logging.getLogger(__name__)

ACTIVE_S = 0.5
IDLE_S = 10.0
TROUBLE_S = 5.0
LOOKED_AT = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING})
RECALLED = LOOKED_AT | {JobState.UNDELIVERED, JobState.HELD}
FREE_STOPS = 10
"""So many runs in a row may end because their worker was stopped; from then on a stop counts as an attempt."""


class Reconciler:
    """Brings queued and running jobs to their results.

    Parameters
    ----------
    message_of : callable
        Gives the message to the worker for a job's current run.
    events : Events
        Hears of everything.
    lease_s : float
        How long a run may give no sign of life, and a message be missing, before it is done anew.
    max_runs : int
        Attempts before the job is failed.
    time_limit_s : float
        The workers' hard limit for a run.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        dispatcher: Queues,
        *,
        message_of: Callable[[JobRow], JobMessage],
        events: Events,
        lease_s: float = 30.0,
        max_runs: int = 3,
        time_limit_s: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._results: Path = spool.results
        self._events = events
        self._max_runs = max_runs
        self._clock = clock
        self._enqueuer = Enqueuer(
            store, spool, dispatcher, message_of=message_of, events=events, lease_s=lease_s, clock=clock
        )
        self._leases = Leases(lease_s, time_limit_s, clock)
        self._not_before: dict[str, float] = {}
        self._untold: dict[str, Manifest] = {}  # finished, and the node could not take it yet
        # No attempt is left of these, and their reports are not made yet.
        self._spent: dict[str, tuple[JobRow, str]] = {}
        # Held while one job is looked at or steered; never while the broker or a report takes its time.
        self._moving = threading.Lock()
        self._stepper = Stepper("reconciler", self.step, self._stumble)

    def start(self) -> None:
        """Begin to work on a thread of its own."""
        self._stepper.start()

    def stop(self) -> None:
        """End the thread, after the step that it is in."""
        self._stepper.stop()

    def wake(self) -> None:
        """Look at the jobs now: there is a new one."""
        self._stepper.wake()

    def again(self, job_id: str, reason: str) -> JobRow:
        """Analyse a job anew, as a new run with new UIDs; its results are kept as ``<job>.was<N>``.

        Raises
        ------
        NotFoundError
            No such job.
        StateError
            The job is queued or running.
        """
        with self._moving:
            run = last_run(self._results, job_id)
            self._untold.pop(job_id, None)
            before = self._store.job(job_id)
            if before is not None:
                if before.state in {JobState.QUEUED, JobState.RUNNING}:
                    raise StateError(f"job {job_id[:8]} is {before.state} already")
                run = max(run, before.run)
            columns = {"run": run + 1, "attempts": 1, "outcome": "", "enqueued_at": 0.0, "events_read": 0}
            job = self._store.move_job(job_id, JobState.QUEUED, reason, **columns)
            set_aside(self._results, job_id, run)
            remove_leftovers(self._results, job_id, up_to=run)  # a worker may have begun the new one
        self.wake()
        return job

    def withdraw(self, job_id: str, to: JobState, reason: str) -> JobRow:
        """Hold or abandon a job; a run at work is left to end. The next step takes its messages back.

        Waits for no broker: series are judged, and so images filed, by whoever calls it.
        """
        with self._moving:
            job = self._store.move_job(job_id, to, reason, enqueued_at=0.0)
        self._enqueuer.forget_soon(job)
        self.wake()
        return job

    def recall(self, job_id: str, reason: str) -> None:
        """Take back a job whose images were corrected, as far as its results are not all delivered.

        None of its objects is sent from now on, and what a run at work may publish is set aside. It is abandoned, and can be
        asked for again; a job that a person holds stays held.
        """
        with self._moving:
            job = self._store.job(job_id)
            if job is None or job.state not in RECALLED:
                return
            self._untold.pop(job_id, None)
            run = max(job.run, last_run(self._results, job_id)) + 1
            columns = {"run": run, "attempts": 1, "enqueued_at": 0.0, "events_read": 0}
            if job.state == JobState.HELD:
                self._store.update_job(job_id, **columns)
            else:
                self._store.move_job(job_id, JobState.ABANDONED, reason, **columns)
        self._enqueuer.forget_soon(job)
        self.wake()

    def _stumble(self, error: Exception) -> float:
        log.error("the reconciler stumbled", exc_info=error)
        return TROUBLE_S

    def step(self) -> float:
        """Do one pass over all queued and running jobs; return the seconds until the next one is due."""
        pending = self._store.pending()
        try:
            with_folder = begun(self._results)
        except OSError as error:
            log.warning("%s: %s", self._results, error.strerror)
            return TROUBLE_S
        # Thousands may wait: only those that a worker has touched are looked at one by one.
        waiting = [job for job in pending if job.state == JobState.QUEUED and job.id not in with_folder]
        untouched = {job.id for job in waiting}
        touched = dict.fromkeys(job.id for job in pending if job.id not in untouched)
        waiting += [job for job_id in touched if (job := self._bring_on(job_id)) is not None]
        for job_id in self._untold.keys() - touched.keys():
            self._bring_on(job_id)
        for job_id in list(self._spent):
            self._unless_it_stumbles(job_id, self._give_up)
        self._enqueuer.step(
            [job for job in waiting if job.pipeline != SUMMARY]
        )  # which the node makes itself
        return ACTIVE_S if pending or self._untold or self._enqueuer.is_down else IDLE_S

    def _bring_on(self, job_id: str) -> Pending | None:
        """Look at one job; return it when its run is to be begun. Whatever is wrong with it is only logged."""
        if self._not_before.get(job_id, 0.0) > self._clock():
            return None
        return self._unless_it_stumbles(job_id, self._look_at)

    def _unless_it_stumbles(self, job_id: str, act: Callable[[str], Pending | None]) -> Pending | None:
        """Do something for a job; what goes wrong with it is logged, and must not stop the others."""
        try:
            result = act(job_id)
        except Exception as error:
            known = isinstance(error, (NodeError, OSError))
            log.warning("job %s: %s", job_id[:8], error, exc_info=not known)
            self._not_before[job_id] = self._clock() + TROUBLE_S
            return None
        self._not_before.pop(job_id, None)
        return result

    def _look_at(self, job_id: str) -> Pending | None:
        with self._moving:
            job = self._store.job(job_id)
            if job is None or job.state not in LOOKED_AT:
                self._untold.pop(job_id, None)  # settled meanwhile: nobody needs to hear of it
                return None
            if job.id in self._untold:
                self._tell(job)
                return None
            if damage := self._put_damaged_aside(job):
                return self._lose(job, damage)
            return None if self._finish(job) else self._next_run(job)

    def _next_run(self, job: JobRow) -> Pending | None:
        """Bring a job without results on by the folder of its run; return it when no worker has begun it."""
        name = run_name(job.id, job.run)
        folder = self._results / name
        if not folder.is_dir():
            if job.state == JobState.QUEUED:
                return _pending(job)
            # It may have been renamed between the two looks.
            return None if self._finish(job) else self._lose(job, "the run's folder is gone")
        job, death = self._read_events(job, folder)
        if self._finish(job):
            return None
        reason = death or self._leases.silence(name, folder)
        return self._lose(job, reason) if reason else None

    def _read_events(self, job: JobRow, folder: Path) -> tuple[JobRow, str]:
        """Pass on what the worker wrote since the last look; return the job, and why the run died, if so."""
        death = ""
        events, offset = read_events(folder, job.events_read)
        for event in events:
            if event.get("event") == STARTED:
                worker = str(event.get("worker", ""))
                if job.state == JobState.QUEUED:
                    job = self._store.move_job(job.id, JobState.RUNNING, f"run {job.run} by {worker}")
                self._events.job_running(job, worker)
            elif event.get("event") == STAGE:
                self._events.job_stage(job, str(event.get("stage")), float(event.get("seconds", 0.0)))
            elif event.get("event") in DEATHS:
                death = str(event.get("reason"))
        # A death is passed on by what follows from it, and must be seen again if that fails.
        if offset != job.events_read and not death:
            job = self._store.update_job(job.id, events_read=offset)
        if job.state == JobState.QUEUED and job.events_read:  # held while it ran, and released
            job = self._store.move_job(job.id, JobState.RUNNING, f"run {job.run} is still at work")
        return job, death

    def _put_damaged_aside(self, job: JobRow) -> str:
        """Set results aside that have no readable manifest, and say so; "" where there are none or they are whole.

        A worker publishes whole folders only: these were cut off by a restored backup or a bad disk, and no
        other run could take their place.
        """
        folder = self._results / job.id
        if not folder.is_dir():
            return ""
        try:
            Manifest.read(folder)
        except ResultError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
                raise  # a network folder that is away: they may be whole
            set_aside(self._results, job.id, last_run(self._results, job.id) + 1)
            return "its results were damaged, and were set aside"
        return ""

    def _finish(self, job: JobRow) -> bool:
        """Move a job on whose results are there."""
        folder = finished_path(self._results, job.id)
        if folder is None:
            return False
        manifest = Manifest.read(folder)
        if manifest.run <= job.run - job.attempts:  # of an earlier request: the node died in `again`
            set_aside(self._results, job.id, manifest.run)
            return False
        if manifest.run == job.run:
            job, _death = self._read_events(job, folder)
        job = self._store.move_job(
            job.id,
            JobState.DELIVERING,
            manifest.reason,
            outcome=manifest.status,
            run=max(job.run, manifest.run),  # never back: the number of a run is not used twice
        )
        self._leases.forget(job.id)
        remove_leftovers(self._results, job.id)
        self._untold[job.id] = manifest
        self._tell(job)
        return True

    def _tell(self, job: JobRow) -> None:
        self._events.job_finished(job, self._untold[job.id])
        del self._untold[job.id]

    def _lose(self, job: JobRow, reason: str) -> Pending | None:
        """Begin the next run, which is returned; or note that the job is to be given up."""
        self._leases.forget(job.id)
        self._enqueuer.forget_soon(job)
        run = max(job.run, last_run(self._results, job.id)) + 1
        spent = int(reason != STOPPED or self._stops(job) >= FREE_STOPS)
        if not spent or job.attempts < self._max_runs:
            job = self._store.move_job(
                job.id,
                JobState.QUEUED,
                reason,
                run=run,
                attempts=job.attempts + spent,
                enqueued_at=0.0,
                events_read=0,
            )
            self._events.job_lost(job, reason)
            return _pending(job)
        # Not yet in the database: until its result is there, the job is given up anew after a crash.
        job.run = run
        job.attempts += 1
        self._spent[job.id] = job, reason
        return None

    def _give_up(self, job_id: str) -> None:
        """Have the report of a job made whose attempts are spent, which takes seconds, and move it on."""
        job, reason = self._spent.pop(job_id)
        self._events.job_failed(job, reason)
        with self._moving:
            now = self._store.job(job_id)
            if now is None or now.state not in LOOKED_AT:
                return  # held or abandoned meanwhile; the report lies there for when it is released
            if not self._finish(job):
                raise StateError(f"no failed result was published as run {job.run}")

    def _stops(self, job: JobRow) -> int:
        """Count the runs that ended because their worker was stopped, since the job was last asked for."""
        stops = 0
        for row in reversed(self._store.history(job.id)):
            if row.before not in {JobState.QUEUED, JobState.RUNNING}:
                break
            stops += row.reason == STOPPED
        return stops


def _pending(job: JobRow) -> Pending:
    return Pending(job.id, job.pipeline, job.state, job.run, job.enqueued_at)
