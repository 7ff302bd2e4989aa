"""Results that name another patient or study than their images do by now, since those were corrected in the meantime."""

from __future__ import annotations

from sqlalchemy import func, select

from dicom_node.errors import NodeError
from dicom_node.jobs.schema import JobRow, ObjectRow
from dicom_node.jobs.states import ObjectState
from dicom_node.jobs.store import Store
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import ImageHeader, read_header
from dicom_node.series.identity import is_correction, mixture
from dicom_node.spool.spool import Spool


def is_of_former_identity(store: Store, spool: Spool, job: JobRow) -> bool:
    """Tell whether a job's results name another patient or study than its images do now; False where there are none."""
    folder = spool.results / job.id
    try:
        objects = Manifest.read(folder).objects
        if not objects:
            return False
        result = read_header(folder / objects[0].path, key=spool.identity_key)
    except (NodeError, OSError):
        return False
    return any(
        is_correction((result.study_uid, result.identity), (header.study_uid, header.identity))
        for header in _headers(store, job)
    )


def why_not_analysable(store: Store, job: JobRow) -> str:
    """Return why the images of a job can't be analysed as they are now, "" when they can: a correction may be under way."""
    mixed = mixture((header.study_uid, header.identity) for header in _headers(store, job))
    return mixed.reason if mixed is not None and not mixed.may_be_released else ""


def delivered_objects(store: Store, job_id: str) -> dict[str, int]:
    """Return how many objects of a job each destination holds, of any run that the database knows."""
    query = (
        select(ObjectRow.destination, func.count())
        .where(ObjectRow.job_id == job_id, ObjectRow.state.in_((ObjectState.SENT, ObjectState.CONFIRMED)))
        .group_by(ObjectRow.destination)
        .order_by(ObjectRow.destination)
    )
    with store.reading() as session:
        return {row[0]: row[1] for row in session.execute(query)}


def _headers(store: Store, job: JobRow) -> list[ImageHeader]:
    paths = set(job.images)
    return [ImageHeader.from_json(row.header) for row in store.images(job.series_uid) if row.path in paths]
