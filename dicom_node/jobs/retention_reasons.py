"""Reasons for which a series is still in the data folder, for the removal and for the person who asks.

Only what is delivered, and proved where a proof is wanted, may go, after its days and no earlier than promised.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sqlalchemy import and_, false, or_, select

from dicom_node.jobs.schema import JobRow, ObjectRow, SeriesRow
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.spool.promises import promised_until
from dicom_node.spool.spool import Spool

DAY_S = 86400.0


class Reason(StrEnum):
    """Reason for which a series stays; the first that holds."""

    NONE = ""
    RECEIVING = "coming in"
    HELD = "held"
    JOB_HELD = "with a job that a person holds"
    WAITING = "waiting for their analysis"
    DELIVERING = "being delivered"
    UNDELIVERED = "refused by a destination"
    UNPROVEN = "delivered without the proof that is wanted"
    NOWHERE = "with results that are delivered nowhere"
    YOUNG = "younger than keep_days"
    COMPARED = "wanted for a comparison that is not made yet"
    PROMISED = "promised to somebody who asked for storage commitment"


_BY_SERIES = {SeriesState.RECEIVING: Reason.RECEIVING, SeriesState.HELD: Reason.HELD}
_BY_JOB = {
    JobState.HELD: Reason.JOB_HELD,
    JobState.QUEUED: Reason.WAITING,
    JobState.RUNNING: Reason.WAITING,
    JobState.DELIVERING: Reason.DELIVERING,
    JobState.UNDELIVERED: Reason.UNDELIVERED,
}

_UNDONE = (JobState.QUEUED, JobState.RUNNING)


class Keeping:
    """The rules of what stays.

    Parameters
    ----------
    keep_days : float
        Since the last image came and the last job ended; 0 keeps everything.
    destinations : mapping of str to bool
        Where results go, and whether a proof is wanted from there.
    """

    def __init__(
        self, store: Store, spool: Spool, keep_days: float, destinations: Mapping[str, bool]
    ) -> None:
        self._store, self._spool = store, spool
        self.keep_s = keep_days * DAY_S
        self._destinations = destinations

    def reason(self, series: SeriesRow, now: float) -> Reason:
        """Return why a series stays as it stands now; NONE when it may go."""
        return self.cause(series, now)[0]

    def cause(self, series: SeriesRow, now: float) -> tuple[Reason, str]:
        """Return why a series stays, and the ID of what keeps it: its own, or that of its job."""
        state = SeriesState(series.state)
        if state in _BY_SERIES:
            return _BY_SERIES[state], series.id
        jobs = self._store.jobs_of(series.series_uid)
        unfinished, identifier = self._unfinished(jobs)
        if unfinished is not Reason.NONE:
            return unfinished, identifier
        if not self.keep_s or now < self.goes_at(series, jobs):
            return Reason.YOUNG, series.id
        comparisons = self._store.comparisons_with(series.series_uid, *_UNDONE)
        if comparisons:
            return Reason.COMPARED, comparisons[0].id
        if now < promised_until(self._spool.series_folder(series.series_uid)):
            return Reason.PROMISED, series.id
        return Reason.NONE, series.id

    def goes_at(self, series: SeriesRow, jobs: list[JobRow]) -> float:
        """Return when a series' days are over, if nothing else keeps it."""
        return max([series.last_at, *(max(job.created_at, job.ended_at) for job in jobs)]) + self.keep_s

    def _unfinished(self, jobs: list[JobRow]) -> tuple[Reason, str]:
        """Return what is still to come of the jobs, and the ID of the one that it is of."""
        for job in jobs:
            if JobState(job.state) in _BY_JOB:
                return _BY_JOB[JobState(job.state)], job.id
        if jobs and not self._destinations:
            return Reason.NOWHERE, jobs[-1].id
        return (Reason.UNPROVEN, jobs[-1].id) if self._lacks_proof(jobs) else (Reason.NONE, "")

    def _lacks_proof(self, jobs: list[JobRow]) -> bool:
        """Tell whether an object of the jobs was sent to where a proof is wanted, and not proved."""
        wanted = [name for name, proof in self._destinations.items() if proof]
        query = select(ObjectRow.sop_instance_uid).where(
            or_(false(), *(and_(ObjectRow.job_id == job.id, ObjectRow.run == job.run) for job in jobs)),
            ObjectRow.destination.in_(wanted),
            ObjectRow.state == ObjectState.SENT,
        )
        with self._store.reading() as session:
            return session.scalar(query.limit(1)) is not None


@dataclass
class Survey:
    """Survey of what is kept.

    Attributes
    ----------
    series, images, bytes : int
        How much, results included in the bytes.
    oldest_at : float
        When the first image of the oldest series came; 0 without any.
    reasons : Counter of Reason
        How many series each reason keeps.
    examples : dict of Reason to list of str
        IDs of what keeps them, series or jobs, oldest first.
    """

    series: int = 0
    images: int = 0
    bytes: int = 0
    oldest_at: float = 0.0
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, list[str]] = field(default_factory=dict)


def survey(
    store: Store, spool: Spool, keep_days: float, destinations: Mapping[str, bool], now: float
) -> Survey:
    """Look at everything that is kept, oldest first."""
    keeping = Keeping(store, spool, keep_days, destinations)
    found = Survey()
    for series in store.series_in(*SeriesState):
        reason, identifier = keeping.cause(series, now)
        found.series += 1
        found.images += len(store.images(series.series_uid))
        found.bytes += _bytes_in(spool.series_folder(series.series_uid))
        found.oldest_at = min(found.oldest_at or series.first_at, series.first_at)
        found.reasons[reason] += 1
        found.examples.setdefault(reason, []).append(identifier[:8])
    found.bytes += _bytes_in(spool.results)
    return found


def _bytes_in(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except FileNotFoundError:  # removed meanwhile
                continue
    return total
