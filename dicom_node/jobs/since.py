"""SQL expressions of the time from which a series or job has been in its state: its last way into it, by the history."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, select

from dicom_node.jobs.schema import JobRow, SeriesRow, TransitionRow


def job_since() -> ColumnElement[float]:
    """Return the expression for a job; where the history was lost, of the time when it was made."""
    moves = and_(
        TransitionRow.subject == JobRow.id,
        TransitionRow.after == JobRow.state,
        TransitionRow.before != JobRow.state,
    )
    last = select(func.max(TransitionRow.at)).where(moves).correlate(JobRow).scalar_subquery()
    return func.coalesce(last, JobRow.created_at)


def series_since() -> ColumnElement[float]:
    """Return the expression for a series; where the history was lost, of the time of its last image."""
    moves = and_(
        TransitionRow.subject == SeriesRow.series_uid,
        TransitionRow.after == SeriesRow.state,
        TransitionRow.before != SeriesRow.state,
    )
    last = select(func.max(TransitionRow.at)).where(moves).correlate(SeriesRow).scalar_subquery()
    return func.coalesce(last, SeriesRow.last_at)
