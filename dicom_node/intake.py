"""From the door to a job: what is received is filed, followed until it is whole, judged by the rules, and made a job."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dicom_node.config import Settings
from dicom_node.errors import NodeError, StateError
from dicom_node.jobs.rebuild import FOUND
from dicom_node.jobs.runs import last_run
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import NewImage, Store, job_identity
from dicom_node.receive.arrivals import Arrivals
from dicom_node.receive.association import Association
from dicom_node.receive.filing import FiledImage, Filer
from dicom_node.receive.refusals import Refusals
from dicom_node.receive.spool import Spool
from dicom_node.routing.match import Decision, decide
from dicom_node.routing.rules import built_in_rules
from dicom_node.series.completeness import assess, main_stack
from dicom_node.series.headers import ImageHeader
from dicom_node.series.tracker import Tracker
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

GIVEN_BY_PERSON = ("points",)
"""Settings that a person gives for one series: they stay with it when late images make another job."""


BEHIND = 5000
"""So many files that are received and not filed are worth a line in the worklog."""
CAUGHT_UP = 500
"""So few of them are worth the line that ends it."""

GIVEN = "given by a person"
"""How the first reason of a job ends whose settings a person gave."""


class Jobs(Protocol):
    """What brings jobs on: the reconciler."""

    def wake(self) -> None:
        """Look at the jobs now."""

    def withdraw(self, job_id: str, to: JobState, reason: str) -> JobRow:
        """Hold or abandon a job that is queued or running."""

    def again(self, job_id: str, reason: str) -> JobRow:
        """Queue a job as a new run."""


class CommitmentEvents(Protocol):
    """What takes requests for storage commitment, and reports on ours."""

    def asked(self, name: str) -> None:
        """Answer the request in a file of that name."""

    def given(self, calling_ae: str, given: int, refused: int) -> None:
        """Write what somebody was told."""

    def reported(
        self, calling_ae: str, transaction_uid: str, committed: Sequence[str], failed: Mapping[str, int]
    ) -> None:
        """Take a report on a request of ours."""


class Intake:
    """Receives the receiver's events, and makes series and jobs of them.

    Parameters
    ----------
    settings, spool, store, worklog
        The node's own.
    installed : mapping of str to PipelineInfo
        What the workers can run, by the name that the rules use.
    jobs : Jobs
        Told of jobs that should run now, and of those that should no longer.
    commitments : CommitmentEvents, optional
        Gets what the receiver tells of storage commitment.

    Attributes
    ----------
    guard : context manager
        Held while an image is filed and while a series is judged: the database's and the tracker's images of
        a series are the same for whoever holds it. It is taken before the tracker's lock, never after it.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        store: Store,
        worklog: Worklog,
        installed: Mapping[str, PipelineInfo],
        jobs: Jobs,
        commitments: CommitmentEvents | None = None,
    ) -> None:
        self.spool = spool
        self.store = store
        self.worklog = worklog
        self.installed = installed
        self.rules = list(settings.route) or built_in_rules()
        self.jobs = jobs
        self.commitments = commitments
        self.guard = threading.RLock()
        self._in_trouble = False
        self._behind = False
        self.arrivals = Arrivals(worklog, self._series)
        self.refusals = Refusals(worklog)
        self.tracker = Tracker(
            quiet_s=settings.series.quiet_s,
            incomplete_after_s=settings.series.incomplete_after_s,
            incomplete=settings.series.incomplete,
            on_whole=self.series_is_whole,
            on_held=self.series_has_gap,
            on_not_volume=self.series_is_no_volume,
        )
        self.filer = Filer(
            spool,
            on_filed=self.images_filed,
            on_rejected=self.file_rejected,
            on_association_filed=self.association_filed,
            guard=self.guard,
        )

    def start(self) -> None:
        """Take up what an earlier process left: series without a verdict, and the inbox."""
        for row in self.store.routed_without_job():
            self.store.move_series(row.series_uid, SeriesState.RECEIVING, "an image is in no job")
        for row in self.store.series_in(SeriesState.RECEIVING, SeriesState.HELD):
            self.tracker.restore(row.series_uid, self._headers(row.series_uid), SeriesState(row.state))
        self.tracker.start()
        self.filer.start()

    def stop(self) -> None:
        """End both threads; what they had not done yet is done by the next start."""
        self.filer.stop()
        self.tracker.stop()

    # What the receiver tells (dicom_node.receive.association.ReceiveEvents)

    def receiver_lost(self, reason: str) -> None:
        """Write into the worklog that a receiver process has ended."""
        self.worklog.write("warning", name="receiver", reason=reason)

    def association_opened(self, association: Association) -> None:
        """Nothing to do before there is an image."""

    def association_refused(self, association: Association, reason: str) -> None:
        """Write the refusal into the worklog."""
        self.refusals.tell("association-refused", association, reason)

    def association_cut(self, association: Association, reason: str) -> None:
        """Write into the worklog that an association was aborted."""
        self.refusals.tell("association-cut", association, reason)

    def image_stored(self, association: Association, path: Path) -> None:
        """Hand the file to the filer."""
        self.filer.put(association, path)

    def image_refused(self, association: Association, status: int, reason: str) -> None:
        """Write the refusal into the worklog."""
        self.worklog.write(
            "image-refused", calling_ae=association.calling_ae, status=f"{status:04X}", reason=reason
        )

    def commitment_asked(self, association: Association, name: str) -> None:
        """Have a request for storage commitment answered."""
        if self.commitments is not None:
            self.commitments.asked(name)

    def commitment_given(self, association: Association, given: int, refused: int) -> None:
        """Write what was committed to."""
        if self.commitments is not None:
            self.commitments.given(association.calling_ae, given, refused)

    def commitment_reported(
        self, association: Association, transaction_uid: str, committed: list[str], failed: dict[str, int]
    ) -> None:
        """Pass on what a destination commits to."""
        if self.commitments is not None:
            self.commitments.reported(association.calling_ae, transaction_uid, committed, failed)

    def association_ended(self, association: Association, images: int, seconds: float) -> None:
        """Let the filer say when all files of the association are filed."""
        self.filer.association_ended(association)

    # What the filer tells, on its thread

    def images_filed(self, batch: Sequence[FiledImage]) -> None:
        """Index images that have reached their places, and let the tracker look at their series."""
        now = time.time()
        new = [filed for filed in batch if filed.outcome == "new"]
        if new:
            with self.guard, self._trouble_told():
                self._index(new, now)
        for filed in batch:
            if filed.outcome != "new":
                key = filed.association.id if filed.association else ""
                self.arrivals.count_known(key, is_conflict=filed.outcome == "conflict")
        self._tell_behind(self.filer.waiting)

    def _tell_behind(self, waiting: int) -> None:
        """Write once that images come in faster than they are filed, and once that they no longer wait."""
        if not self._behind and waiting >= BEHIND:
            self._behind = True
            reason = "they come in faster than they are filed; none is lost, and their results come later"
            self.worklog.write("warning", name=f"{waiting} images wait in the inbox", reason=reason)
        elif self._behind and waiting <= CAUGHT_UP:
            self._behind = False
            self.worklog.write("warning", name="the images that waited in the inbox are filed")

    def _index(self, images: Sequence[FiledImage], now: float) -> None:
        """Make images known to the database, to the worklog's counts and to the tracker."""
        for series_uid in dict.fromkeys(filed.header.series_uid for filed in images):
            if not self.tracker.awaits(series_uid):
                self._wake_series(series_uid)
        rows = [
            NewImage(
                filed.header,
                self.spool.relative(filed.path),
                filed.association.calling_ae if filed.association else "",
            )
            for filed in images
        ]
        added = self.store.add_images(rows, now)
        elsewhere = [
            filed
            for filed, is_new in zip(images, added, strict=True)
            if not is_new and self._is_elsewhere(filed.header)
        ]
        for filed in elsewhere:
            self._put_aside(filed.path)
        for filed in images:
            key = filed.association.id if filed.association else ""
            if filed in elsewhere:
                self.arrivals.count_known(key, is_conflict=True)
                continue
            calling_ae = filed.association.calling_ae if filed.association else ""
            self.arrivals.count_new(key, filed.header.series_uid, calling_ae, now)
            self.tracker.add(filed.header, key or None)

    def _is_elsewhere(self, header: ImageHeader) -> bool:
        """Tell whether an image's UID is known as that of an image of another series."""
        known = self.store.image(header.sop_instance_uid)
        return known is not None and known.series_uid != header.series_uid

    def _put_aside(self, path: Path) -> None:
        """Set an image aside whose UID belongs to another series: the first one stays."""
        # The folder stays, though it may be empty: the filer has yet to synchronise it.
        self.spool.quarantine_file(path, "its SOP Instance UID is there already, in another series")

    def file_rejected(self, association_id: str, reason: str, path: Path) -> None:
        """Write into the worklog that a received file was set aside."""
        named, _, rest = reason.partition(": ")
        self.worklog.write("quarantined", name=path.name, reason=rest if named.endswith(".dcm") else reason)

    def association_filed(self, association: Association) -> None:
        """Write what an association brought, and let the tracker count it as ended."""
        self.arrivals.tell_association(association.id, association.calling_ae)
        self.tracker.association_ended(association.id)

    # What the tracker tells, on its thread

    def series_is_whole(self, series_uid: str, headers: list[ImageHeader], note: str) -> None:
        """Route a whole series, and make a job of it when a rule wants it."""
        with self.guard:
            if self._covers(series_uid, headers):
                self._route(self._series(series_uid), headers, note)

    def series_has_gap(self, series_uid: str, reason: str) -> None:
        """Hold a series with a gap when a rule wants it; what nothing wants is ignored all the same."""
        with self.guard:
            self._hold(self._series(series_uid), self._headers(series_uid), reason)

    def series_is_no_volume(self, series_uid: str, headers: Sequence[ImageHeader], reason: str) -> None:
        """Hold images that are no volume when a rule wants them, ignore them otherwise."""
        with self.guard:
            if self._covers(series_uid, headers):
                self._hold(self._series(series_uid), headers, reason)

    # What a person asks for

    def release(self, series: SeriesRow) -> None:
        """Analyse a held series as it is."""
        self.worklog.write("released", series.id, reason="asked for by a person")
        with self.guard:
            self._wake_series(series.series_uid)
            self.tracker.release(series.series_uid)

    def route_again(self, series: SeriesRow) -> None:
        """Judge an ignored series by the rules as they are now."""
        uid = series.series_uid
        with self.guard:
            self.store.move_series(uid, SeriesState.RECEIVING, "judged again")
            self.tracker.restore(uid, self._headers(uid), SeriesState.RECEIVING)

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
        first = self.store.history(job.id)[0].reason
        keeps = first.endswith(GIVEN) or first == FOUND  # whose they were is lost with a database
        settings = dict(job.settings if keeps else info.default_settings)
        if self._identity(job, settings) == job.id:
            return None
        reason = "with other weights" if settings == job.settings else "with the settings of today"
        return self._analyse_as(job, settings, reason)

    def _identity(self, job: JobRow, settings: Mapping[str, Any]) -> str:
        """Return the ID of the job that analyses the same images with these settings and the installed weights."""
        rows = {row.path: row.sop_instance_uid for row in self.store.images(job.series_uid)}
        digest = self.installed[job.pipeline].weights_digest
        return job_identity([rows[path] for path in job.images], job.pipeline, digest, settings)

    def _analyse_as(self, job: JobRow, settings: dict[str, Any], reason: str) -> str:
        """Make the job that analyses the same images with these settings in place of another one."""
        with self.guard:
            job_id = self._identity(job, settings)
            if self.store.job(job_id) is not None:
                short = job_id[:8]
                raise StateError(
                    f"job {short} has these settings; dicom-node retry {short} analyses it again"
                )
            earlier = [row for row in self.store.jobs_of(job.series_uid) if row.pipeline == job.pipeline]
            replaces, _ = self._replace(earlier, job_id)
            self.store.create_job(
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
                run=last_run(self.spool.results, job_id) + 1,
            )
        series = self._series(job.series_uid)
        self.worklog.write("retry", job_id, series=series.id, reason=reason)
        if replaces:
            self.worklog.write("replaced", job_id, series=series.id, replaces=replaces, reason=reason)
        self.jobs.wake()
        return job_id

    def title_of(self, pipeline: str) -> str:
        """Return what readers call a pipeline."""
        info = self.installed.get(pipeline)
        return info.title if info else pipeline

    # Steps

    @contextmanager
    def _trouble_told(self) -> Iterator[None]:
        """Write once that images can't be indexed (they wait in the inbox), and once that they can again."""
        try:
            yield
        except NodeError as error:
            if not self._in_trouble:
                self._in_trouble = True
                self.worklog.write("warning", name="images wait in the inbox", reason=str(error))
            raise
        if self._in_trouble:
            self._in_trouble = False
            self.worklog.write("warning", name="images are filed again")

    def _covers(self, series_uid: str, headers: Sequence[ImageHeader]) -> bool:
        """Return False for a verdict that a late image has overtaken: another one follows, on all images."""
        judged = {header.sop_instance_uid for header in headers}
        return all(row.sop_instance_uid in judged for row in self.store.images(series_uid))

    def _route(self, series: SeriesRow, headers: list[ImageHeader], note: str) -> None:
        series_uid = series.series_uid
        self.arrivals.tell_series(series_uid)
        decision = self._wanted(headers) if note else decide(headers, self.rules)
        if decision.pipeline is None:
            self._ignore(series, decision, len(headers))
            return
        if note:
            self.worklog.write("incomplete", series.id, images=len(headers), reason=note)
        else:
            self.worklog.write(
                "series-whole",
                series.id,
                images=len(headers),
                spacing_mm=assess(headers).spacing_mm,
                waited_s=max(0.0, time.time() - series.last_at),
            )
        self._make_job(series, headers, decision, note)

    def _wanted(self, headers: Sequence[ImageHeader]) -> Decision:
        """Judge images that are no volume: those that lie across the others do not hide what most of them are."""
        decision = decide(headers, self.rules)
        main = main_stack(headers) if decision.pipeline is None else []
        if 2 * len(main) > len(headers) > len(main):
            of_main = decide(main, self.rules)
            return of_main if of_main.pipeline is not None else decision
        return decision

    def _hold(self, series: SeriesRow, headers: Sequence[ImageHeader], reason: str) -> None:
        """Hold a series when a rule wants it, ignore it otherwise."""
        self.arrivals.tell_series(series.series_uid)
        decision = self._wanted(headers)
        if decision.pipeline is None:
            self._ignore(series, decision, len(headers))
            return
        if series.state == SeriesState.HELD and series.reason == reason:
            return
        self._settle(series, SeriesState.HELD, reason)
        self.worklog.write("held", series.id, reason=reason, images=len(headers))

    def _settle(self, series: SeriesRow, to: SeriesState, reason: str) -> None:
        """Move a series to its verdict; one that has another verdict already is received anew."""
        if series.state in {SeriesState.ROUTED, SeriesState.IGNORED} and series.state != to:
            self.store.move_series(series.series_uid, SeriesState.RECEIVING, "judged again")
        self.store.move_series(series.series_uid, to, reason)

    def _make_job(self, series: SeriesRow, headers: list[ImageHeader], decision: Decision, note: str) -> None:
        pipeline = str(decision.pipeline)
        info = self.installed.get(pipeline)
        earlier = [job for job in self.store.jobs_of(series.series_uid) if job.pipeline == pipeline]
        settings: dict[str, Any] = {**info.default_settings, **_given_by_person(earlier)} if info else {}
        digest = info.weights_digest if info else ""
        job_id = job_identity([h.sop_instance_uid for h in headers], pipeline, digest, settings)
        replaces, is_held = self._replace(earlier, job_id)
        state, reason = JobState.QUEUED, ""
        if info is None:
            state, reason = JobState.NO_PIPELINE, f"no pipeline {pipeline} installed"
        elif is_held:
            state, reason = JobState.HELD, "in place of a job held by a person"
        images = {header.sop_instance_uid for header in headers}
        created = self.store.create_job(
            job_id=job_id,
            series_uid=series.series_uid,
            pipeline=pipeline,
            rule=decision.rule or "",
            state=state,
            settings=settings,
            images=[r.path for r in self.store.images(series.series_uid) if r.sop_instance_uid in images],
            note=note,
            replaces=replaces,
            reason=reason,
            run=last_run(self.spool.results, job_id) + 1,
        )
        if not created and JobState.ABANDONED in {job.state for job in earlier if job.id == job_id}:
            self.store.update_job(job_id, note=note, replaces=replaces)
            self.jobs.again(job_id, "its images and weights are those to be analysed again")
            if state is JobState.HELD:
                self.jobs.withdraw(job_id, state, reason)
            created = True
        self._settle(series, SeriesState.ROUTED, decision.reason)
        if not created and job_id in {job.id for job in earlier if job.state == JobState.NO_PIPELINE}:
            self.worklog.write("no-pipeline", job_id, series=series.id, pipeline=pipeline)
            return
        if not created:
            self.worklog.write(
                "duplicate", series.id, images=len(headers), reason=f"job {job_id[:8]} has them"
            )
            return
        self.worklog.write("routed", series.id, pipeline=pipeline, job=job_id, reason=decision.reason)
        if info is None:
            self.worklog.write("no-pipeline", job_id, series=series.id, pipeline=pipeline)
            return
        if replaces:
            self.worklog.write(
                "replaced", job_id, series=series.id, replaces=replaces, reason="late images came in"
            )
        if is_held:
            self.worklog.write("held", job_id, reason=reason)
        self.jobs.wake()

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
                self.jobs.withdraw(job.id, JobState.ABANDONED, f"replaced by job {job_id[:8]}")
                is_held = is_held or job.state == JobState.HELD
            else:
                replaced = job.id
        return replaced, is_held

    def _ignore(self, series: SeriesRow, decision: Decision, images: int) -> None:
        if series.state == SeriesState.IGNORED and series.reason == decision.reason:
            return
        self._settle(series, SeriesState.IGNORED, decision.reason)
        self.worklog.write(
            "ignored", series.id, reason=decision.reason, series_number=series.series_number, images=images
        )

    def _wake_series(self, series_uid: str) -> None:
        """Let the tracker know a series of the database again, before a late image joins it."""
        series = self.store.series(series_uid)
        if series is None:
            return
        if series.state not in {SeriesState.RECEIVING, SeriesState.HELD}:
            self.store.move_series(series_uid, SeriesState.RECEIVING, "a late image came in")
        self.tracker.restore(series_uid, self._headers(series_uid), SeriesState(series.state))

    def _headers(self, series_uid: str) -> list[ImageHeader]:
        return [ImageHeader.from_json(row.header) for row in self.store.images(series_uid)]

    def _series(self, series_uid: str) -> SeriesRow:
        series = self.store.series(series_uid)
        assert series is not None, "the tracker only knows series of the store"
        return series


def _given_by_person(earlier: Sequence[JobRow]) -> dict[str, Any]:
    """Return what a person gave for a series, from the last of its jobs."""
    if not earlier:
        return {}
    return {name: value for name, value in earlier[-1].settings.items() if name in GIVEN_BY_PERSON and value}
