"""The node's state in SQLite: series, images, jobs, and the history of every change.

The database is an index of the spool: what it loses in a power cut (``synchronous=NORMAL``) or by damage is
made again by :mod:`dicom_node.jobs.rebuild`. Only the node writes it; workers answer with files.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from dicom_node.errors import NotFoundError, StateError
from dicom_node.jobs import lookup
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.database import MADE_AGAIN, CorruptStateError, open_engine, open_session
from dicom_node.jobs.indexing import (
    NewImage,
    correct_images,
    insert_images,
    known_images,
    series_identity,
)
from dicom_node.jobs.job_file import write_record
from dicom_node.jobs.migration import prepare
from dicom_node.jobs.schema import ImageRow, JobRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import (
    JOB_ENDED,
    JOB_TRANSITIONS,
    SERIES_TRANSITIONS,
    JobState,
    SeriesState,
)
from dicom_node.series.headers import ImageHeader

__all__ = ["CorruptStateError", "NewImage", "Pending", "Store", "job_identity", "series_identity"]


def job_identity(
    sop_instance_uids: Sequence[str], pipeline: str, weights_digest: str, settings: Mapping[str, Any]
) -> str:
    """Return the ID, 32 hex digits, of one analysis: same images, pipeline, weights and settings, same ID.

    The order of the images and their bytes do not matter: archives transcode and coerce.
    """
    identity = [sorted(set(sop_instance_uids)), pipeline, weights_digest, settings]
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Pending(NamedTuple):
    """A job that is queued or running: so little of it that thousands can be looked at again and again."""

    id: str
    pipeline: str
    state: str
    run: int
    enqueued_at: float


class Store:
    """The node's database; every method may be called from any thread.

    Parameters
    ----------
    path : Path
        The SQLite file; made when it is not there.
    jobs_folder : Path or None
        Where :meth:`create_job` leaves a record of each job before its row: the database can be rebuilt.
    may_migrate : bool
        Bring a database of an older version up to date; without, it is only looked at.

    Attributes
    ----------
    is_damaged : bool
        The file was found to be damaged while it was used: it must be made again from the spool.

    Raises
    ------
    CorruptStateError
        The file is damaged.
    OutdatedStateError
        It is of an older version and can't be brought up to date: it must be made again from the spool.
    StateError
        The file can't be opened or made, or is of another version.
    """

    def __init__(self, path: Path, jobs_folder: Path | None = None, *, may_migrate: bool = False) -> None:
        self.path = path
        self.is_damaged = False
        self._jobs_folder = jobs_folder
        self._engine = open_engine(path)
        self._reading = self._engine.execution_options(begin="BEGIN")
        try:
            with self.session() as session:
                findings = session.connection().exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
                if findings != "ok":
                    raise CorruptStateError(f"{path}: damaged ({findings}); {MADE_AGAIN}")
                prepare(session.connection(), path, may_migrate=may_migrate)
        except StateError:
            self._engine.dispose()
            raise
        path.chmod(0o600)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def session(self) -> AbstractContextManager[Session]:
        """Open a session that writes: one at a time, committed at the end, rolled back on an error."""
        return self._noting_damage(self._engine)

    def reading(self) -> AbstractContextManager[Session]:
        """Open a session that only reads, beside others."""
        return self._noting_damage(self._reading)

    @contextmanager
    def _noting_damage(self, engine: Engine) -> Iterator[Session]:
        try:
            with open_session(engine, self.path) as session:
                yield session
        except CorruptStateError:
            self.is_damaged = True
            raise

    def add_image(self, header: ImageHeader, path: str, calling_ae: str, at: float) -> bool:
        """Record an image that lies in the spool at ``path``; return False when it is known already."""
        return self.add_images([NewImage(header, path, calling_ae)], at)[0]

    def add_images(self, images: Sequence[NewImage], at: float) -> list[bool]:
        """Record images, all or none; say for each whether it was not known."""
        with self.session() as session:
            return insert_images(session.connection(), images, at)

    def correct_images(self, headers: Sequence[ImageHeader], at: float) -> None:
        """Record the headers of corrected copies, which have taken the places of images that are known."""
        with self.session() as session:
            correct_images(session.connection(), headers, at)

    def known_images(self, sop_instance_uids: Sequence[str]) -> set[str]:
        """Return which of some images are known."""
        with self.reading() as session:
            return known_images(session.connection(), sop_instance_uids)

    def series(self, series_uid: str) -> SeriesRow | None:
        """Return a series, or None."""
        with self.reading() as session:
            return session.get(SeriesRow, series_uid)

    def image(self, sop_instance_uid: str) -> ImageRow | None:
        """Return an image, or None."""
        with self.reading() as session:
            return session.get(ImageRow, sop_instance_uid)

    def images(self, series_uid: str) -> list[ImageRow]:
        """Return the images of a series in the order of their UIDs."""
        query = select(ImageRow).where(ImageRow.series_uid == series_uid).order_by(ImageRow.sop_instance_uid)
        with self.reading() as session:
            return list(session.scalars(query))

    def image_paths(self) -> set[str]:
        """Return the paths of all known images, relative to the data folder."""
        with self.reading() as session:
            return set(session.scalars(select(ImageRow.path)))

    def series_of_study(self, study_uid: str) -> list[SeriesRow]:
        """Return the series of a study, oldest first."""
        query = select(SeriesRow).where(SeriesRow.study_uid == study_uid).order_by(SeriesRow.first_at)
        with self.reading() as session:
            return list(session.scalars(query))

    def studies_with_jobs(self) -> list[str]:
        """Return the studies that have jobs, those with the newest job first."""
        query = (
            select(SeriesRow.study_uid)
            .join(JobRow, JobRow.series_uid == SeriesRow.series_uid)
            .group_by(SeriesRow.study_uid)
            .order_by(func.max(JobRow.created_at).desc())
        )
        with self.reading() as session:
            return list(session.scalars(query))

    def series_in(self, *states: SeriesState) -> list[SeriesRow]:
        """Return the series in these states, oldest first."""
        query = select(SeriesRow).where(SeriesRow.state.in_(states)).order_by(SeriesRow.first_at)
        with self.reading() as session:
            return list(session.scalars(query))

    def move_series(self, series_uid: str, to: SeriesState, reason: str = "") -> None:
        """Move a series to a state; the same state with another reason only changes the reason.

        Raises
        ------
        NotFoundError
            No such series.
        StateError
            The transition is not allowed.
        """
        with self.session() as session:
            series = session.get(SeriesRow, series_uid)
            if series is None:
                raise NotFoundError(f"no series {series_uid}")
            before = SeriesState(series.state)
            if before is to and series.reason == reason:
                return
            if before is not to and to not in SERIES_TRANSITIONS[before]:
                raise StateError(f"series {series.id[:8]} can't go from {before} to {to}")
            series.state, series.reason = to, reason
            _note(session, series_uid, before, to, reason)

    def create_job(
        self,
        *,
        job_id: str,
        series_uid: str,
        pipeline: str,
        rule: str,
        state: JobState,
        settings: dict[str, Any],
        images: list[str],
        note: str = "",
        replaces: str = "",
        reason: str = "",
        run: int = 1,
    ) -> bool:
        """Record a new job, first as a file, then as a row; return False when it is known already."""
        job = JobRow(
            id=job_id,
            series_uid=series_uid,
            pipeline=pipeline,
            rule=rule,
            state=state,
            reason=reason,
            run=run,
            attempts=1,
            settings=settings,
            images=images,
            note=note,
            replaces=replaces,
            created_at=time.time(),
        )
        with self.session() as session:
            if session.get(JobRow, job_id) is not None:
                return False
            if self._jobs_folder is not None:
                write_record(self._jobs_folder, job)
            self.insert_job(session, job)
        return True

    def insert_job(self, session: Session, job: JobRow) -> None:
        """Add a job's row and the first line of its history."""
        session.add(job)
        session.flush()
        _note(session, job.id, "", job.state, job.reason)

    def routed_without_job(self) -> list[SeriesRow]:
        """Return the routed series that have an image in none of their jobs."""
        with self.reading() as session:
            in_jobs = {path for paths in session.scalars(select(JobRow.images)) for path in paths}
            rows = session.execute(
                select(ImageRow.path, SeriesRow)
                .join(SeriesRow, SeriesRow.series_uid == ImageRow.series_uid)
                .where(SeriesRow.state == SeriesState.ROUTED)
            )
            return list({row.series_uid: row for path, row in rows if path not in in_jobs}.values())

    def job(self, job_id: str) -> JobRow | None:
        """Return a job, or None."""
        with self.reading() as session:
            return session.get(JobRow, job_id)

    def jobs_in(self, *states: JobState) -> list[JobRow]:
        """Return the jobs in these states, oldest first."""
        query = select(JobRow).where(JobRow.state.in_(states)).order_by(JobRow.created_at, JobRow.id)
        with self.reading() as session:
            return list(session.scalars(query))

    def pending(self) -> list[Pending]:
        """Return the queued and running jobs, oldest first, with what there is to watch of each."""
        query = (
            select(JobRow.id, JobRow.pipeline, JobRow.state, JobRow.run, JobRow.enqueued_at)
            .where(JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)))
            .order_by(JobRow.created_at, JobRow.id)
        )
        with self.reading() as session:
            return [Pending(*row) for row in session.execute(query)]

    def count_jobs(self, state: JobState) -> int:
        """Return how many jobs are in a state."""
        query = select(func.count()).select_from(JobRow).where(JobRow.state == state)
        with self.reading() as session:
            return session.scalar(query) or 0

    def jobs_of(self, series_uid: str) -> list[JobRow]:
        """Return the jobs of a series, oldest first."""
        query = select(JobRow).where(JobRow.series_uid == series_uid).order_by(JobRow.created_at, JobRow.id)
        with self.reading() as session:
            return list(session.scalars(query))

    def comparisons_with(self, prior_uid: str, *states: JobState) -> list[JobRow]:
        """Return the comparisons in these states whose prior is a series, oldest first."""
        query = (
            select(JobRow)
            .where(JobRow.state.in_(states), JobRow.pipeline == CHANGE)
            .order_by(JobRow.created_at, JobRow.id)
        )
        with self.reading() as session:
            return [job for job in session.scalars(query) if job.settings.get("prior") == prior_uid]

    def move_job(self, job_id: str, to: JobState, reason: str = "", **columns: Any) -> JobRow:
        """Move a job to a state, set other columns with it, and return it as it is now.

        Raises
        ------
        NotFoundError
            No such job.
        StateError
            The transition is not allowed.
        """
        with self.session() as session:
            job = _job(session, job_id)
            before = JobState(job.state)
            if to not in JOB_TRANSITIONS[before]:
                raise StateError(f"job {job_id[:8]} can't go from {before} to {to}")
            job.state, job.reason = to, reason
            job.ended_at = time.time() if to in JOB_ENDED else 0.0
            _set(job, columns)
            _note(session, job_id, before, to, reason)
            if JobState.ABANDONED in {before, to} and self._jobs_folder is not None:
                write_record(self._jobs_folder, job)  # what was replaced must stay so in a database made anew
            return job

    def update_job(self, job_id: str, **columns: Any) -> JobRow:
        """Set columns of a job without a change of state, and return it as it is now."""
        with self.session() as session:
            job = _job(session, job_id)
            _set(job, columns)
            return job

    def history(self, *subjects: str) -> list[TransitionRow]:
        """Return every change of state of these subjects, oldest first."""
        query = (
            select(TransitionRow).where(TransitionRow.subject.in_(subjects)).order_by(TransitionRow.number)
        )
        with self.reading() as session:
            return list(session.scalars(query))

    def find(self, text: str) -> lookup.Match:
        """Return what a person means by ``text``: see :func:`dicom_node.jobs.lookup.find`."""
        with self.reading() as session:
            return lookup.find(session, text)


def _job(session: Session, job_id: str) -> JobRow:
    job = session.get(JobRow, job_id)
    if job is None:
        raise NotFoundError(f"no job {job_id[:8]}")
    return job


def _set(job: JobRow, columns: Mapping[str, Any]) -> None:
    for name, value in columns.items():
        if name not in JobRow.__table__.columns:
            raise StateError(f"a job has no column {name}")
        setattr(job, name, value)


def _note(session: Session, subject: str, before: str, after: str, reason: str) -> None:
    session.add(TransitionRow(subject=subject, at=time.time(), before=before, after=after, reason=reason))
