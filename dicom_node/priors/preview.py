"""Preview of a search for priors: all of it but the asking for images."""

from __future__ import annotations

from collections.abc import Iterator

from dicom_node.config.settings import Settings
from dicom_node.errors import NotFoundError, PriorError
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import STATE_NAME
from dicom_node.priors.archive import Archive
from dicom_node.priors.catalogue import catalogue_of
from dicom_node.priors.examination import examination_of, patient_key
from dicom_node.priors.prior import Prior, priors_in_store
from dicom_node.priors.service import PIPELINES
from dicom_node.spool.prior_searches import read_search
from dicom_node.spool.spool import Spool


def preview(settings: Settings, text: str) -> Iterator[str]:
    """Yield in lines what a search for the priors of a job finds, and what it would ask for.

    Parameters
    ----------
    text : str
        Names a job, or a series or study with one; see `dicom_node.jobs.store.Store.find`.

    Raises
    ------
    NodeError
        There is no such job, nothing tells whose it is, or the archive does not answer.
    """
    archive = Archive.of(settings)
    path = settings.node.data / STATE_NAME
    if not path.exists():
        raise NotFoundError(f"{settings.node.data}: no node has worked here; give its --config")
    store, spool = Store(path), Spool(settings.node.data)
    try:
        jobs = [job for job in store.find(text).jobs if job.pipeline in PIPELINES]
        if not jobs:
            raise NotFoundError(f"{text!r} names no job of {' or '.join(PIPELINES)}: others are not compared")
        yield from _lines(archive, store, spool, jobs[-1])
    finally:
        store.close()


def _lines(archive: Archive, store: Store, spool: Spool, job: JobRow) -> Iterator[str]:
    examination = examination_of(store, job)
    patient = patient_key(spool, job)
    yield f"job {job.id[:8]}: study of {examination.day}"
    done = read_search(spool, job.id)
    yield f"searched before: {done.reason or done.state}" if done is not None else "not searched before"
    own: dict[str, Prior] = {}
    for series, prior in priors_in_store(store, spool, examination, archive.section):
        if isinstance(prior, Prior):
            own.setdefault(prior.study_uid, prior)
            yield f"here: series {series.id[:8]} of {prior.day}, {prior.days} days earlier, {len(prior.images)} images"
        else:
            yield f"here: series {series.id[:8]}, not used: {prior}"
    try:
        catalogue = catalogue_of(archive, examination, patient, spool.identity_key, set(own))
    except PriorError as error:
        raise PriorError(f"{archive.name}: {error}") from error
    for line in catalogue.lines():
        yield f"{archive.name}: {line}"
    wanted = archive.section.max_studies
    for choice in catalogue.choices:
        newer = sum(prior.day > choice.day for prior in own.values())
        is_asked = bool(choice.series) and newer < wanted
        days = examination.days_since(choice.day)
        yield f"study of {choice.day}, {days} days earlier: {'would be asked for' if is_asked else 'would not be asked for'}"
        wanted -= is_asked
        for one in choice.series:
            count = "" if one.images is None else f", {one.images} images"
            description = "".join(filter(str.isprintable, one.description))
            yield f"  {description or 'a series without description'}{count}"
