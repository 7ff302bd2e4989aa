"""From the door to a job: what is received is filed, followed until it is whole, judged by the rules, and made a job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.config import Settings
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store, job_identity
from dicom_node.receive.association import Association
from dicom_node.receive.filing import FiledImage, Filer
from dicom_node.receive.spool import Spool
from dicom_node.routing.match import Decision, decide
from dicom_node.routing.rules import built_in_rules
from dicom_node.series.completeness import assess
from dicom_node.series.headers import ImageHeader
from dicom_node.series.tracker import Tracker
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo


@dataclass
class Tally:
    """Images of one series that no line of the worklog has told of yet."""

    images: int = 0
    calling_ae: str = ""
    first_at: float = 0.0
    last_at: float = 0.0

    def count(self, calling_ae: str, at: float) -> None:
        """Count one more image."""
        self.first_at = self.first_at or at
        self.last_at = at
        self.images += 1
        self.calling_ae = calling_ae or self.calling_ae


class Intake:
    """Receives the receiver's events, and makes series and jobs of them.

    Parameters
    ----------
    settings, spool, store, worklog
        The node's own.
    installed : mapping of str to PipelineInfo
        What the workers can run, by the name that the rules use.
    on_job : callable
        Told after a job was made that should run now.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        store: Store,
        worklog: Worklog,
        installed: Mapping[str, PipelineInfo],
        on_job: Callable[[], None],
    ) -> None:
        self.spool = spool
        self.store = store
        self.worklog = worklog
        self.installed = installed
        self.rules = list(settings.route) or built_in_rules()
        self.on_job = on_job
        self._lock = threading.Lock()
        self._received: dict[str, Tally] = {}
        self._known: dict[str, tuple[int, int]] = {}  # association: duplicates, conflicts
        self._touched: dict[str, set[str]] = {}  # association: series
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
            on_filed=self.image_filed,
            on_rejected=self.file_rejected,
            on_association_filed=self.association_filed,
        )

    def start(self) -> None:
        """Take up what an earlier process left: series without a verdict, and the inbox."""
        for row in self.store.series_in(SeriesState.RECEIVING, SeriesState.HELD):
            self.tracker.restore(row.series_uid, self._headers(row.series_uid), SeriesState(row.state))
        self.tracker.start()
        self.filer.start()

    def stop(self) -> None:
        """End both threads; what they had not done yet is done by the next start."""
        self.filer.stop()
        self.tracker.stop()

    # What the receiver tells (dicom_node.receive.association.ReceiveEvents)

    def association_opened(self, association: Association) -> None:
        """Nothing to do before there is an image."""

    def association_refused(self, association: Association, reason: str) -> None:
        """Write the refusal into the worklog."""
        self.worklog.write(
            "association-refused",
            calling_ae=association.calling_ae,
            address=association.address,
            reason=reason,
        )

    def image_stored(self, association: Association, path: Path) -> None:
        """Hand the file to the filer."""
        self.filer.put(association, path)

    def image_refused(self, association: Association, status: int, reason: str) -> None:
        """Write the refusal into the worklog."""
        self.worklog.write(
            "image-refused", calling_ae=association.calling_ae, status=f"{status:04X}", reason=reason
        )

    def association_ended(self, association: Association, images: int, seconds: float) -> None:
        """Let the filer say when all files of the association are filed."""
        self.filer.association_ended(association)

    # What the filer tells, on its thread

    def image_filed(self, filed: FiledImage) -> None:
        """Index an image that has reached its place, and let the tracker look at its series."""
        association = filed.association
        key = association.id if association else ""
        if filed.outcome != "new":
            with self._lock:
                duplicates, conflicts = self._known.get(key, (0, 0))
                conflict = filed.outcome == "conflict"
                self._known[key] = (duplicates + (not conflict), conflicts + conflict)
            if association is None:
                self._tell_known(key, "")
            return
        header, now = filed.header, time.time()
        calling_ae = association.calling_ae if association else ""
        self._wake_series(header.series_uid)
        self.store.add_image(header, self.spool.relative(filed.path), calling_ae, now)
        with self._lock:
            self._received.setdefault(header.series_uid, Tally()).count(calling_ae, now)
            self._touched.setdefault(key, set()).add(header.series_uid)
        self.tracker.add(header, association.id if association else None)

    def file_rejected(self, association_id: str, reason: str, path: Path) -> None:
        """Write into the worklog that a received file was set aside."""
        named, _, rest = reason.partition(": ")
        self.worklog.write("quarantined", name=path.name, reason=rest if named.endswith(".dcm") else reason)

    def association_filed(self, association: Association) -> None:
        """Write what an association brought, and let the tracker count it as ended."""
        with self._lock:
            touched = self._touched.pop(association.id, set())
        for series_uid in touched:
            with self._lock:
                several = self._received.get(series_uid, Tally()).images > 1
            if several:  # callers that open an association for each image get one line at the end
                self._tell_received(series_uid)
        self._tell_known(association.id, association.calling_ae)
        self.tracker.association_ended(association.id)

    # What the tracker tells, on its thread

    def series_is_whole(self, series_uid: str, headers: list[ImageHeader], note: str) -> None:
        """Route a whole series, and make a job of it when a rule wants it."""
        series = self._series(series_uid)
        self._tell_received(series_uid)
        decision = decide(headers, self.rules)
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

    def series_has_gap(self, series_uid: str, reason: str) -> None:
        """Hold a series with a gap when a rule wants it; what nothing wants is ignored all the same."""
        self.series_is_no_volume(series_uid, self._headers(series_uid), reason)

    def series_is_no_volume(self, series_uid: str, headers: Sequence[ImageHeader], reason: str) -> None:
        """Hold images that are no volume when a rule wants them, ignore them otherwise."""
        series = self._series(series_uid)
        self._tell_received(series_uid)
        decision = decide(headers, self.rules)
        if decision.pipeline is None:
            self._ignore(series, decision, len(headers))
            return
        if series.state == SeriesState.HELD and series.reason == reason:
            return
        self.store.move_series(series_uid, SeriesState.HELD, reason)
        self.worklog.write("held", series.id, reason=reason, images=len(headers))

    # What a person asks for

    def release(self, series: SeriesRow) -> None:
        """Analyse a held series as it is."""
        self.worklog.write("released", series.id, reason="asked for by a person")
        self._wake_series(series.series_uid)
        self.tracker.release(series.series_uid)

    def route_again(self, series: SeriesRow) -> None:
        """Judge an ignored series by the rules as they are now."""
        self.store.move_series(series.series_uid, SeriesState.RECEIVING, "judged again")
        self.tracker.restore(series.series_uid, self._headers(series.series_uid), SeriesState.RECEIVING)

    def title_of(self, pipeline: str) -> str:
        """Return what readers call a pipeline."""
        info = self.installed.get(pipeline)
        return info.title if info else pipeline

    # Steps

    def _make_job(self, series: SeriesRow, headers: list[ImageHeader], decision: Decision, note: str) -> None:
        pipeline = str(decision.pipeline)
        info = self.installed.get(pipeline)
        settings: dict[str, Any] = dict(info.default_settings) if info else {}
        digest = info.weights_digest if info else ""
        job_id = job_identity([h.sop_instance_uid for h in headers], pipeline, digest, settings)
        earlier = [job for job in self.store.jobs_of(series.series_uid) if job.pipeline == pipeline]
        replaces = self._replace(earlier, job_id)
        created = self.store.create_job(
            job_id=job_id,
            series_uid=series.series_uid,
            pipeline=pipeline,
            rule=decision.rule or "",
            state=JobState.QUEUED if info else JobState.NO_PIPELINE,
            settings=settings,
            images=[row.path for row in self.store.images(series.series_uid)],
            note=note,
            replaces=replaces,
            reason="" if info else f"no pipeline {pipeline} installed",
        )
        self.store.move_series(series.series_uid, SeriesState.ROUTED, decision.reason)
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
        self.on_job()

    def _replace(self, earlier: list[JobRow], job_id: str) -> str:
        """Abandon earlier jobs of the series that have not run; return the one whose report is replaced, or ""."""
        replaced = ""
        for job in earlier:
            if job.id == job_id:
                continue
            if job.state in {JobState.QUEUED, JobState.HELD, JobState.NO_PIPELINE}:
                self.store.move_job(job.id, JobState.ABANDONED, f"replaced by job {job_id[:8]}")
            elif job.state != JobState.ABANDONED:
                replaced = job.id
        return replaced

    def _ignore(self, series: SeriesRow, decision: Decision, images: int) -> None:
        if series.state == SeriesState.IGNORED and series.reason == decision.reason:
            return
        self.store.move_series(series.series_uid, SeriesState.IGNORED, decision.reason)
        self.worklog.write(
            "ignored", series.id, reason=decision.reason, series_number=series.series_number, images=images
        )

    def _wake_series(self, series_uid: str) -> None:
        """Let the tracker know a series again that has had its verdict, before a late image joins it."""
        series = self.store.series(series_uid)
        if series is None or series.state == SeriesState.RECEIVING:
            return
        if series.state != SeriesState.HELD:
            self.store.move_series(series_uid, SeriesState.RECEIVING, "a late image came in")
        self.tracker.restore(series_uid, self._headers(series_uid), SeriesState(series.state))

    def _tell_received(self, series_uid: str) -> None:
        with self._lock:
            tally = self._received.pop(series_uid, None)
        if tally is None:
            return
        series = self._series(series_uid)
        self.worklog.write(
            "received",
            series.id,
            images=tally.images,
            calling_ae=tally.calling_ae or None,
            series_number=series.series_number,
            seconds=max(0.0, tally.last_at - tally.first_at),
        )

    def _tell_known(self, key: str, calling_ae: str) -> None:
        with self._lock:
            duplicates, conflicts = self._known.pop(key, (0, 0))
        if duplicates:
            self.worklog.write("duplicate", images=duplicates, calling_ae=calling_ae or None)
        if conflicts:
            self.worklog.write("conflict", images=conflicts)

    def _headers(self, series_uid: str) -> list[ImageHeader]:
        return [ImageHeader.from_json(row.header) for row in self.store.images(series_uid)]

    def _series(self, series_uid: str) -> SeriesRow:
        series = self.store.series(series_uid)
        assert series is not None, "the tracker only knows series of the store"
        return series
