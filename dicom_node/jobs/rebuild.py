"""The database from the spool: what is missing in it after a power cut, or all of it after damage.

Read are ``series/`` (images), ``jobs/`` (records) and ``results/`` (runs and manifests). Series without a job are
assessed again. What a person released has a job; what was held only the database knows: it is taken
over from one that is too old, and lost with one that is damaged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from dicom_node.errors import ResultError, StateError, UnreadableError
from dicom_node.jobs.job_file import read_record
from dicom_node.jobs.migration import Holds, OutdatedStateError, holds_of
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import CorruptStateError, Store
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import ImageHeader
from dicom_node.spool.run_folder import finished_path, last_run, run_name
from dicom_node.spool.spool import Spool

log = logging.getLogger(__name__)

FOUND = "found in the spool"
"""First reason of a job that was added to the database from the spool."""


@dataclass(frozen=True)
class Recovered:
    """Count of what the spool held and the database did not know, and the file of an older version that it replaces."""

    images: int = 0
    jobs: int = 0
    replaced: Path | None = None
    held: int = 0


ReadHeaders = Callable[[Sequence[Path]], Iterable[tuple[Path, ImageHeader | UnreadableError]]]
"""Reads the headers of files, in parser processes, or tells why they can't be read."""


def rebuild(path: Path, spool_root: Path, read_headers: ReadHeaders) -> Recovered:
    """Add to the database what the spool holds beyond it; make it anew when it is missing, damaged, or too old.

    Series without a job are receiving, and to be assessed. Jobs with results are delivering, and to be
    handed to the outbox, which knows from its receipts what was sent. A damaged file is kept as
    ``<name>.damaged-<time>``, one of an older version as ``<name>.outdated-<time>``; what was held in that stays so.
    """
    spool = Spool(spool_root)
    replaced, held = None, Holds({}, {})
    try:
        store = Store(path, spool.jobs, may_migrate=True)
    except CorruptStateError:
        _put_aside(path, "damaged")
        store = Store(path, spool.jobs)
    except OutdatedStateError as error:
        log.warning("%s; it is made again", error)
        held = holds_of(path)
        replaced = _put_aside(path, "outdated")
        store = Store(path, spool.jobs)
    try:
        images, jobs = _index_images(store, spool, read_headers), _index_jobs(store, spool)
        _hold(store, held)
        return Recovered(images, jobs, replaced, len(held))
    finally:
        store.close()


def _hold(store: Store, held: Holds) -> None:
    for series_uid, reason in held.series.items():
        series = store.series(series_uid)
        if series is not None and series.state == SeriesState.RECEIVING:
            store.move_series(series_uid, SeriesState.HELD, reason)
    for job_id, reason in held.jobs.items():
        job = store.job(job_id)
        if job is not None and job.state == JobState.QUEUED:
            store.move_job(job_id, JobState.HELD, reason)


def _put_aside(path: Path, why: str) -> Path:
    aside = path.with_name(f"{path.name}.{why}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _index_images(store: Store, spool: Spool, read_headers: ReadHeaders) -> int:
    known = store.image_paths()
    images = 0
    # asking for the age of each file of a large spool would hold up every start
    unknown = _by_age(path for path in spool.series.glob("*/*.dcm") if spool.relative(path) not in known)
    for path, header in read_headers(unknown):
        relative = spool.relative(path)
        if isinstance(header, UnreadableError):
            log.warning("%s: not indexed: %s", relative, header)
            continue
        added = store.add_image(header, relative, "", path.stat().st_mtime)
        images += added
        series = store.series(header.series_uid)
        if added and series is not None and series.state in {SeriesState.IGNORED, SeriesState.PRIOR}:
            store.move_series(header.series_uid, SeriesState.RECEIVING, "an image was found in the spool")
    return images


def _index_jobs(store: Store, spool: Spool) -> int:
    records = []
    for path in _by_age(spool.jobs.glob("*.json")):
        try:
            records.append(read_record(path))
        except StateError as error:
            log.warning("%s", error)
    with store.reading() as session:
        known = set(session.scalars(select(JobRow.id)))
    replaced = {record.replaces for record in records}
    count = 0
    for job in records:
        if job.id in known:
            continue
        with store.session() as session:
            series = session.get(SeriesRow, job.series_uid)
            if series is None:
                log.warning("job %s: its series is not in the spool", job.id[:8])
                continue
            # What was abandoned was replaced by another job, or its images were corrected and it is to be made again.
            if series.state == SeriesState.RECEIVING and job.state != JobState.ABANDONED:
                series.state = SeriesState.ROUTED
            _place(job, spool.results, is_replaced=job.id in replaced)
            store.insert_job(session, job)
            count += 1
    return count


def _place(job: JobRow, results: Path, *, is_replaced: bool) -> None:
    """Set a job's state and run by what its folders say; one that was replaced stays so, whatever came of it."""
    job.reason = FOUND
    if job.state == JobState.ABANDONED:
        job.run = max(1, last_run(results, job.id))
        return
    folder = finished_path(results, job.id)
    if folder is not None:
        job.state, job.run = JobState.DELIVERING, max(1, last_run(results, job.id))
        try:
            manifest = Manifest.read(folder)
        except ResultError as error:
            log.warning("job %s: %s", job.id[:8], error)
            return
        job.run, job.outcome = max(job.run, manifest.run), manifest.status
    elif job.state == JobState.QUEUED:
        job.state = JobState.ABANDONED if is_replaced else JobState.QUEUED
        last = last_run(results, job.id)
        begun = (results / run_name(job.id, last)).is_dir()
        job.run = last if begun else last + 1  # a run set aside is over, and its UIDs are used


def _by_age(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))
