"""What has served its purpose goes after ``[storage] keep_days``, oldest first; what is not delivered never does."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from sqlalchemy import delete, select

from dicom_node.jobs.runs import last_run
from dicom_node.jobs.schema import ImageRow, JobRow, ObjectRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.receive.spool import Spool

log = logging.getLogger(__name__)

DAY_S = 86400.0
SWEEP_S = 3600.0
SERIES_DONE = (SeriesState.IGNORED, SeriesState.ROUTED)
JOBS_DONE = frozenset({JobState.DELIVERED, JobState.ABANDONED, JobState.NO_PIPELINE})


@dataclass(frozen=True)
class Removed:
    """A series that was removed with its jobs and results."""

    id: str
    images: int


class Retention:
    """Removes old series from the spool and the database, on a thread of its own, once an hour.

    Parameters
    ----------
    keep_days : float
        Since the last image came and the last job ended; 0 keeps everything.
    on_removed : callable
        Told of each series that was removed.
    clock : callable
        UTC seconds since the epoch.
    guard : context manager
        Held while a series is looked at and removed: no image may be filed meanwhile.
    destinations : bool
        Results are delivered somewhere; where they are not, those in the spool are the only ones, and stay.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        keep_days: float,
        on_removed: Callable[[Removed], None],
        clock: Callable[[], float] = time.time,
        guard: AbstractContextManager[object] | None = None,
        destinations: bool = True,
    ) -> None:
        self._store = store
        self._spool = spool
        self._keep_s = keep_days * DAY_S
        self._on_removed = on_removed
        self._clock = clock
        self._guard = guard or nullcontext()
        self._destinations = destinations
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sweep; does nothing when everything is kept."""
        if self._keep_s:
            self._thread = threading.Thread(target=self._work, name="retention", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the series that it is removing."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def sweep(self) -> list[Removed]:
        """Remove every series that has been done with for long enough, oldest first."""
        limit = self._clock() - self._keep_s
        removed = []
        for series in self._store.series_in(*SERIES_DONE):
            if self._ended.is_set():
                break
            with self._guard:
                gone = self._remove_if_done(series.series_uid, limit)
            if gone is not None:
                removed.append(gone)
                self._on_removed(gone)
        return removed

    def _remove_if_done(self, series_uid: str, limit: float) -> Removed | None:
        """Remove a series if it is, as it stands now, done with since before `limit`."""
        series = self._store.series(series_uid)
        if series is None or series.state not in SERIES_DONE:
            return None
        jobs = self._store.jobs_of(series_uid)
        last = max([series.last_at, *(max(job.created_at, job.ended_at) for job in jobs)])
        if last >= limit or any(job.state not in JOBS_DONE for job in jobs):
            return None
        if jobs and not self._destinations:
            return None
        return self._remove(series, jobs)

    def _remove(self, series: SeriesRow, jobs: list[JobRow]) -> Removed:
        """Remove files before rows: a crash between leaves rows that the next sweep removes.

        Of a job that ran stays an empty ``<job>.was<N>``: should the same images come again, their analysis
        is run N + 1, and its results have other UIDs than those that were delivered.
        """
        for job in jobs:
            run = max(job.run, last_run(self._spool.results, job.id))
            for folder in (self._spool.results / job.id, *self._spool.results.glob(f"{job.id}.*")):
                shutil.rmtree(folder, ignore_errors=True)
            if job.state != JobState.NO_PIPELINE:
                (self._spool.results / f"{job.id}.was{run}").mkdir(mode=0o700, exist_ok=True)
            (self._spool.jobs / f"{job.id}.json").unlink(missing_ok=True)
        shutil.rmtree(self._spool.series_folder(series.series_uid), ignore_errors=True)
        ids = [job.id for job in jobs]
        with self._store.session() as session:
            objects = session.execute(
                select(ObjectRow.sop_instance_uid, ObjectRow.destination).where(ObjectRow.job_id.in_(ids))
            )
            subjects = [series.series_uid, *ids, *(f"{uid}@{destination}" for uid, destination in objects)]
            images = len(
                session.scalars(select(ImageRow).where(ImageRow.series_uid == series.series_uid)).all()
            )
            session.execute(delete(TransitionRow).where(TransitionRow.subject.in_(subjects)))
            session.execute(delete(ObjectRow).where(ObjectRow.job_id.in_(ids)))
            session.execute(delete(JobRow).where(JobRow.id.in_(ids)))
            session.execute(delete(ImageRow).where(ImageRow.series_uid == series.series_uid))
            session.execute(delete(SeriesRow).where(SeriesRow.series_uid == series.series_uid))
        return Removed(series.id, images)

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                self.sweep()
            except Exception:  # a locked database or a bad disk: the next sweep may find it otherwise
                log.exception("old series could not be removed; again in %g s", SWEEP_S)
            self._ended.wait(SWEEP_S)
