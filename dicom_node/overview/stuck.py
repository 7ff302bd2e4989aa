"""Everything that does not go on by itself, each with the command that mends it and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from sqlalchemy import func, select

from dicom_node import __version__
from dicom_node.jobs import ways_out
from dicom_node.jobs.known_workers import Workers
from dicom_node.jobs.schema import JobRow, ObjectRow, SeriesRow
from dicom_node.jobs.since import job_since, series_since
from dicom_node.jobs.states import JobState, ObjectState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.overview.overview import DestinationState, Disk, Stuck
from dicom_node.overview.words import counted
from dicom_node.spool.spool import Spool

INBOX_S = 60.0
"""So long may a file lie in the inbox before filing counts as stuck."""
DATED_FILES = 1000
"""Of so many files of the quarantine the age is asked for."""
WORKER_UNIT = "systemctl restart dicom-node-worker"


def find_stuck(
    store: Store,
    spool: Spool,
    *,
    workers: Workers,
    destinations: Sequence[DestinationState],
    proofs: Mapping[str, bool],
    disk: Disk,
    is_running: bool,
    troubles: Iterable[str],
    now: float,
) -> tuple[Stuck, ...]:
    """Return what is stuck: errors first; what concerns many before single jobs and series; then the oldest first.

    Parameters
    ----------
    proofs : mapping of str to bool
        Destinations of results, and whether a proof is wanted from there.
    """
    found = [
        *_of_the_node(workers, troubles, is_running=is_running),
        *_of_workers(workers, now),
        *_of_destinations(destinations),
        *_of_the_folder(spool, disk, now),
        *_of_jobs(store),
        *_of_series(store),
        *_unproven(store, proofs),
    ]
    return tuple(sorted(found, key=lambda one: (one.level != "error", bool(one.id), one.since or 0.0)))


def _of_the_node(workers: Workers, troubles: Iterable[str], *, is_running: bool) -> Iterator[Stuck]:
    if not is_running:
        yield Stuck(
            "error",
            "the node does not run",
            "nothing is received, analysed or delivered",
            None,
            "systemctl start dicom-node",
            "starts it; without systemd: dicom-node up",
        )
        return
    if workers.broker_error:
        yield Stuck(
            "error",
            "the broker does not answer",
            workers.broker_error,
            workers.broker_since,
            "dicom-node check",
            "says how it answers; start it, and what waits goes on by itself",
        )
    for line in troubles:
        yield Stuck("error", "the node", line, None, "journalctl -u dicom-node -n 50", "says more")


def _of_workers(workers: Workers, now: float) -> Iterator[Stuck]:
    for queue in workers.unserved:
        if queue.is_overdue(now):
            way_out = ways_out.of_queue(queue.queue)
            what = f"no {queue.queue} worker"
            yield Stuck(
                "error",
                what,
                f"{counted(queue.jobs, 'job')} in its queue, and none answers",
                queue.since,
                way_out.command,
                way_out.effect,
            )
    for one in workers.alive(now):
        if one.worker.conflict:
            effect = f"on {one.host}, after the upgrade to version {__version__}"
            yield Stuck(
                "error",
                f"worker {one.worker.name} takes no jobs",
                one.worker.conflict,
                None,
                WORKER_UNIT,
                effect,
            )


def _of_destinations(destinations: Sequence[DestinationState]) -> Iterator[Stuck]:
    for one in destinations:
        if one.reason:
            waiting = f"{counted(one.objects, 'object')} of {counted(one.jobs, 'job')}"
            yield Stuck(
                "error",
                f"{waiting} not at {one.name} yet",
                one.reason,
                one.oldest_at,
                "dicom-node check",
                f"asks {one.address} whether it answers; when it does, they go by themselves",
            )


def _of_the_folder(spool: Spool, disk: Disk, now: float) -> Iterator[Stuck]:
    if disk.is_full:
        yield Stuck(
            "error",
            "the disk is full",
            f"{disk.used_share:.0%} in use, over [storage] high_water of {disk.high_water:.0%}: images are refused with A700",
            None,
            "dicom-node check",
            "says what is kept and why; a shorter [storage] keep_days and a restart make room",
        )
    waiting = spool.waiting()
    if waiting:
        try:
            oldest_at = waiting[0].stat().st_mtime
        except FileNotFoundError:  # filed meanwhile
            oldest_at = now
        if now - oldest_at > INBOX_S:
            yield Stuck(
                "error",
                f"{counted(len(waiting), 'file')} in the inbox not filed",
                "images were received, and are not looked at",
                oldest_at,
                "dicom-node worklog --failed -n 20",
                "says what keeps them from being filed",
            )
    if disk.quarantine:
        notes = sorted(path for path in spool.quarantine.iterdir() if path.suffix == ".txt")[:DATED_FILES]
        times = [path.stat().st_mtime for path in notes if path.exists()]
        yield Stuck(
            "warning",
            f"{counted(disk.quarantine, 'file')} in quarantine",
            "could not be read, or are others under a known UID; beside each lies the reason",
            min(times, default=None),
            f"head {spool.quarantine}/*.txt",
            "shows the reasons; remove the files when they are mended",
        )


_JOBS: dict[JobState, tuple[Literal["error", "warning"], str]] = {
    JobState.UNDELIVERED: ("error", "is not delivered"),
    JobState.HELD: ("warning", "is held"),
}


def _of_jobs(store: Store) -> Iterator[Stuck]:
    held = select(JobRow.id, JobRow.pipeline, JobRow.state, JobRow.reason, job_since()).where(
        JobRow.state.in_(_JOBS)
    )
    failed = (
        select(ObjectRow.job_id, func.max(ObjectRow.reason))
        .join(JobRow, (JobRow.id == ObjectRow.job_id) & (JobRow.run == ObjectRow.run))
        .where(JobRow.state == JobState.UNDELIVERED, ObjectRow.state == ObjectState.FAILED)
        .group_by(ObjectRow.job_id)
    )
    lacking = (
        select(JobRow.pipeline, func.count(), func.min(job_since()), func.max(JobRow.id))
        .where(JobRow.state == JobState.NO_PIPELINE)
        .group_by(JobRow.pipeline)
    )
    with store.reading() as session:
        rows = session.execute(held).all()
        refused = {str(row[0]): str(row[1]) for row in session.execute(failed)}
        without_pipeline = session.execute(lacking).all()
    for job_id, pipeline, state, reason, since in rows:
        level, words = _JOBS[JobState(state)]
        what = f"job {job_id[:8]} ({pipeline}) {words}"
        yield _of_job(level, what, refused.get(job_id) or reason, since, job_id, state)
    for pipeline, count, since, job_id in without_pipeline:
        what = f"{counted(count, 'job')} for {pipeline}, which is not installed"
        reason = f"one of them is {job_id[:8]}"
        yield _of_job("warning", what, reason, since, job_id, JobState.NO_PIPELINE)


def _of_job(
    level: Literal["error", "warning"], what: str, reason: str, since: float, job_id: str, state: str
) -> Stuck:
    way_out = ways_out.of_job(job_id, state)
    assert way_out is not None, "each of these states has a way out"
    return Stuck(level, what, reason, since, way_out.command, way_out.effect, job_id)


def _of_series(store: Store) -> Iterator[Stuck]:
    query = select(SeriesRow.id, SeriesRow.series_number, SeriesRow.reason, series_since()).where(
        SeriesRow.state == SeriesState.HELD
    )
    with store.reading() as session:
        rows = session.execute(query).all()
    for series_id, number, reason, since in rows:
        way_out = ways_out.of_series(series_id, SeriesState.HELD, reason)
        assert way_out is not None, "a held series has a way out"
        named = f"series {series_id[:8]}" + ("" if number is None else f" (number {number})")
        yield Stuck("warning", f"{named} is held", reason, since, way_out.command, way_out.effect, series_id)


def _unproven(store: Store, proofs: Mapping[str, bool]) -> Iterator[Stuck]:
    """Yield what was delivered to where a proof is wanted, and will not be asked for any more."""
    wanted = [name for name, proof in proofs.items() if proof]
    query = (
        select(
            ObjectRow.destination,
            func.count(ObjectRow.job_id.distinct()),
            func.min(ObjectRow.sent_at),
            func.min(ObjectRow.job_id),
        )
        .where(
            ObjectRow.destination.in_(wanted),
            ObjectRow.state == ObjectState.SENT,
            ObjectRow.next_at == 0.0,
        )
        .join(JobRow, (JobRow.id == ObjectRow.job_id) & (JobRow.run == ObjectRow.run))
        .group_by(ObjectRow.destination)
    )
    with store.reading() as session:
        rows = session.execute(query).all()
    for destination, jobs, sent_at, job_id in rows:
        yield Stuck(
            "warning",
            f"{counted(jobs, 'job')} at {destination} without the proof that is wanted",
            "the destination took the objects, and does not say that it holds them",
            sent_at or None,
            f"dicom-node why {job_id[:8]}",
            'says why; confirm = "none" does without',
            job_id if jobs == 1 else "",
        )
