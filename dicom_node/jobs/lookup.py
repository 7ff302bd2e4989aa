"""Lookup of the series or job that a person means: short IDs, UIDs, accession numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from dicom_node.errors import NotFoundError
from dicom_node.jobs.schema import ImageRow, JobRow, SeriesRow

SHORTEST_PREFIX = 4
LISTED_CANDIDATES = 8


@dataclass(frozen=True)
class Match:
    """Series and jobs that a text names.

    Parameters
    ----------
    kind : "series" or "job"
        What the text named.
    series : list of SeriesRow
        The series named, or the series of the job named; several for a study UID or an accession number.
    jobs : list of JobRow
        The job named, or all jobs of the series, oldest first.
    """

    kind: Literal["series", "job"]
    series: list[SeriesRow] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)


def find(session: Session, text: str) -> Match:
    """Return what ``text`` names: a UID or accession number as it is, else an ID or the beginning of one.

    Raises
    ------
    NotFoundError
        Nothing has this ID, or several have: the message lists them.
    """
    text = text.strip()
    named = list(
        session.scalars(
            select(SeriesRow)
            .where(
                or_(
                    SeriesRow.series_uid == text,
                    SeriesRow.study_uid == text,
                    (SeriesRow.accession_number == text) & (SeriesRow.accession_number != ""),
                    SeriesRow.series_uid.in_(
                        select(ImageRow.series_uid).where(ImageRow.sop_instance_uid == text)
                    ),
                )
            )
            .order_by(SeriesRow.first_at)
        )
    )
    if named:
        return Match("series", named, _jobs_of(session, named))
    return _find_by_id(session, text)


def _find_by_id(session: Session, text: str) -> Match:
    prefix = text.lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", prefix):
        raise NotFoundError(f"nothing here is called {text!r}: give an ID, a UID or an accession number")
    if len(prefix) < SHORTEST_PREFIX:
        raise NotFoundError(f"{text!r} is too short: give at least {SHORTEST_PREFIX} characters of an ID")
    series = list(session.scalars(select(SeriesRow).where(SeriesRow.id.startswith(prefix))))
    jobs = list(session.scalars(select(JobRow).where(JobRow.id.startswith(prefix))))
    if not series and not jobs:
        raise NotFoundError(f"no series or job has an ID that begins with {text!r}")
    if len(series) + len(jobs) > 1:
        raise NotFoundError(f"{text!r} is not unique: {_candidates(series, jobs)}")
    if jobs:
        owner = session.get(SeriesRow, jobs[0].series_uid)
        return Match("job", [owner] if owner else [], jobs)
    return Match("series", series, _jobs_of(session, series))


def _jobs_of(session: Session, series: Sequence[SeriesRow]) -> list[JobRow]:
    uids = [row.series_uid for row in series]
    query = select(JobRow).where(JobRow.series_uid.in_(uids)).order_by(JobRow.created_at, JobRow.id)
    return list(session.scalars(query))


def _candidates(series: Sequence[SeriesRow], jobs: Sequence[JobRow]) -> str:
    names = [f"series {row.id[:12]}" for row in series] + [f"job {row.id[:12]}" for row in jobs]
    more = len(names) - LISTED_CANDIDATES
    return ", ".join(names[:LISTED_CANDIDATES]) + (f" and {more} more" if more > 0 else "")
