"""Collection of the overview, mostly by SQL that looks at indices: it is made every few seconds."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_, select
from sqlalchemy.orm import Session

from dicom_node import __version__
from dicom_node.config.settings import Settings
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.known_workers import Workers
from dicom_node.jobs.queue_depths import QueueDepth, queue_depths
from dicom_node.jobs.schema import ImageRow, JobRow, SeriesRow, TransitionRow
from dicom_node.jobs.since import job_since
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.overview.backlog import destination_states
from dicom_node.overview.overview import (
    Disk,
    ListedJob,
    Overview,
    QueueState,
    Stage,
    Today,
    WorkerState,
)
from dicom_node.overview.stuck import find_stuck
from dicom_node.spool.spool import Spool

LATEST = 12
OUTCOMES = ("findings", "none", "unsuitable")
_NUMBER: ColumnElement[int] = literal_column("jobs.rowid")  # of insertion
_ENDED = (JobState.DELIVERED, JobState.UNDELIVERED, JobState.ABANDONED, JobState.NO_PIPELINE)


def collect(
    store: Store,
    spool: Spool,
    settings: Settings,
    workers: Workers,
    *,
    is_running: bool = True,
    troubles: Iterable[str] = (),
    pipelines: Iterable[str] = (),
    now: float,
) -> Overview:
    """Look at everything once.

    Parameters
    ----------
    store, spool, settings
        The node's.
    workers : Workers
        Those that are known.
    is_running : bool
        Whether the node answers.
    troubles : iterable of str
        What the node itself complains of, beyond what is found here.
    pipelines : iterable of str
        Names of those that are installed: each has a queue, empty or not.
    now : float
        UTC seconds since the epoch.
    """
    depths = queue_depths(store)
    with store.reading() as session:
        stages = _stages(session, depths)
        today = _today(session, midnight(now))
        latest = _jobs(session, LATEST)
        series = session.scalar(select(func.count()).select_from(SeriesRow)) or 0
        held = select(func.count()).select_from(SeriesRow).where(SeriesRow.state == SeriesState.HELD)
        series_held = session.scalar(held) or 0
    destinations = destination_states(store, settings.destination)
    disk = _disk(spool, series)
    stuck = find_stuck(
        store,
        spool,
        workers=workers if is_running else Workers(),
        destinations=destinations,
        proofs=settings.proofs,
        disk=disk,
        is_running=is_running,
        troubles=troubles,
        now=now,
    )
    return Overview(
        at=now,
        version=__version__,
        ae_title=settings.node.ae_title,
        is_running=is_running,
        stuck=stuck,
        stages=stages,
        queues=tuple(_queue(depth, workers, now) for depth in _with_idle(depths, workers, pipelines, now)),
        workers=_workers(workers, now),
        destinations=destinations,
        disk=disk,
        today=today,
        latest=latest,
        series_held=series_held,
    )


def jobs_of_today(store: Store, now: float) -> tuple[ListedJob, ...]:
    """Return the jobs that were made or ended today, newest first."""
    since = midnight(now)
    with store.reading() as session:
        return _jobs(session, None, or_(JobRow.created_at >= since, JobRow.ended_at >= since))


def midnight(now: float) -> float:
    """Return the beginning of the day, by the clock of this machine."""
    return (
        datetime.fromtimestamp(now)
        .astimezone()
        .replace(hour=0, minute=0, second=0, microsecond=0)
        .timestamp()
    )


def _stages(session: Session, depths: list[QueueDepth]) -> tuple[Stage, ...]:
    stages = []
    coming = session.execute(
        select(func.count(), func.min(SeriesRow.first_at)).where(SeriesRow.state == SeriesState.RECEIVING)
    ).one()
    oldest = session.scalar(
        select(SeriesRow.id)
        .where(SeriesRow.state == SeriesState.RECEIVING)
        .order_by(SeriesRow.first_at)
        .limit(1)
    )
    stages.append(Stage("coming in", coming[0], coming[1], oldest or ""))
    for name, state in (
        ("waiting", JobState.QUEUED),
        ("at work", JobState.RUNNING),
        ("being delivered", JobState.DELIVERING),
    ):
        count = session.scalar(select(func.count()).select_from(JobRow).where(JobRow.state == state)) or 0
        since = job_since().label("since")
        first = session.execute(
            select(JobRow.id, since).where(JobRow.state == state).order_by(since).limit(1)
        ).first()
        stages.append(Stage(name, count, first[1] if first else None, first[0] if first else ""))
    return tuple(stages)


def _with_idle(
    depths: list[QueueDepth], workers: Workers, pipelines: Iterable[str], now: float
) -> list[QueueDepth]:
    """Add the queues that are empty."""
    found = {depth.queue: depth for depth in depths}
    served = {queue for one in workers.alive(now) for queue in one.worker.queues}
    for queue in served.union(pipelines):
        found.setdefault(queue, QueueDepth(queue, 0, 0, 0.0))
    return [found[name] for name in sorted(found)]


def _queue(depth: QueueDepth, workers: Workers, now: float) -> QueueState:
    alive = len(workers.alive(now, depth.queue))
    unserved = next((one.since for one in workers.unserved if one.queue == depth.queue), None)
    return QueueState(depth.queue, depth.queued, depth.running, depth.oldest_at or None, alive, unserved)


def _workers(workers: Workers, now: float) -> tuple[WorkerState, ...]:
    return tuple(
        WorkerState(
            one.worker.name,
            one.host,
            one.worker.program,
            one.worker.device,
            one.worker.queues,
            one.last_at,
            one.is_alive(now),
            one.worker.conflict,
        )
        for one in workers.seen
    )


def _disk(spool: Spool, series: int) -> Disk:
    usage = shutil.disk_usage(spool.root)
    usable = max(1, usage.used + usage.free)
    quarantine = sum(path.suffix == ".dcm" for path in spool.quarantine.iterdir())
    return Disk(
        usable,
        usage.free,
        usage.used / usable,
        spool.high_water,
        series,
        len(spool.waiting()),
        quarantine,
    )


def _asked_again_at() -> ColumnElement[float]:
    """Return the expression of the time when a person last wished a job that had ended to be done anew; 0 if none did."""
    last = (
        select(func.max(TransitionRow.at))
        .where(
            TransitionRow.subject == JobRow.id,
            TransitionRow.after == JobState.QUEUED,
            TransitionRow.before.in_(_ENDED),
        )
        .correlate(JobRow)
        .scalar_subquery()
    )
    return func.coalesce(last, 0.0)


def _has_turnaround() -> ColumnElement[bool]:
    """Return the expression of jobs that somebody waits for since the last image: no comparison, which comes behind them."""
    return and_(JobRow.state == JobState.DELIVERED, JobRow.pipeline != CHANGE)


def _turnaround() -> ColumnElement[float]:
    return func.max(0.0, JobRow.ended_at - func.max(SeriesRow.last_at, _asked_again_at()))


def _jobs(session: Session, count: int | None, *where: ColumnElement[bool]) -> tuple[ListedJob, ...]:
    """Return jobs, the newest first."""
    query = (
        select(
            JobRow.id,
            SeriesRow.id,
            SeriesRow.series_number,
            JobRow.pipeline,
            JobRow.state,
            JobRow.outcome,
            JobRow.created_at,
            JobRow.ended_at,
            case((_has_turnaround(), _turnaround())),
        )
        .join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
        .where(*where)
        .order_by(_NUMBER.desc())
        .limit(count)
    )
    found = []
    for (
        identifier,
        series,
        number,
        pipeline,
        state,
        outcome,
        created_at,
        ended_at,
        seconds,
    ) in session.execute(query):
        ended = ended_at or None
        found.append(
            ListedJob(identifier, series, number, pipeline, state, outcome, created_at, ended, seconds)
        )
    return tuple(found)


def _analysed_at() -> ColumnElement[float]:
    """Return the expression of the time when a job last got its results."""
    last = (
        select(func.max(TransitionRow.at))
        .where(
            TransitionRow.subject == JobRow.id,
            TransitionRow.after == JobState.DELIVERING,
            TransitionRow.before.in_((JobState.QUEUED, JobState.RUNNING)),
        )
        .correlate(JobRow)
        .scalar_subquery()
    )
    return func.coalesce(last, 0.0)


def _today(session: Session, since: float) -> Today:
    fresh = select(SeriesRow.series_uid).where(SeriesRow.last_at >= since)
    series = session.scalar(select(func.count()).select_from(fresh.subquery())) or 0
    images = (
        session.scalar(select(func.count()).select_from(ImageRow).where(ImageRow.series_uid.in_(fresh))) or 0
    )
    analysed = (
        select(JobRow.outcome, func.count())
        .where(
            or_(
                and_(JobRow.state.in_(_ENDED), JobRow.ended_at >= since),
                JobRow.state == JobState.DELIVERING,
            ),
            JobRow.outcome != "",
            _analysed_at() >= since,
        )
        .group_by(JobRow.outcome)
    )
    outcomes = {str(row[0]): int(row[1]) for row in session.execute(analysed)}
    turnaround = _turnaround().label("turnaround")
    delivered = session.execute(
        select(turnaround, JobRow.id)
        .join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
        .where(and_(_has_turnaround(), JobRow.ended_at >= since))
        .order_by(turnaround)
    ).all()
    seconds = [row[0] for row in delivered]
    return Today(
        since=since,
        series=series,
        images=images,
        analysed={outcome: outcomes.get(outcome, 0) for outcome in OUTCOMES},
        failed=outcomes.get("failed", 0),
        delivered=len(delivered),
        median_s=statistics.median(seconds) if seconds else None,
        worst_s=seconds[-1] if seconds else None,
        worst_id=delivered[-1][1] if delivered else "",
    )
