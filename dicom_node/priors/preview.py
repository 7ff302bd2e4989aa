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
from dicom_node.priors.preference import RULE, asked_in_turn, choice_in_words, choose_prior
from dicom_node.priors.prior import own_priors
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
    if done is not None and done.choice:
        yield done.choice
    own, lines = own_priors(store, spool, examination, archive.section)
    yield from (f"here: {line}" for line in lines)
    if (best := choose_prior(own.values(), examination)) is not None:
        others = [one for one in own.values() if one is not best]
        yield f"of those here {choice_in_words(best, others)}"
    try:
        catalogue = catalogue_of(archive, examination, patient, spool.identity_key, set(own))
    except PriorError as error:
        raise PriorError(f"{archive.name}: {error}") from error
    for line in catalogue.lines():
        yield f"{archive.name}: {line}"
    turns = asked_in_turn([*own.values(), *catalogue.choices], examination, archive.section.max_studies)
    if len(turns) > 1:
        yield f"studies are asked for one after the other, until one is {RULE}"
    for choice in catalogue.choices:
        days = examination.days_since(choice.day)
        turn = turns.index(choice) if choice in turns else None
        told = (
            "would not be asked for"
            if turn is None
            else "would be asked for" + (" if the newer ones are of grade C" if turn else "")
        )
        yield f"study of {choice.day}, {days} days earlier: {told}"
        for one in choice.series:
            count = "" if one.images is None else f", {one.images} images"
            description = "".join(filter(str.isprintable, one.description))
            yield f"  {description or 'a series without description'}{count}"
