"""The whole history of a series or job, for a person: what it is, what happened, and why it stands there.

:func:`histories` gives it in parts, for whoever lays it out; :func:`why` as lines for the console.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from dicom_node.errors import NotFoundError, StateError
from dicom_node.jobs import ways_out
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.former_identity import is_of_former_identity
from dicom_node.jobs.known_workers import Workers
from dicom_node.jobs.lookup import Match
from dicom_node.jobs.schema import CommitmentRow, JobRow, ObjectRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.jobs.ways_out import WayOut
from dicom_node.spool.prior_searches import read_search
from dicom_node.spool.spool import Spool
from dicom_node.standard.uids import uid_name
from dicom_node.worklog.follow import records

Line = tuple[str, str]
"""Text and rich style."""

STATE_NAME = "state.sqlite"


@dataclass(frozen=True)
class History:
    """History of one series or job.

    Parameters
    ----------
    kind : str
        "series" or "job".
    id : str
        The whole ID.
    title : str
        Its kind, short ID and what tells it from others.
    state : str
        Where it stands.
    reasons : list of str
        Why it stands there.
    facts : list of str
        Of a series its images; of a job its objects at destinations.
    uid : str
        Series Instance UID of a series.
    way_out : WayOut or None
        For the person that it waits for.
    steps : list of TransitionRow
        Every change of its state, oldest first.
    """

    kind: str
    id: str
    title: str
    state: str
    reasons: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    uid: str = ""
    way_out: WayOut | None = None
    steps: list[TransitionRow] = field(default_factory=list)


def histories(
    store: Store, match: Match, workers: Workers, spool: Spool
) -> Iterator[tuple[SeriesRow, list[History]]]:
    """Yield each series of a match with its own history and those of its jobs.

    Parameters
    ----------
    workers : Workers
        Those that are known: a queued job may wait for one that is not there.
    spool : Spool
        With the results that may be of another patient by now.
    """
    for series in match.series:
        jobs = [job for job in match.jobs if job.series_uid == series.series_uid]
        yield series, [_of_series(store, series), *(_of_job(store, job, workers, spool) for job in jobs)]


def why(data: Path, text: str) -> Iterator[Line]:
    """Yield the history of what `text` names.

    Parameters
    ----------
    data : Path
        The node's data folder; the node may run or not.
    text : str
        ID or its beginning, series, study or SOP instance UID, or accession number.

    Raises
    ------
    NotFoundError
        Nothing has this ID, several have, or there is no node's data here.
    """
    path = data / STATE_NAME
    if not path.exists():
        raise NotFoundError(f"{data}: no node has worked here; give its --config")
    store, spool = Store(path), Spool(data)
    try:
        match = store.find(text)
        for series, parts in histories(store, match, Workers.read(data), spool):
            for part in parts:
                yield from _lines(part)
            yield "worklog", "bold"
            # the records of a series bring those of its jobs along
            for record in records(data, series=parts[1].id if match.kind == "job" else series.id):
                yield f"  {record.line()}", _style(record.level)
    finally:
        store.close()


def at(seconds: float) -> str:
    """Return a time of the database as local time."""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _lines(part: History) -> Iterator[Line]:
    yield f"{part.title}: {part.state}", "bold"
    for text in (*part.reasons, *part.facts):
        yield f"  {text}", ""
    if part.uid:
        yield f"  Series Instance UID {part.uid}", "dim"
    if part.way_out:
        yield f"  {part.way_out}", "cyan"
    for step in part.steps:
        reason = f"  {step.reason}" if step.reason else ""
        yield f"  {at(step.at)}  {step.before or '-'} -> {step.after}{reason}", "dim"


def _of_series(store: Store, series: SeriesRow) -> History:
    number = "" if series.series_number is None else f" number {series.series_number}"
    sender = series.calling_ae or "the spool"
    images = len(store.images(series.series_uid))
    return History(
        "series",
        series.id,
        f"series {series.id[:8]}{number}",
        series.state,
        reasons=[series.reason] if series.reason else [],
        facts=[
            f"{images} image{'' if images == 1 else 's'} from {sender}, {at(series.first_at)} to {at(series.last_at)}"
        ],
        uid=uid_name(series.series_uid),
        way_out=ways_out.of_series(series.id, series.state, series.reason),
        steps=store.history(series.series_uid),
    )


def _of_job(store: Store, job: JobRow, workers: Workers, spool: Spool) -> History:
    reasons = [
        job.reason,
        job.note and f"note: {job.note}",
        job.pipeline == CHANGE
        and f"compares the result of job {str(job.settings.get('of'))[:8]} with its prior",
        job.replaces and f"replaces job {job.replaces[:8]}",
    ]
    way_out = ways_out.of_job(job.id, job.state)
    lacking = next((one for one in workers.unserved if one.queue == job.pipeline), None)
    if job.state == JobState.QUEUED and lacking is not None:
        reasons.append(f"no {job.pipeline} worker answers; it waits without one since {at(lacking.since)}")
        way_out = ways_out.of_queue(job.pipeline)
    if job.state != JobState.ABANDONED and is_of_former_identity(store, spool, job):
        reasons.append("its results are of the patient or study that its images named before")
        way_out = ways_out.of_former_identity(job.id)
    return History(
        "job",
        job.id,
        f"job {job.id[:8]} ({job.pipeline}, run {job.run})",
        f"{job.state}{f', {job.outcome}' if job.outcome else ''}",
        reasons=[reason for reason in reasons if reason],
        facts=[*_deliveries(store, job), *_priors(spool, job)],
        way_out=way_out,
        steps=store.history(job.id),
    )


def _deliveries(store: Store, job: JobRow) -> list[str]:
    """Return a line for each kind of object at each destination, and for the requests for storage commitment."""
    with store.reading() as session:
        query = (
            select(ObjectRow)
            .where(ObjectRow.job_id == job.id)
            .order_by(ObjectRow.destination, ObjectRow.role)
        )
        objects = list(session.scalars(query))
        asked = session.execute(
            select(CommitmentRow.destination, func.count(), func.max(CommitmentRow.asked_at))
            .where(CommitmentRow.job_id == job.id)
            .group_by(CommitmentRow.destination)
        ).all()
    groups: dict[tuple[str, str, str, str], int] = {}
    for item in objects:
        key = (item.destination, item.role, item.state, item.reason)
        groups[key] = groups.get(key, 0) + 1
    lines = [
        f"{count} x {role} to {destination}: {state}{f', {reason}' if reason else ''}"
        for (destination, role, state, reason), count in groups.items()
    ]
    return lines + [
        f"storage commitment asked of {destination}: {times} x, last {at(last_at)}"
        for destination, times, last_at in asked
    ]


def _priors(spool: Spool, job: JobRow) -> list[str]:
    """Return a line for each step of the search for the job's priors, and one on where it stands."""
    try:
        search = read_search(spool, job.id)
    except StateError as error:
        return [f"priors: {error}"]
    if search is None:
        return []
    lines = [f"priors: {at(when)}  {text}" for when, text in search.steps]
    if search.state == "waiting":
        lines.append(f"priors: looked for {f'again at {at(search.next_at)}' if search.next_at else 'soon'}")
    return lines


def _style(level: str) -> str:
    return {"warning": "yellow", "error": "red"}.get(level, "")
