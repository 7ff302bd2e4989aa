"""Storage commitment: the data sets of a request and of its report, and what their numbers mean.

References
----------
DICOM PS3.4 annex J (storage commitment, push model), PS3.3 C.14.1.1 (failure reason)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.uid import UID

PUSH_MODEL: Final = UID("1.2.840.10008.1.20.1")
PUSH_MODEL_INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
"""The well-known instance that requests and reports are about (PS3.4 J.3.5)."""

REQUEST: Final = 1
"""Action type of a request (table J.3-1)."""
ALL_COMMITTED: Final = 1
SOME_FAILED: Final = 2
"""Event types of a report (table J.3-2)."""

# Failure Reason (0008,1197), PS3.3 C.14.1.1
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
CLASS_NOT_SUPPORTED: Final = 0x0122
DUPLICATE_TRANSACTION: Final = 0x0131
RESOURCE_LIMITATION: Final = 0x0213

LONGEST_UID: Final = 64


class Reference(NamedTuple):
    """An instance that commitment is asked for."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Request:
    """A request for commitment."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True)
class Report:
    """The answer: what is committed to, and what is not, with the failure reason of each."""

    transaction_uid: str
    committed: tuple[Reference, ...] = ()
    failed: Mapping[Reference, int] = field(default_factory=dict)

    @property
    def event_type(self) -> int:
        """Event Type ID as which the report is sent."""
        return SOME_FAILED if self.failed else ALL_COMMITTED


def encode_request(request: Request) -> Dataset:
    """Return the Action Information of a request (table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = request.transaction_uid
    ds.ReferencedSOPSequence = [_item(reference) for reference in request.references]
    return ds


def decode_request(ds: Dataset) -> Request:
    """Read the Action Information of a request.

    Raises
    ------
    ValueError
        A UID is missing or malformed, or there are no instances.
    """
    references = _references(ds.get("ReferencedSOPSequence"))
    if not references:
        raise ValueError("no instances")
    return Request(_uid(ds.get("TransactionUID")), references)


def encode_report(report: Report) -> Dataset:
    """Return the Event Information of a report (table J.3-2)."""
    ds = Dataset()
    ds.TransactionUID = report.transaction_uid
    if report.committed:
        ds.ReferencedSOPSequence = [_item(reference) for reference in report.committed]
    if report.failed:
        ds.FailedSOPSequence = [_item(reference, reason) for reference, reason in report.failed.items()]
    return ds


def decode_report(ds: Dataset) -> Report:
    """Read the Event Information of a report, by what it lists and not by its event type.

    Raises
    ------
    ValueError
        A UID is missing or malformed.
    """
    failed = {}
    for item in ds.get("FailedSOPSequence") or ():
        (reference,) = _references([item])
        failed[reference] = int(item.get("FailureReason") or PROCESSING_FAILURE)
    committed = _references(ds.get("ReferencedSOPSequence"))
    return Report(
        _uid(ds.get("TransactionUID")), tuple(one for one in committed if one not in failed), failed
    )


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def _references(items: Iterable[Dataset] | None) -> tuple[Reference, ...]:
    return tuple(
        Reference(_uid(item.get("ReferencedSOPClassUID")), _uid(item.get("ReferencedSOPInstanceUID")))
        for item in items or ()
    )


def _uid(value: object) -> str:
    text = str(value or "")
    if not text or len(text) > LONGEST_UID or not set(text) <= set("0123456789."):
        raise ValueError("a UID is missing or malformed")
    return text
