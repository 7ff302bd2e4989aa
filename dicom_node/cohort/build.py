"""File of a cohort from the node's own results: the first study of each patient, and nothing that names one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import func, select

from dicom_node.cohort.percentile import Person, person_of, why_not_compared
from dicom_node.cohort.table import OLDEST, Row
from dicom_node.errors import CohortError, NodeError
from dicom_node.jobs.schema import ImageRow, JobRow, SeriesRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.results.findings_record import FindingsRecord
from dicom_node.results.manifest import Manifest, lesion_count, total_volume_mm3
from dicom_node.series.headers import ImageHeader
from dicom_node.series.reading import BAD_FILE_ERRORS, tolerant
from dicom_node.spool.run_folder import finished_path
from dicom_node.spool.spool import Spool

PIPELINE: Final = "flair"
FEWEST: Final = 20
"""Patients without which no file is made: nothing could be compared with it, and so few might be recognised."""
_ANSWERED: Final = (JobState.DELIVERING, JobState.DELIVERED, JobState.UNDELIVERED)
_FACTS: Final = ["PatientAge", "PatientBirthDate", "PatientSex", "StudyDate"]


@dataclass(frozen=True)
class Study:
    """One analysed FLAIR series.

    Parameters
    ----------
    patient : str
        Keyed digest of the PatientID.
    day : str
        Of the study, as YYYYMMDD.
    job_id : str
    is_gapless : bool
        It was analysed as it should be: no image was missing.
    """

    patient: str
    day: str
    job_id: str
    is_gapless: bool


@dataclass(frozen=True)
class Built:
    """Rows of a cohort, and how many patients are not in it, by the reason."""

    rows: tuple[Row, ...]
    left_out: Counter[str]


def first_studies(store: Store, spool: Spool, group: str, source: str) -> Built:
    """Return a row for each patient whose first study, of those that are in the data folder, has a lesion volume.

    Raises
    ------
    CohortError
        Fewer patients than `FEWEST` have one.
    """
    earliest: dict[str, Study] = {}
    for study in studies_in(store):
        known = earliest.get(study.patient)
        if known is None or (study.day, study.job_id) < (known.day, known.job_id):
            earliest[study.patient] = study
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for study in earliest.values():
        found = _row_or_reason(spool, study, group, source)
        if isinstance(found, Row):
            rows.append(found)
        else:
            left_out[found] += 1
    if len(rows) < FEWEST:
        why = "; ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "no other study"
        raise CohortError(
            f"{len(rows)} patients with a first study to compare with, at least {FEWEST} are needed (left out: {why}); "
            "studies stay for [storage] keep_days"
        )
    return Built(tuple(rows), left_out)


def studies_in(store: Store) -> Iterator[Study]:
    """Yield the analysed FLAIR series whose images say when they were made and, to the node's digests, of whom."""
    first = (
        select(func.min(ImageRow.sop_instance_uid))
        .where(ImageRow.series_uid == SeriesRow.series_uid)
        .correlate(SeriesRow)
        .scalar_subquery()
    )
    query = (
        select(JobRow, ImageRow)
        .join(SeriesRow, SeriesRow.series_uid == JobRow.series_uid)
        .join(ImageRow, ImageRow.sop_instance_uid == first)
        .where(JobRow.pipeline == PIPELINE, JobRow.state.in_(_ANSWERED))
    )
    with store.reading() as session:
        for job, image in session.execute(query):
            header = ImageHeader.from_json(image.header)
            if header.identity is not None and header.identity.patient_id and header.study_date:
                yield Study(header.identity.patient_id, header.study_date, job.id, not job.note)


def row_of(record: FindingsRecord, person: Person, group: str, source: str) -> Row | str:
    """Return the row of one study, or why it has none.

    Age in whole years, those of the oldest as one, and the volume as reports give it: all that is known of the patient.
    """
    findings = record.findings()
    reason = why_not_compared(findings, person)
    volume_mm3 = total_volume_mm3(findings)
    if reason or person.age is None or person.sex is None or volume_mm3 is None:
        return reason
    if not record.pipeline_digest:
        return "analysed by a version that did not note its pipeline"
    return Row(
        age=min(math.floor(person.age), OLDEST),
        sex=person.sex,
        volume_ml=round(volume_mm3 / 1000, 2),
        lesions=lesion_count(findings) or 0,
        pipeline=record.pipeline_digest,
        group=group,
        source=source,
    )


def _row_or_reason(spool: Spool, study: Study, group: str, source: str) -> Row | str:
    folder = finished_path(spool.results, study.job_id)
    if not study.is_gapless:
        return "with images missing"
    try:
        record = FindingsRecord.read(folder) if folder is not None else None
        objects = Manifest.read(folder).objects if folder is not None else ()
        if folder is None or record is None or not objects:
            return "no lesion volume"
        with tolerant():
            image: Dataset = dcmread(folder / objects[0].path, stop_before_pixels=True, specific_tags=_FACTS)
    except (NodeError, OSError, *BAD_FILE_ERRORS):
        return "results that can't be read"
    return row_of(record, person_of(image), group, source)
