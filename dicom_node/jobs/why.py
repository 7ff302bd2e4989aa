"""The whole history of a series or job as lines for a person: what it is, what happened, and why it stands there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from dicom_node.errors import NotFoundError
from dicom_node.jobs.schema import CommitmentRow, JobRow, ObjectRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.standard.uids import uid_name
from dicom_node.worklog.follow import records

Line = tuple[str, str]
"""Text and rich style."""

SERIES_WAY_OUT = {
    SeriesState.HELD: "dicom-node release {id} analyses it as it is; late images are still taken",
    SeriesState.IGNORED: "dicom-node route --explain shows every rule on the files; dicom-node retry {id} judges it again",
}
JOB_WAY_OUT = {
    JobState.HELD: "dicom-node release {id} lets it run",
    JobState.NO_PIPELINE: "dicom-node retry {id} runs it once the pipeline is installed",
    JobState.UNDELIVERED: "dicom-node retry {id} delivers it again",
}


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
    path = data / "state.sqlite"
    if not path.exists():
        raise NotFoundError(f"{data}: no node has worked here; give its --config")
    store = Store(path)
    try:
        match = store.find(text)
        for series in match.series:
            jobs = [job for job in match.jobs if job.series_uid == series.series_uid]
            yield from _series(store, series)
            for job in jobs:
                yield from _job(store, job)
            yield "worklog", "bold"
            # the records of a series bring those of its jobs along
            for record in records(data, series=jobs[0].id if match.kind == "job" else series.id):
                yield f"  {record.line()}", _style(record.level)
    finally:
        store.close()


def _series(store: Store, series: SeriesRow) -> Iterator[Line]:
    number = "" if series.series_number is None else f" number {series.series_number}"
    count = len(store.images(series.series_uid))
    yield f"series {series.id[:8]}{number}: {series.state}", "bold"
    if series.reason:
        yield f"  {series.reason}", ""
    yield (
        f"  {count} images from {series.calling_ae or 'the spool'}, {_at(series.first_at)} to {_at(series.last_at)}",
        "",
    )
    yield f"  Series Instance UID {uid_name(series.series_uid)}", "dim"
    yield from _way_out(SERIES_WAY_OUT.get(SeriesState(series.state)), series.id)
    for row in store.history(series.series_uid):
        yield (
            f"  {_at(row.at)}  {row.before or '-'} -> {row.after}{f'  {row.reason}' if row.reason else ''}",
            "dim",
        )


def _job(store: Store, job: JobRow) -> Iterator[Line]:
    outcome = f", {job.outcome}" if job.outcome else ""
    yield f"job {job.id[:8]} ({job.pipeline}, run {job.run}): {job.state}{outcome}", "bold"
    for text in (
        job.reason,
        job.note and f"note: {job.note}",
        job.replaces and f"replaces job {job.replaces[:8]}",
    ):
        if text:
            yield f"  {text}", ""
    yield from _way_out(JOB_WAY_OUT.get(JobState(job.state)), job.id)
    for row in store.history(job.id):
        yield (
            f"  {_at(row.at)}  {row.before or '-'} -> {row.after}{f'  {row.reason}' if row.reason else ''}",
            "dim",
        )
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
    for (destination, role, state, reason), count in groups.items():
        yield f"  {count} x {role} to {destination}: {state}{f', {reason}' if reason else ''}", ""
    for destination, times, last_at in asked:
        yield f"  storage commitment asked of {destination}: {times} x, last {_at(last_at)}", ""


def _way_out(sentence: str | None, identifier: str) -> Iterator[Line]:
    if sentence:
        yield f"  {sentence.format(id=identifier[:8])}", "cyan"


def _style(level: str) -> str:
    return {"warning": "yellow", "error": "red"}.get(level, "")


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
