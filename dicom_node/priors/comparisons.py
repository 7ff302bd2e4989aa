"""Comparisons with priors: a job for each search that found one, behind every fresh study, and what its worker is told."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager

from dicom_node.config.sections import PriorsSection
from dicom_node.errors import NodeError, PriorError, ResultError
from dicom_node.intake.judge import Jobs
from dicom_node.jobs.comparison_job import CHANGE, Compared
from dicom_node.jobs.message import PriorImages
from dicom_node.jobs.schema import ImageRow, JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store, job_identity, series_identity
from dicom_node.jobs.tracked_lesions import known_lesions, last_number, read_tracking, record_lesions
from dicom_node.priors.examination import Examination, examination_of
from dicom_node.priors.prior import prior_in
from dicom_node.spool.examined import examined_name
from dicom_node.spool.prior_searches import PriorSearch, read_search
from dicom_node.spool.run_folder import last_run
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

ANSWERED = frozenset({JobState.DELIVERING, JobState.DELIVERED, JobState.UNDELIVERED})
UNFINISHED = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.HELD})


class Comparisons:
    """Makes the jobs that compare analysed series with their priors.

    Parameters
    ----------
    section : PriorsSection
        Of the configuration.
    spool, store, worklog
        The node's own.
    installed : mapping of str to PipelineInfo
        What the workers can run.
    jobs : Jobs
        Told of jobs that should run now, and of those that should no longer.
    guard : context manager
        See `dicom_node.intake.intake.Intake`.
    """

    def __init__(
        self,
        section: PriorsSection,
        spool: Spool,
        store: Store,
        worklog: Worklog,
        installed: Mapping[str, PipelineInfo],
        jobs: Jobs,
        guard: AbstractContextManager[object],
    ) -> None:
        self._section, self._spool, self._store, self._worklog = section, spool, store, worklog
        self._installed, self._jobs, self._guard = installed, jobs, guard

    def begin(self, search: PriorSearch) -> str:
        """Make the job that compares with the newest prior of a search, unless it is there; return its ID, "" for none.

        A search is of one run: of a job that is analysed again, or whose images were corrected, the next search begins it.
        """
        if search.state != "done" or not search.priors:
            return ""
        with self._guard:
            job = self._store.job(search.job_id)
            if job is None or job.run != search.run or job.state not in ANSWERED:
                return ""
            compared = Compared(job.id, job.run, search.priors[0])
            if self._store.job(compared.id) is not None:
                return compared.id
            replaces, is_held = self._replace(job, compared.id)
            self._store.create_job(
                job_id=compared.id,
                series_uid=job.series_uid,
                pipeline=CHANGE,
                rule="",
                state=JobState.HELD if is_held else JobState.QUEUED,
                settings={**job.settings, **compared.settings(), "self_grade": self._section.self_grade},
                images=job.images,
                note=job.note,
                replaces=replaces,
                reason="in place of a job held by a person" if is_held else "",
                run=last_run(self._spool.results, compared.id) + 1,
            )
        self._worklog.write("to-compare", compared.id, series=series_identity(job.series_uid), job=job.id)
        self._jobs.wake()
        return compared.id

    def _replace(self, job: JobRow, new_id: str) -> tuple[str, bool]:
        """Abandon earlier comparisons of a series without a result; return the last that has one, and if one was held."""
        replaced, is_held = "", False
        for earlier in self._store.jobs_of(job.series_uid):
            if earlier.pipeline != CHANGE or earlier.state == JobState.ABANDONED:
                continue
            if earlier.state in UNFINISHED:
                self._jobs.withdraw(earlier.id, JobState.ABANDONED, f"replaced by job {new_id[:8]}")
                is_held = is_held or earlier.state == JobState.HELD
            else:
                replaced = earlier.id
        return replaced, is_held

    # For the worker

    def examined(self, job: JobRow) -> str:
        """Return where what a job's analysis finds is kept for comparisons, relative to the data folder."""
        key = Compared.of(job).job_id if job.pipeline == CHANGE else job.id
        return examined_name(job.series_uid, key)

    def prior_of(self, job: JobRow) -> PriorImages:
        """Return the prior of a comparison as it is now; with the reason, where it is none any more."""
        compared = Compared.of(job)
        try:
            current = self._store.job(compared.job_id)
            series = self._store.series(compared.prior_uid)
            if current is None or series is None:
                raise PriorError("the prior is no longer in the data folder")
            examination = examination_of(self._store, current)
            prior = prior_in(self._store, self._spool, examination, series, self._section)
            if isinstance(prior, str):
                raise PriorError(prior)
            rows = self._store.images(series.series_uid)
            self._take_untold()
            return PriorImages(
                images=tuple(row.path for row in rows),
                examined=examined_name(series.series_uid, self._key(current, rows)),
                lesions=known_lesions(self._store, series.series_uid),
                current_lesions=known_lesions(self._store, job.series_uid),
                last_number=last_number(self._store, examination.identity.patient_id),
                others=self._others(compared),
            )
        except NodeError as error:
            return PriorImages((), "", refusal=str(error))

    def _others(self, compared: Compared) -> tuple[str, ...]:
        """Return the other priors that were there, by day and grade; those of another search are no longer known."""
        search = read_search(self._spool, compared.job_id)
        is_of_it = (
            search is not None and search.run == compared.run and compared.prior_uid in search.priors[:1]
        )
        return tuple(search.others) if search is not None and is_of_it else ()

    def _key(self, current: JobRow, rows: list[ImageRow]) -> str:
        """Return the digest of the prior's analysis by what analysed the current series: that of its own job, if it had one."""
        info = self._installed.get(current.pipeline)
        digest = info.weights_digest if info is not None else ""
        uids = [row.sop_instance_uid for row in rows]
        return job_identity(uids, current.pipeline, digest, current.settings)

    # From the worker

    def _take_untold(self) -> None:
        """Take over the identities of comparisons whose results are there, and of which the node may not have heard yet."""
        for job in self._store.jobs_in(JobState.DELIVERING):
            if job.pipeline == CHANGE:
                with contextlib.suppress(ResultError):  # damaged: told of where it is delivered
                    self.take_tracking(job)

    def take_tracking(self, job: JobRow) -> None:
        """Take over the identities of lesions that a comparison has given."""
        tracked = read_tracking(self._spool.results / job.id)
        patient = self._patient(job) if tracked else ""
        if patient:
            record_lesions(self._store, patient, tracked)

    def _patient(self, job: JobRow) -> str:
        try:
            examination: Examination = examination_of(self._store, job)
        except PriorError:
            return ""
        return examination.identity.patient_id
