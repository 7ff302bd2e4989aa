"""SQL expressions of the time from which a series or job has been in its state: its last way into it, by the history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import InstrumentedAttribute

from dicom_node.jobs.schema import JobRow, SeriesRow, TransitionRow


def job_since() -> ColumnElement[float]:
    """Return the expression for a job; where the history was lost, of the time when it was made."""
    return func.coalesce(_last_way_into(JobRow.state, JobRow.id), JobRow.created_at)


def series_since() -> ColumnElement[float]:
    """Return the expression for a series; where the history was lost, of the time of its last image."""
    return func.coalesce(_last_way_into(SeriesRow.state, SeriesRow.series_uid), SeriesRow.last_at)


def _last_way_into(state: InstrumentedAttribute[str], subject: InstrumentedAttribute[str]) -> Any:
    """Return the expression for the time at which a row last came into its state from another one."""
    moves = and_(
        TransitionRow.subject == subject, TransitionRow.after == state, TransitionRow.before != state
    )
    return select(func.max(TransitionRow.at)).where(moves).correlate(state.class_).scalar_subquery()
