"""Intake, from the receiver's events to jobs: files are filed, series followed until they are whole, judged, and made jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.intake.arrivals import Arrivals
from dicom_node.intake.corrections import CORRECTED, Corrections
from dicom_node.intake.filing import FiledImage, Filer
from dicom_node.intake.judge import Jobs, Judge
from dicom_node.intake.parser import Parser, Reader, headers_of
from dicom_node.intake.refusals import Refusals
from dicom_node.intake.tracker import Tracker
from dicom_node.jobs.schema import ImageRow, SeriesRow
from dicom_node.jobs.states import SeriesState
from dicom_node.jobs.store import NewImage, Store
from dicom_node.receive.association import Association
from dicom_node.series.headers import ImageHeader
from dicom_node.spool.prior_requests import PriorRequests
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog
from pipelines.types import PipelineInfo

BEHIND = 5000
"""So many files that are received and not filed are worth a line in the worklog."""
CAUGHT_UP = 500
"""So few of them are worth the line that ends it."""


class CommitmentEvents(Protocol):
    """Taker of requests for storage commitment, and of reports on ours."""

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
    reader : Reader, optional
        Reads headers and compares copies; by default parser processes of its own. It is stopped with the intake.
    on_prior : callable, optional
        Told of the verdict on a series that this node asked for as a prior, and of its Series Instance UID.

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
        reader: Reader | None = None,
        on_prior: Callable[[str], None] = lambda series_uid: None,
    ) -> None:
        self.spool = spool
        self.store = store
        self.worklog = worklog
        self.commitments = commitments
        self.guard = threading.RLock()
        self.prior_requests = PriorRequests(spool)
        self._on_prior = on_prior
        self._in_trouble = False
        self._behind = False
        self.arrivals = Arrivals(worklog, self._series)
        self.refusals = Refusals(worklog)
        self.judge = Judge(settings, spool, store, worklog, installed, jobs, self.arrivals, self.guard)
        self.corrections = Corrections(store, jobs, self._header_of, self._reopen)
        self.tracker = Tracker(
            quiet_s=settings.series.quiet_s,
            incomplete_after_s=settings.series.incomplete_after_s,
            incomplete=settings.series.incomplete,
            on_whole=self.series_is_whole,
            on_held=self.series_has_gap,
            on_not_volume=self.series_is_no_volume,
        )
        self.reader = reader or Parser(spool)
        self.filer = Filer(
            spool,
            on_filed=self.images_filed,
            on_rejected=self.file_rejected,
            on_association_filed=self.association_filed,
            reader=self.reader,
            guard=self.guard,
            is_correction=self.corrections.is_one,
        )

    def start(self) -> None:
        """Take up what an earlier process left: series without a verdict, and the inbox."""
        self.reader.warm_up()
        for row in self.store.routed_without_job():
            self.store.move_series(row.series_uid, SeriesState.RECEIVING, "an image is in no job")
        for row in self.store.series_in(SeriesState.RECEIVING, SeriesState.HELD):
            is_held = row.state == SeriesState.HELD
            self.tracker.restore(row.series_uid, self._headers(row.series_uid), is_held=is_held)
        self.tracker.start()
        self.filer.start()

    def stop(self) -> None:
        """End both threads; what they had not done yet is done by the next start."""
        self.filer.stop()
        self.tracker.stop()

    # What the receiver tells (dicom_node.receive.events.ReceiveEvents)

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
        placed = [filed for filed in batch if filed.outcome in ("new", "corrected")]
        if placed:
            with self.guard, self._trouble_told():
                corrected = self._correct(placed, now)
                if new := [filed for filed in placed if filed not in corrected]:
                    self._index(new, now)
        for filed in batch:
            if filed not in placed:
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
        headers = [filed.header for filed in images]
        known = self.store.known_images([header.sop_instance_uid for header in headers])
        grown = {header.series_uid for header in headers if header.sop_instance_uid not in known}
        for series_uid in dict.fromkeys(header.series_uid for header in headers):
            if not self.tracker.awaits(series_uid):
                self._wake_series(series_uid, grows=series_uid in grown)
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
        for filed, is_new in zip(images, added, strict=True):
            key = filed.association.id if filed.association else ""
            if filed in elsewhere:
                self.arrivals.count_known(key, is_conflict=True)
                continue
            calling_ae = filed.association.calling_ae if filed.association else ""
            self.arrivals.count_new(key, filed.header.series_uid, calling_ae, now)
            self.tracker.add(filed.header, key or None, is_new=is_new)

    def _correct(self, images: Sequence[FiledImage], now: float) -> list[FiledImage]:
        """Let those of some images that are corrected copies count from now on, and return them.

        A crash between a copy's place and its being told of makes it come again as "new".
        """
        known = self.store.known_images([filed.header.sop_instance_uid for filed in images])
        found = [
            filed
            for filed in images
            if filed.header.sop_instance_uid in known
            and (filed.outcome == "corrected" or self.corrections.is_one(filed.header))
        ]
        if found:
            self.corrections.take([filed.header for filed in found], now)
        for filed in found:
            key = filed.association.id if filed.association else ""
            self.arrivals.count_corrected(key, filed.header.series_uid)
            self.tracker.correct(filed.header, key or None)
        return found

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
            if not self._covers(series_uid, headers) or self._is_prior(series_uid, headers, note):
                return
            self.judge.route(self._series(series_uid), headers, note)

    def series_has_gap(self, series_uid: str, reason: str) -> None:
        """Hold a series with a gap when a rule wants it; what nothing wants is ignored all the same."""
        with self.guard:
            headers = self._headers(series_uid)
            if not self._is_prior(series_uid, headers, reason):
                self.judge.hold(self._series(series_uid), headers, reason)

    def series_is_no_volume(self, series_uid: str, headers: Sequence[ImageHeader], reason: str) -> None:
        """Hold images that are no volume when a rule wants them, ignore them otherwise."""
        with self.guard:
            if not self._covers(series_uid, headers) or self._is_prior(series_uid, headers, reason):
                return
            self.judge.hold(self._series(series_uid), headers, reason)

    def _is_prior(self, series_uid: str, headers: Sequence[ImageHeader], fault: str) -> bool:
        """Tell whether a series came because this node asked for it; if so, it gets a verdict as a prior."""
        request = self.prior_requests.that_brought(series_uid)
        if request is None:
            return False
        self.judge.keep_prior(self._series(series_uid), headers, fault, request.job_id)
        self._on_prior(series_uid)
        return True

    # What a person asks for

    def release(self, series: SeriesRow) -> None:
        """Analyse a held series as it is."""
        with self.guard:
            self._wake_series(series.series_uid, grows=True)
            self.tracker.release(series.series_uid)
            self.worklog.write("released", series.id, reason="asked for by a person")

    def route_again(self, series: SeriesRow) -> None:
        """Judge an ignored series, or one that was kept as a prior, by the rules as they are now."""
        uid = series.series_uid
        with self.guard:
            self.prior_requests.withdraw(uid)
            self.store.move_series(uid, SeriesState.RECEIVING, "judged again")
            self.tracker.restore(uid, self._headers(uid))

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

    def _reopen(self, series_uid: str) -> None:
        """Have a series judged again whose images are corrected."""
        if not self.tracker.awaits(series_uid):
            self._wake_series(series_uid, grows=True, reason=CORRECTED)

    def _wake_series(self, series_uid: str, *, grows: bool, reason: str = "a late image came in") -> None:
        """Let the tracker know a series of the database again, before a late image joins it.

        One that does not grow, since a crash left its images in the inbox though they are known, keeps its verdict.
        """
        series = self.store.series(series_uid)
        if series is None or (not grows and series.state != SeriesState.RECEIVING):
            return
        is_held = series.state == SeriesState.HELD
        if series.state not in {SeriesState.RECEIVING, SeriesState.HELD}:
            self.store.move_series(series_uid, SeriesState.RECEIVING, reason)
        self.tracker.restore(series_uid, self._headers(series_uid), is_held=is_held)

    def _headers(self, series_uid: str) -> list[ImageHeader]:
        return self._headers_of(self.store.images(series_uid))

    def _header_of(self, row: ImageRow) -> ImageHeader:
        return self._headers_of([row])[0]

    def _headers_of(self, rows: Sequence[ImageRow]) -> list[ImageHeader]:
        """Return the headers that the database has; of images that were filed before identities were kept, read again."""
        headers = [ImageHeader.from_json(row.header) for row in rows]
        places = {
            self.spool.absolute(row.path): number
            for number, row in enumerate(rows)
            if headers[number].identity is None
        }
        # the worker says what is wrong with a file that can't be read
        with suppress(NodeError, OSError):
            for path, found in headers_of(self.reader, list(places)):
                if isinstance(found, ImageHeader):
                    headers[places[path]] = found
        return headers

    def _series(self, series_uid: str) -> SeriesRow:
        series = self.store.series(series_uid)
        assert series is not None, "the tracker only knows series of the store"
        return series
