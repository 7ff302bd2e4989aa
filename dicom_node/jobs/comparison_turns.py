"""Turns of the comparisons of one patient, given in the database: each numbers lesions, and the next one must know the numbers.

The time at which the broker was told of a job is also the sign that it has its turn. It is looked for and set in one
transaction that holds SQLite's only write lock from its beginning, so that of two processes or threads one comes first. A turn
lasts until the job has its result, over all of its runs: one that seemed lost may still publish.
"""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.schema import ImageRow, JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store


def take_turn(store: Store, job_id: str) -> str:
    """Give a comparison its turn; return "", or the ID of the comparison of the same patient that it has to wait for."""
    with store.session() as session:
        job = session.get(JobRow, job_id)
        patient = _patient(session, job) if job is not None else ""
        if job is None or not patient:
            return ""
        query = select(JobRow).where(
            JobRow.pipeline == CHANGE,
            JobRow.state.in_((JobState.QUEUED, JobState.RUNNING)),
            JobRow.id != job_id,
        )
        for other in session.scalars(query):
            # Both have a turn when a person held and released one of them between its runs: the older one goes on.
            goes_before = _has_turn(other) and (not _has_turn(job) or _age(other) < _age(job))
            if goes_before and _patient(session, other) == patient:
                return other.id
        if not job.enqueued_at:
            job.enqueued_at = time.time()
        return ""


def _has_turn(job: JobRow) -> bool:
    return job.state == JobState.RUNNING or bool(job.enqueued_at) or job.attempts > 1


def _age(job: JobRow) -> tuple[float, str]:
    return job.created_at, job.id


def _patient(session: Session, job: JobRow) -> str:
    """Return the digest of a job's patient, by an image of its series; "" where it names none."""
    query = select(ImageRow.header).where(ImageRow.series_uid == job.series_uid).limit(1)
    header = session.scalar(query) or {}
    return str((header.get("identity") or {}).get("patient_id") or "")
