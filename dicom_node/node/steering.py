"""Steering by a person: retry, hold and release of a series or a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dicom_node.deliver.outbox import Outbox
from dicom_node.errors import NotFoundError, StateError
from dicom_node.intake.intake import Intake
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.former_identity import is_of_former_identity, why_not_analysable
from dicom_node.jobs.reconcile import Reconciler
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.jobs.summary_job import SUMMARY
from dicom_node.worklog.writer import Worklog

OF_RESULTS = (CHANGE, SUMMARY)
"""Jobs that are made of the results of others: a series or study does not name them."""


class Steering:
    """Does what the console asks for, with the parts of one node.

    Parameters
    ----------
    store, worklog, intake, reconciler, outbox
        The node's own.
    """

    def __init__(
        self, store: Store, worklog: Worklog, intake: Intake, reconciler: Reconciler, outbox: Outbox
    ) -> None:
        self._store = store
        self._worklog = worklog
        self._intake = intake
        self._reconciler = reconciler
        self._outbox = outbox

    def steer(self, verb: str, text: str, given: Mapping[str, Any] | None = None) -> str:
        """Do what a person asks for and say what was done.

        Parameters
        ----------
        verb : "retry", "hold" or "release"
        text : str
            What names the series or the job: see `dicom_node.jobs.store.Store.find`.
        given : mapping, optional
            Settings for a retry.

        Raises
        ------
        NotFoundError
            Nothing has this name, or several have.
        StateError
            It is in no state for that.
        """
        match = self._store.find(text)
        held = [series for series in match.series if series.state == SeriesState.HELD]
        if match.kind == "series" and (held or not match.jobs):
            named = held or match.series
            if len(named) != 1:
                raise NotFoundError(f"{text!r} names {len(named)} series: give the ID of one")
            if given:
                raise StateError(
                    f"series {named[0].id[:8]} is {named[0].state}: it has no job to be corrected"
                )
            return self._series(verb, named[0])
        of_series = [job for job in match.jobs if match.kind == "job" or job.pipeline not in OF_RESULTS]
        live = [job for job in of_series if job.state != JobState.ABANDONED] or of_series
        if len({job.series_uid for job in live}) != 1:
            listed = ", ".join(job.id[:8] for job in live)
            raise NotFoundError(f"{text!r} names several jobs ({listed}): give the ID of one")
        self._require_one_identity(verb, live[-1])
        if given and verb == "retry":
            job_id = self._intake.judge.analyse_with(live[-1], given)
            return f"job {live[-1].id[:8]} is analysed again with what you gave, as job {job_id[:8]}"
        return self._job(verb, live[-1])

    def _series(self, verb: str, series: SeriesRow) -> str:
        if verb == "release" and series.state == SeriesState.HELD:
            self._intake.release(series)
            return f"series {series.id[:8]} is analysed as it is"
        if verb == "retry" and series.state in {SeriesState.IGNORED, SeriesState.ROUTED, SeriesState.PRIOR}:
            self._intake.route_again(series)
            return f"series {series.id[:8]} is judged by the rules again"
        raise StateError(f"series {series.id[:8]} is {series.state} ({series.reason}): nothing to {verb}")

    def _job(self, verb: str, job: JobRow) -> str:
        short, state = job.id[:8], JobState(job.state)
        if verb == "hold" and state in {JobState.QUEUED, JobState.RUNNING}:
            self._reconciler.withdraw(job.id, JobState.HELD, "held by a person")
            self._worklog.write("held", job.id, reason="by a person")
            return f"job {short} is held; dicom-node release {short} lets it run"
        if verb == "release" and state is JobState.HELD:
            self._store.move_job(job.id, JobState.QUEUED, "released by a person", enqueued_at=0.0)
            self._worklog.write("released", job.id, reason="by a person")
            self._reconciler.wake()
            return f"job {short} is queued again"
        if verb == "retry" and state is JobState.UNDELIVERED and not self._is_outdated(job):
            self._store.move_job(job.id, JobState.DELIVERING, "delivered again")
            self._worklog.write("retry", job.id, reason="delivered again")
            self._outbox.again(job.id)
            return f"job {short} is delivered again"
        if verb == "retry" and state is JobState.DELIVERING:
            self._outbox.wake()
            return f"job {short}: what waits for its destinations is tried again now"
        if verb == "retry" and state is JobState.NO_PIPELINE:
            series = self._store.series(job.series_uid)
            assert series is not None, "a job has its series"
            return self._series(verb, series)
        if verb == "retry" and state in {JobState.DELIVERED, JobState.UNDELIVERED, JobState.ABANDONED}:
            return self._analyse_again(job)
        raise StateError(f"job {short} is {job.state}: nothing to {verb}")

    def _is_outdated(self, job: JobRow) -> bool:
        return is_of_former_identity(self._store, self._intake.spool, job)

    def _require_one_identity(self, verb: str, job: JobRow) -> None:
        """Raise StateError when a job is to run while a part of its images is corrected."""
        if verb == "hold":
            return
        if reason := why_not_analysable(self._store, job):
            raise StateError(
                f"job {job.id[:8]}: {reason}: have the archive send all of them corrected, then {verb} again"
            )

    def _analyse_again(self, job: JobRow) -> str:
        short = job.id[:8]
        anew = self._intake.judge.analyse_with_todays(job) if job.state == JobState.DELIVERED else None
        if anew is not None:
            return f"job {short} is analysed again with what holds today, as job {anew[:8]}"
        job = self._reconciler.again(job.id, "asked for by a person")
        self._worklog.write("retry", job.id, run=job.run)
        return f"job {short} is analysed again, as run {job.run}"
