"""Priors of a job: series of earlier studies of its patient that lie in the spool, whole and judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from sqlalchemy import func, select

from dicom_node.config.sections import PriorsSection
from dicom_node.errors import PriorError
from dicom_node.jobs.schema import ImageRow, SeriesRow
from dicom_node.jobs.states import SeriesState
from dicom_node.jobs.store import Store
from dicom_node.priors.acquisition import acquired_by_headers
from dicom_node.priors.examination import Examination, acquisition_times, date_of, examination_of
from dicom_node.priors.gate import identity_refusal, time_refusal
from dicom_node.series.completeness import assess
from dicom_node.series.headers import ImageHeader
from dicom_node.spool.prior_searches import read_search
from dicom_node.spool.spool import Spool
from pipelines.comparability import compare_acquisitions
from pipelines.comparison import Comparability

KEPT = (SeriesState.PRIOR, SeriesState.ROUTED)
"""States of a series that may be a prior: asked for as one, or analysed in its own time."""


@dataclass(frozen=True)
class Prior:
    """Series of an earlier study that can be compared with a job's.

    Attributes
    ----------
    series_uid, study_uid : str
        Of the series.
    folder : Path
        Where its files lie.
    images : tuple of Path
        Its files, all of the series, in no order.
    day : date
        Of its study.
    days : int
        How long before the job's study that was.
    acquired_at : frozenset of str
        Times of acquisition of its images.
    comparability : Comparability
        With the job's series, by the headers of both: A to C.
    """

    series_uid: str
    study_uid: str
    folder: Path
    images: tuple[Path, ...]
    day: date
    days: int
    acquired_at: frozenset[str]
    comparability: Comparability


def priors_of(store: Store, spool: Spool, job_id: str, section: PriorsSection) -> tuple[Prior, ...]:
    """Return the priors that were found for a job, the chosen one first; none while none was found.

    Each is looked at again: one that was removed since, or whose images were corrected and name another patient, is left out.
    """
    search, job = read_search(spool, job_id), store.job(job_id)
    if search is None or job is None:
        return ()
    try:
        examination = examination_of(store, job)
    except PriorError:
        return ()
    rows = [row for uid in search.priors if (row := store.series(uid)) is not None]
    found = [prior_in(store, spool, examination, row, section) for row in rows]
    return tuple(one for one in found if isinstance(one, Prior))


def prior_in(
    store: Store, spool: Spool, examination: Examination, series: SeriesRow, section: PriorsSection
) -> Prior | str:
    """Return a series of the store as a prior of an examination, or why it is none."""
    if series.state not in KEPT or series.study_uid == examination.study_uid:
        return f"in state {series.state}"
    if series.state == SeriesState.ROUTED and examination.pipeline not in {
        job.pipeline for job in store.jobs_of(series.series_uid)
    }:
        return "of another kind"
    rows = store.images(series.series_uid)
    headers = [ImageHeader.from_json(row.header) for row in rows]
    day = date_of(headers[0].study_date) if headers else None
    refusal = _refusal_of(headers, examination, section) or time_refusal(examination, day, section)
    if refusal or day is None:
        return refusal
    if (found := assess(headers)).state != "whole":
        return f"not whole: {found.reason}"
    return Prior(
        series_uid=series.series_uid,
        study_uid=series.study_uid,
        folder=spool.series_folder(series.series_uid),
        images=tuple(spool.absolute(row.path) for row in rows),
        day=day,
        days=examination.days_since(day),
        acquired_at=acquisition_times(headers),
        comparability=compare_acquisitions(examination.acquisition, acquired_by_headers(headers)),
    )


def _refusal_of(headers: list[ImageHeader], examination: Examination, section: PriorsSection) -> str:
    for identity in {header.identity for header in headers}:
        if identity is None:
            return "of an older version of dicom-node, which did not note whose images are"
        if refusal := identity_refusal(examination.identity, identity, ignore_issuer=section.ignore_issuer):
            return refusal
    if acquisition_times(headers) & examination.acquired_at:
        return "the same images under other UIDs: they were acquired at the same time"
    return ""


def priors_in_store(
    store: Store, spool: Spool, examination: Examination, section: PriorsSection
) -> Iterator[tuple[SeriesRow, Prior | str]]:
    """Yield the series of the same patient ID that the store has, each as a prior or with why it is none."""
    first = (
        select(func.min(ImageRow.sop_instance_uid))
        .where(ImageRow.series_uid == SeriesRow.series_uid)
        .correlate(SeriesRow)
        .scalar_subquery()
    )
    query = (
        select(SeriesRow, ImageRow)
        .join(ImageRow, ImageRow.sop_instance_uid == first)
        .where(SeriesRow.state.in_(KEPT), SeriesRow.study_uid != examination.study_uid)
    )
    with store.reading() as session:
        found = [
            series
            for series, image in session.execute(query)
            if (image.header.get("identity") or {}).get("patient_id") == examination.identity.patient_id
        ]
    for series in found:
        yield series, prior_in(store, spool, examination, series, section)


def own_priors(
    store: Store, spool: Spool, examination: Examination, section: PriorsSection
) -> tuple[dict[str, Prior], list[str]]:
    """Return the priors that the store has, the best of each study by its UID, and a line on each series."""
    own: dict[str, Prior] = {}
    lines: list[str] = []
    for series, prior in priors_in_store(store, spool, examination, section):
        if isinstance(prior, str):
            lines.append(f"series {series.id[:8]}, not used: {prior}")
            continue
        grade, other = prior.comparability.grade, own.get(prior.study_uid)
        lines.append(
            f"series {series.id[:8]} of {prior.day}, {prior.days} days earlier, {len(prior.images)} images, grade {grade}"
        )
        if other is None or grade < other.comparability.grade:
            own[prior.study_uid] = prior
    return own, lines
