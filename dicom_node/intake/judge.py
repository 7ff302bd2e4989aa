"""Judge of series: each becomes a job by the rules, or is held, or ignored; and of jobs that a person wants otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from dicom_node.config.settings import Settings
from dicom_node.errors import StateError
from dicom_node.intake.arrivals import Arrivals
from dicom_node.jobs.former_identity import delivered_objects, is_of_former_identity
from dicom_node.jobs.rebuild import FOUND
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store, job_identity, series_identity
from dicom_node.routing.match import Decision, decide
from dicom_node.routing.rules import built_in_rules
from dicom_node.series.completeness import assess, main_stack
from dicom_node.series.headers import ImageHeader
from dicom_node.spool.prior_requests import NOT_WHOLE
from dicom_node.spool.run_folder import last_run
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

GIVEN_BY_PERSON = ("points",)
"""Settings that a person gives for one series: they stay with it when late images make another job."""
GIVEN = "given by a person"
"""How the first reason of a job ends whose settings a person gave."""


class Jobs(Protocol):
    """Mover of jobs: the reconciler."""

    def wake(self) -> None:
        """Look at the jobs now."""

    def withdraw(self, job_id: str, to: JobState, reason: str) -> JobRow:
        """Hold or abandon a job that is queued or running."""

    def again(self, job_id: str, reason: str) -> JobRow:
        """Queue a job as a new run."""

    def recall(self, job_id: str, reason: str) -> None:
        """Abandon a job whose results are not all delivered; none of them is sent."""


class Judge:
    """Judges series by the rules, and makes jobs of those that a rule wants.

    Parameters
    ----------
    settings, spool, store, worklog
        The node's own.
    installed : mapping of str to PipelineInfo
        What the workers can run, by the name that the rules use.
    jobs : Jobs
        Told of jobs that should run now, and of those that should no longer.
    arrivals : Arrivals
        Tells what came of a series before its verdict is told.
    guard : context manager
        See `dicom_node.intake.intake.Intake`; `route` and `hold` are called with it held.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        store: Store,
        worklog: Worklog,
        installed: Mapping[str, PipelineInfo],
        jobs: Jobs,
        arrivals: Arrivals,
        guard: AbstractContextManager[object],
    ) -> None:
        self.installed = installed
        self._rules = list(settings.route) or built_in_rules()
        self._spool = spool
        self._store = store
        self._worklog = worklog
        self._jobs = jobs
        self._arrivals = arrivals
        self._guard = guard

    def route(self, series: SeriesRow, headers: list[ImageHeader], note: str) -> None:
        """Make a job of a series when a rule wants it, ignore it otherwise; ``note``: what the report must say, or ""."""
        series_uid = series.series_uid
        self._arrivals.tell_series(series_uid)
        decision = self._wanted(headers) if note else decide(headers, self._rules)
        if decision.pipeline is None:
            self._ignore(series, decision, len(headers))
            return
        if note:
            self._worklog.write("incomplete", series.id, images=len(headers), reason=note)
        else:
            self._worklog.write(
                "series-whole",
                series.id,
                images=len(headers),
                spacing_mm=assess(headers).spacing_mm,
                waited_s=max(0.0, time.time() - series.last_at),
            )
        self._make_job(series, headers, decision, note)

    def hold(self, series: SeriesRow, headers: Sequence[ImageHeader], reason: str) -> None:
        """Hold a series when a rule wants it, ignore it otherwise."""
        self._arrivals.tell_series(series.series_uid)
        decision = self._wanted(headers)
        if decision.pipeline is None:
            self._ignore(series, decision, len(headers))
            return
        if series.state == SeriesState.HELD and series.reason == reason:
            return
        self._settle(series, SeriesState.HELD, reason)
        self._worklog.write("held", series.id, reason=reason, images=len(headers))

    def keep_prior(self, series: SeriesRow, headers: Sequence[ImageHeader], fault: str, job_id: str) -> None:
        """Keep a series for comparison that was asked for, if it is whole and of the job's pipeline; else ignore it.

        No job is made of it, and nobody need decide on it.
        """
        self._arrivals.tell_series(series.series_uid)
        decision = decide(headers, self._rules)
        job = self._store.job(job_id)
        if fault:
            refusal = f"{NOT_WHOLE}: {fault}"
        elif decision.pipeline is None or (job is not None and decision.pipeline != job.pipeline):
            refusal = f"asked for as a prior of job {job_id[:8]}, and no image for it: {decision.reason}"
        else:
            self._settle(series, SeriesState.PRIOR, f"prior of job {job_id[:8]}: {decision.reason}")
            self._worklog.write("prior-received", series.id, images=len(headers), job=job_id)
            return
        self._ignore(series, replace(decision, reason=refusal), len(headers))

    def analyse_with(self, job: JobRow, given: Mapping[str, Any]) -> str:
        """Analyse the images of a job with settings of a person; return the ID of the new job, which replaces it.

        Raises
        ------
        StateError
            The pipeline is not installed or has no such setting, or a job has these very settings already.
        """
        info = self.installed.get(job.pipeline)
        if info is None:
            raise StateError(f"no pipeline {job.pipeline} installed")
        unknown = sorted(set(given) - set(info.default_settings))
        if unknown:
            raise StateError(f"job {job.id[:8]} is of {job.pipeline}, which takes no {unknown[0]}")
        reason = f"with {', '.join(sorted(given))} {GIVEN}"
        return self._analyse_as(job, {**info.default_settings, **given}, reason)

    def analyse_with_todays(self, job: JobRow) -> str | None:
        """Analyse the images of a job with today's configuration and weights; None where they are the job's own.

        Settings that a person gave are kept.

        Raises
        ------
        StateError
            Another job has them already.
        """
        info = self.installed.get(job.pipeline)
        if info is None:
            return None
        first = self._store.history(job.id)[0].reason
        keeps = first.endswith(GIVEN) or first == FOUND  # whose they were is lost with a database
        settings = dict(job.settings if keeps else info.default_settings)
        if self._identity(job, settings) == job.id:
            return None
        reason = "with other weights" if settings == job.settings else "with the settings of today"
        return self._analyse_as(job, settings, reason)

    def title_of(self, pipeline: str) -> str:
        """Return what readers call a pipeline."""
        info = self.installed.get(pipeline)
        return info.title if info else pipeline

    def _wanted(self, headers: Sequence[ImageHeader]) -> Decision:
        """Judge images that are no volume: those that lie across the others do not hide what most of them are."""
        decision = decide(headers, self._rules)
        main = main_stack(headers) if decision.pipeline is None else []
        if 2 * len(main) > len(headers) > len(main):
            of_main = decide(main, self._rules)
            return of_main if of_main.pipeline is not None else decision
        return decision

    def _settle(self, series: SeriesRow, to: SeriesState, reason: str) -> None:
        """Move a series to its verdict; one that has another verdict already is received anew."""
        if (
            series.state in {SeriesState.ROUTED, SeriesState.IGNORED, SeriesState.PRIOR}
            and series.state != to
        ):
            self._store.move_series(series.series_uid, SeriesState.RECEIVING, "judged again")
        self._store.move_series(series.series_uid, to, reason)

    def _make_job(self, series: SeriesRow, headers: list[ImageHeader], decision: Decision, note: str) -> None:
        pipeline = str(decision.pipeline)
        uids = {header.sop_instance_uid for header in headers}
        info = self.installed.get(pipeline)
        earlier = [job for job in self._store.jobs_of(series.series_uid) if job.pipeline == pipeline]
        settings: dict[str, Any] = {**info.default_settings, **_given_by_person(earlier)} if info else {}
        digest = info.weights_digest if info else ""
        job_id = job_identity(list(uids), pipeline, digest, settings)
        images = [r.path for r in self._store.images(series.series_uid) if r.sop_instance_uid in uids]
        if self._is_delivered_under_former_identity(earlier, images):
            self._settle(series, SeriesState.ROUTED, decision.reason)
            return
        replaces, is_held = self._replace(earlier, job_id)
        state, reason = JobState.QUEUED, ""
        if info is None:
            state, reason = JobState.NO_PIPELINE, f"no pipeline {pipeline} installed"
        elif is_held:
            state, reason = JobState.HELD, "in place of a job held by a person"
        created = self._store.create_job(
            job_id=job_id,
            series_uid=series.series_uid,
            pipeline=pipeline,
            rule=decision.rule or "",
            state=state,
            settings=settings,
            images=images,
            note=note,
            replaces=replaces,
            reason=reason,
            run=last_run(self._spool.results, job_id) + 1,
        )
        if not created and JobState.ABANDONED in {job.state for job in earlier if job.id == job_id}:
            job = self._store.update_job(job_id, note=note, replaces=replaces)
            if is_of_former_identity(self._store, self._spool, job):
                self._tell_former_identity(job, "it is analysed again, and sent under the present one")
            self._jobs.again(job_id, "its images and weights are those to be analysed again")
            if state is JobState.HELD:
                self._jobs.withdraw(job_id, state, reason)
            created = True
        self._settle(series, SeriesState.ROUTED, decision.reason)
        if not created and job_id in {job.id for job in earlier if job.state == JobState.NO_PIPELINE}:
            self._worklog.write("no-pipeline", job_id, series=series.id, pipeline=pipeline)
            return
        if not created:
            self._worklog.write(
                "duplicate", series.id, images=len(headers), reason=f"job {job_id[:8]} has them"
            )
            return
        self._worklog.write("routed", series.id, pipeline=pipeline, job=job_id, reason=decision.reason)
        if info is None:
            self._worklog.write("no-pipeline", job_id, series=series.id, pipeline=pipeline)
            return
        if replaces:
            self._worklog.write(
                "replaced", job_id, series=series.id, replaces=replaces, reason="late images came in"
            )
        if is_held:
            self._worklog.write("held", job_id, reason=reason)
        self._jobs.wake()

    def _is_delivered_under_former_identity(self, earlier: list[JobRow], images: list[str]) -> bool:
        """Tell whether these very images were analysed and delivered before they were corrected, and name the way out."""
        last = earlier[-1] if earlier else None
        if last is None or last.state != JobState.DELIVERED or sorted(last.images) != sorted(images):
            return False
        if not is_of_former_identity(self._store, self._spool, last):
            return False
        self._tell_former_identity(last, f"dicom-node retry {last.id[:8]} sends them under the present one")
        return True

    def _tell_former_identity(self, job: JobRow, reason: str) -> None:
        for destination, objects in delivered_objects(self._store, job.id).items():
            self._worklog.write(
                "former-identity", job.id, destination=destination, objects=objects, reason=reason
            )

    def _replace(self, earlier: list[JobRow], job_id: str) -> tuple[str, bool]:
        """Abandon earlier jobs of the series that have no result yet.

        Returns
        -------
        replaced : str
            The job whose report is replaced, or "".
        is_held : bool
            A person held what was abandoned.
        """
        replaced, is_held = "", False
        for job in earlier:
            if job.id == job_id or job.state == JobState.ABANDONED:
                continue
            if job.state in {JobState.QUEUED, JobState.RUNNING, JobState.HELD, JobState.NO_PIPELINE}:
                # A run at work is left to end, its results in results/ are never looked at: what it reports on
                # is no longer the series.
                self._jobs.withdraw(job.id, JobState.ABANDONED, f"replaced by job {job_id[:8]}")
                is_held = is_held or job.state == JobState.HELD
            else:
                replaced = job.id
        return replaced, is_held

    def _ignore(self, series: SeriesRow, decision: Decision, images: int) -> None:
        if series.state == SeriesState.IGNORED and series.reason == decision.reason:
            return
        self._settle(series, SeriesState.IGNORED, decision.reason)
        self._worklog.write(
            "ignored", series.id, reason=decision.reason, series_number=series.series_number, images=images
        )

    def _identity(self, job: JobRow, settings: Mapping[str, Any]) -> str:
        """Return the ID of the job that analyses the same images with these settings and the installed weights."""
        rows = {row.path: row.sop_instance_uid for row in self._store.images(job.series_uid)}
        digest = self.installed[job.pipeline].weights_digest
        return job_identity([rows[path] for path in job.images], job.pipeline, digest, settings)

    def _analyse_as(self, job: JobRow, settings: dict[str, Any], reason: str) -> str:
        """Make the job that analyses the same images with these settings in place of another one."""
        with self._guard:
            job_id = self._identity(job, settings)
            if self._store.job(job_id) is not None:
                short = job_id[:8]
                raise StateError(
                    f"job {short} has these settings; dicom-node retry {short} analyses it again"
                )
            earlier = [row for row in self._store.jobs_of(job.series_uid) if row.pipeline == job.pipeline]
            replaces, _ = self._replace(earlier, job_id)
            self._store.create_job(
                job_id=job_id,
                series_uid=job.series_uid,
                pipeline=job.pipeline,
                rule=job.rule,
                state=JobState.QUEUED,
                settings=settings,
                images=job.images,
                note=job.note,
                replaces=replaces,
                reason=reason,
                run=last_run(self._spool.results, job_id) + 1,
            )
        series_id = series_identity(job.series_uid)
        self._worklog.write("retry", job_id, series=series_id, reason=reason)
        if replaces:
            self._worklog.write("replaced", job_id, series=series_id, replaces=replaces, reason=reason)
        self._jobs.wake()
        return job_id


def _given_by_person(earlier: Sequence[JobRow]) -> dict[str, Any]:
    """Return what a person gave for a series, from the last of its jobs."""
    if not earlier:
        return {}
    return {name: value for name, value in earlier[-1].settings.items() if name in GIVEN_BY_PERSON and value}
