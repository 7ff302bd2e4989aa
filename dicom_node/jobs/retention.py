"""Retention: done series go after ``[storage] keep_days``, oldest first; what is not delivered never does."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, select

from dicom_node.errors import NodeError, SpoolError
from dicom_node.jobs.retention_reasons import Keeping, Reason
from dicom_node.jobs.schema import CommitmentRow, ImageRow, JobRow, ObjectRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.stepper import Stepper
from dicom_node.jobs.store import Store
from dicom_node.spool.durable import sync_folder
from dicom_node.spool.examined import forget_examined
from dicom_node.spool.prior_requests import withdraw_request
from dicom_node.spool.prior_searches import forget_search
from dicom_node.spool.promises import promised_until
from dicom_node.spool.run_folder import last_run
from dicom_node.spool.spool import Spool

log = logging.getLogger(__name__)

SWEEP_S = 3600.0
TRASH = "removed"
"""Folder of the data folder where a series goes in one step before its files are removed one by one."""


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
        Held while a series is looked at and removed: no image may be filed, and none promised, meanwhile.
    destinations : mapping of str to bool
        Where results go, and whether a proof is wanted from there. Without any, those in the spool are the
        only ones, and stay.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        keep_days: float,
        on_removed: Callable[[Removed], None],
        clock: Callable[[], float] = time.time,
        guard: AbstractContextManager[object] | None = None,
        destinations: Mapping[str, bool] | None = None,
    ) -> None:
        self._store = store
        self._spool = spool
        self._keeping = Keeping(store, spool, keep_days, destinations or {})
        self._on_removed = on_removed
        self._clock = clock
        self._guard = guard or nullcontext()
        self._stepper = Stepper("retention", self._step, self._stumble)

    def start(self) -> None:
        """Begin to sweep; does nothing when everything is kept."""
        if self._keeping.keep_s:
            self._stepper.start()

    def stop(self) -> None:
        """End the thread after the series that it is removing."""
        self._stepper.stop()

    def sweep(self) -> list[Removed]:
        """Remove every series that has been done with for long enough, oldest first.

        One that can't be removed is left for the next sweep, and the others go.
        """
        now = self._clock()
        self._clear_trash(now)
        removed = []
        for listed in self._store.series_in(SeriesState.IGNORED, SeriesState.ROUTED, SeriesState.PRIOR):
            if self._stepper.stopping:
                break
            try:
                with self._guard:
                    series = self._store.series(listed.series_uid)
                    if series is None or self._keeping.reason(series, now) is not Reason.NONE:
                        continue
                    gone = self._remove(series, now)
            except (NodeError, OSError):
                log.exception("series %s could not be removed", listed.id[:8])
                continue
            if gone is not None:
                removed.append(gone)
                self._on_removed(gone)
        return removed

    def _clear_trash(self, now: float) -> None:
        """End what a sweep had begun that was cut off; what it would have given back is given back."""
        trash = self._spool.root / TRASH
        for promised in trash.glob("*/*/kept-until"):
            home = self._spool.series / promised.parent.name
            if _is_promised(promised.parent, now):
                if not home.exists():
                    promised.parent.rename(home)
                    continue
                for path in promised.parent.iterdir():  # images of the series have come again meanwhile
                    if not (home / path.name).exists():
                        path.rename(home / path.name)
        shutil.rmtree(trash, ignore_errors=True)

    def _remove(self, series: SeriesRow, now: float) -> Removed | None:
        """Move folders away whole, then remove rows, then files.

        A crash leaves rows without files, which the next sweep removes, or files in the trash; never a part
        of a series where it could be analysed. Of a job that ran stays an empty ``<job>.was<N>``: should the
        same images come again, their analysis is run N + 1, and its results have other UIDs than those that
        were delivered. Returns None for a series that was promised in the last moment, and stays.
        """
        jobs = self._store.jobs_of(series.series_uid)
        trash = self._spool.root / TRASH
        trash.mkdir(mode=0o700, exist_ok=True)
        away = Path(tempfile.mkdtemp(dir=trash))
        folder = self._spool.series_folder(series.series_uid)
        _move(folder, away)
        if now < promised_until(away / folder.name):
            (away / folder.name).rename(folder)
            return None
        for job in jobs:
            run = max(job.run, last_run(self._spool.results, job.id))
            for result in (self._spool.results / job.id, *self._spool.results.glob(f"{job.id}.*")):
                _move(result, away)
            if job.state != JobState.NO_PIPELINE:
                (self._spool.results / f"{job.id}.was{run}").mkdir(mode=0o700)
            (self._spool.jobs / f"{job.id}.json").unlink(missing_ok=True)
            forget_search(self._spool, job.id)
        withdraw_request(self._spool, series.series_uid)
        forget_examined(self._spool.root, series.series_uid)
        for parent in (self._spool.series, self._spool.results, self._spool.jobs):
            sync_folder(parent)  # before the rows: files that came back without them would be new images
        removed = Removed(series.id, self._remove_rows(series, [job.id for job in jobs]))
        shutil.rmtree(away, ignore_errors=True)
        return removed

    def _remove_rows(self, series: SeriesRow, job_ids: list[str]) -> int:
        """Remove all that the database has of a series, and return how many images it had."""
        with self._store.session() as session:
            objects = session.execute(
                select(ObjectRow.sop_instance_uid, ObjectRow.destination).where(ObjectRow.job_id.in_(job_ids))
            )
            subjects = [
                series.series_uid,
                *job_ids,
                *(f"{uid}@{destination}" for uid, destination in objects),
            ]
            images = len(
                session.scalars(select(ImageRow).where(ImageRow.series_uid == series.series_uid)).all()
            )
            session.execute(delete(TransitionRow).where(TransitionRow.subject.in_(subjects)))
            session.execute(delete(ObjectRow).where(ObjectRow.job_id.in_(job_ids)))
            session.execute(delete(CommitmentRow).where(CommitmentRow.job_id.in_(job_ids)))
            session.execute(delete(JobRow).where(JobRow.id.in_(job_ids)))
            session.execute(delete(ImageRow).where(ImageRow.series_uid == series.series_uid))
            session.execute(delete(SeriesRow).where(SeriesRow.series_uid == series.series_uid))
        return images

    def _step(self) -> float:
        self.sweep()
        return SWEEP_S

    def _stumble(self, error: Exception) -> float:
        """Wait: a database that was locked, or a disk that was bad, may be found otherwise by the next sweep."""
        log.error("old series could not be removed; again in %g s", SWEEP_S, exc_info=error)
        return SWEEP_S


def _is_promised(folder: Path, now: float) -> bool:
    try:
        return now < promised_until(folder)
    except SpoolError:  # a promise that can't be read may be one that holds
        return True


def _move(folder: Path, away: Path) -> None:
    if folder.exists():
        folder.rename(away / folder.name)
