"""C-FIND towards a peer: does it show the objects that it took, and whose study does it have?

References
----------
DICOM PS3.4 C.4.1 (C-FIND), C.6.2.1 (Study Root information model)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import (
    DEFAULT_TIMEOUTS,
    NoContextError,
    RejectedError,
    Timeouts,
    associate,
)
from dicom_node.errors import DeliveryError
from dicom_node.series.identity import Identity, identity_of
from dicom_node.series.reading import tolerant
from dicom_node.standard.status import SUCCESS, is_temporary

PENDING = (0xFF00, 0xFF01)  # PS3.4 table C.4-1: a match follows


class FindRefusedError(DeliveryError):
    """The peer does not answer such questions, so that no proof can be had from it."""


class FindBrokenError(DeliveryError):
    """The peer broke off while it was asked."""


class Instance(NamedTuple):
    """The UIDs by which an object is asked for."""

    study_uid: str
    series_uid: str
    sop_instance_uid: str


def c_find_missing(
    address: Address, ae_title: str, objects: Iterable[Instance], *, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> set[str]:
    """Ask a peer for objects, and return the SOP Instance UIDs of those that it does not show.

    A series of several is listed as a whole, then what is missing is asked for one by one, since peers cut
    long lists; a single object is asked for first, then its series is listed, since some match no further.

    Parameters
    ----------
    address : Address
        The peer.
    ae_title : str
        Our own AE title.
    objects : iterable of Instance
        Study, series and SOP Instance UID of each.

    Raises
    ------
    FindRefusedError
        It offers no C-FIND to us, or refuses the questions.
    FindBrokenError
        It took the association and broke off, or lacks resources.
    UnreachableError
        It can't be reached.
    """
    by_series: dict[tuple[str, str], set[str]] = defaultdict(set)
    for study_uid, series_uid, sop_instance_uid in objects:
        by_series[study_uid, series_uid].add(sop_instance_uid)
    missing: set[str] = set()
    try:
        with associate(address, ae_title, [find_context()], timeouts=timeouts) as assoc:
            for (study_uid, series_uid), wanted in by_series.items():
                missing |= wanted - _shown(assoc, study_uid, series_uid, wanted)
    except (NoContextError, RejectedError) as error:
        raise FindRefusedError("it offers no C-FIND") from error
    return missing


def c_find_patients(
    address: Address, ae_title: str, study_uid: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> set[Identity]:
    """Ask a peer for a study, and return the patients under whom it has it; none where it has no such study.

    Asked for are ID, issuer and birth date; "" stands for what the peer leaves blank.

    Raises
    ------
    FindRefusedError
        It offers no C-FIND to us, or refuses the question.
    FindBrokenError
        It took the association and broke off, or lacks resources.
    RejectedError
        It rejects our associations.
    UnreachableError
        It can't be reached.
    """
    ds = Dataset()
    ds.QueryRetrieveLevel = "STUDY"
    ds.StudyInstanceUID = study_uid
    for keyword in ("PatientID", "IssuerOfPatientID", "PatientBirthDate"):
        setattr(ds, keyword, "")
    try:
        with associate(address, ae_title, [find_context()], timeouts=timeouts) as assoc, tolerant():
            answers = answers_of(assoc, ds)
            return {patient for answer in answers if (patient := _patient_in(answer, study_uid)) is not None}
    except NoContextError as error:
        raise FindRefusedError("it offers no C-FIND") from error


def _patient_in(answer: Dataset, study_uid: str) -> Identity | None:
    """Return the patient whom an answer names; None for an answer about another study."""
    try:
        return None if (answer.get("StudyInstanceUID") or study_uid) != study_uid else identity_of(answer)
    # Elements are decoded where they are looked at.
    except Exception as error:
        raise FindRefusedError("its answer to C-FIND can't be read") from error


def find_context() -> PresentationContext:
    """Return the presentation context of such questions."""
    return build_context(
        StudyRootQueryRetrieveInformationModelFind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    )


def _shown(assoc: Association, study_uid: str, series_uid: str, wanted: set[str]) -> set[str]:
    questions = [*sorted(wanted), ""] if len(wanted) == 1 else ["", *sorted(wanted)]
    shown: set[str] = set()
    refusals = 0
    for question in questions:
        if wanted <= shown or (question and question in shown):
            continue
        try:
            shown |= _ask(assoc, study_uid, series_uid, question)
        except FindRefusedError:
            refusals += 1
            if refusals == 2:  # with and without a SOP Instance UID
                raise
    return shown & wanted


def _ask(assoc: Association, study_uid: str, series_uid: str, sop_instance_uid: str) -> set[str]:
    """SOP Instance UIDs that match; all of the series when `sop_instance_uid` is empty."""
    ds = Dataset()
    ds.QueryRetrieveLevel = "IMAGE"
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid
    ds.SOPInstanceUID = sop_instance_uid
    answers = answers_of(assoc, ds)
    return {str(answer.SOPInstanceUID) for answer in answers if answer.get("SOPInstanceUID")}


def answers_of(assoc: Association, ds: Dataset) -> Iterator[Dataset]:
    """Yield what a peer answers to one question."""
    try:
        answers = assoc.send_c_find(ds, StudyRootQueryRetrieveInformationModelFind)
    except RuntimeError as error:  # released or aborted since the last answer
        raise FindBrokenError("it broke off when asked by C-FIND") from error
    for status, identifier in answers:
        if "Status" not in status:
            assoc.abort()
            raise FindBrokenError("it broke off or fell silent when asked by C-FIND")
        if status.Status in PENDING:
            if identifier is not None:
                yield identifier
        elif is_temporary(status.Status):
            raise FindBrokenError(f"it answered C-FIND with {status.Status:04X}, out of resources")
        elif status.Status != SUCCESS:
            raise FindRefusedError(f"it answered C-FIND with {status.Status:04X}")
