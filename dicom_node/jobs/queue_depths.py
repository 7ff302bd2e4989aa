"""Depth of each pipeline's queue, and since when its oldest job waits, as the database has it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.since import job_since
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.jobs.summary_job import SUMMARY


@dataclass(frozen=True)
class QueueDepth:
    """Jobs of one pipeline that wait or run, and when the oldest of those that wait began to (0 without any)."""

    queue: str
    queued: int
    running: int
    oldest_at: float


def queue_depths(store: Store) -> list[QueueDepth]:
    """Return the queues that have jobs, by name; pages of studies wait for no worker."""
    waiting = (
        select(JobRow.pipeline, func.count(), func.min(job_since()))
        .where(JobRow.state == JobState.QUEUED, JobRow.pipeline != SUMMARY)
        .group_by(JobRow.pipeline)
    )
    at_work = (
        select(JobRow.pipeline, func.count())
        .where(JobRow.state == JobState.RUNNING, JobRow.pipeline != SUMMARY)
        .group_by(JobRow.pipeline)
    )
    with store.reading() as session:
        queued = {name: (count, oldest_at) for name, count, oldest_at in session.execute(waiting)}
        running = {name: count for name, count in session.execute(at_work)}  # noqa: C416 - rows, not pairs
    depths = []
    for name in sorted(queued.keys() | running.keys()):
        count, oldest_at = queued.get(name, (0, 0.0))
        depths.append(QueueDepth(name, count, running.get(name, 0), oldest_at))
    return depths
