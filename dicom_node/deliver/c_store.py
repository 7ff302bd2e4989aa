"""C-STORE towards a peer: files sent as they lie on the disk, and what became of each.

References
----------
DICOM PS3.4 B (storage), PS3.7 9.1.1 (C-STORE)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import _config
from pynetdicom.association import Association

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import (
    DEFAULT_TIMEOUTS,
    MAX_PDU,
    NoContextError,
    Timeouts,
    associate,
)
from dicom_node.deliver.payload import Payload, batches, inspect
from dicom_node.errors import DeliveryError, UnreadableError
from dicom_node.standard.status import (
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    category,
    describe,
    is_temporary,
)

# Files are sent as they lie on the disk, in pieces, and never decoded.
_config.STORE_SEND_CHUNKED_DATASET = True

DUPLICATE_SOP_INSTANCE = 0x0111  # PS3.7 C.5: the peer has an object of that UID already


class Outcome(StrEnum):
    """Fate of an object that was offered to a peer."""

    STORED = "stored"
    WARNING = "warning"  # stored, and the peer changed or doubts something
    RETRY = "retry"  # not now
    CLASS_REFUSED = "class refused"  # the peer does not take objects of this class
    FAILED = "failed"  # the peer refuses this object for good, or it can't be read

    @property
    def stored(self) -> bool:
        """True when the peer says that it has the object."""
        return self in (Outcome.STORED, Outcome.WARNING)


@dataclass(frozen=True)
class SendResult:
    """One file and what became of it; ``attempted`` is False when the association broke before its turn."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    outcome: Outcome
    reason: str = ""
    status: int | None = None
    attempted: bool = True
    comment: str = ""  # the peer's own words (0000,0902), which may name the patient: not for logs


def outcome_of(status: int) -> Outcome:
    """Classify a C-STORE status (PS3.4 table B.2-1, PS3.7 annex C)."""
    kind = category(status)
    if kind == "success":
        return Outcome.STORED
    if kind == "warning" or status == DUPLICATE_SOP_INSTANCE:
        return Outcome.WARNING
    if status == SOP_CLASS_NOT_SUPPORTED:
        return Outcome.CLASS_REFUSED
    if is_temporary(status) or status == PROCESSING_FAILURE:
        return Outcome.RETRY
    return Outcome.FAILED


def send_files(
    address: Address,
    paths: Iterable[Path],
    ae_title: str,
    progress: Callable[[SendResult], None] | None = None,
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    max_pdu: int = MAX_PDU,
    go_on: Callable[[], bool] = lambda: True,
) -> list[SendResult]:
    """Send files by C-STORE, byte for byte as they lie on the disk if the peer takes their transfer syntax.

    Parameters
    ----------
    progress : callable, optional
        Called with each result, also with those of files that can't be read or sent.
    go_on : callable, optional
        Asked before each file; after it says False the rest is left unattempted.

    Returns
    -------
    list of SendResult
        One for each path, unreadable ones first.

    Raises
    ------
    DeliveryError
        No association could be opened. What breaks later gives results to be tried again instead.
    """
    report = progress or (lambda _: None)
    results: list[SendResult] = []
    payloads: list[Payload] = []
    for path in paths:
        try:
            payloads.append(inspect(path))
        except UnreadableError as error:
            results.append(SendResult(path, "", "", Outcome.FAILED, str(error), attempted=False))
            report(results[-1])
    for batch, contexts in batches(payloads):
        try:
            with associate(address, ae_title, contexts, timeouts=timeouts, max_pdu=max_pdu) as assoc:
                results += _send_batch(assoc, batch, report, go_on)
            continue
        except NoContextError:
            left = [_refused(payload) for payload in batch]
        except DeliveryError as error:
            if not any(result.attempted for result in results):
                raise
            left = [_result(payload, Outcome.RETRY, str(error), attempted=False) for payload in batch]
        results += left
        for result in left:
            report(result)
    return results


def _send_batch(
    assoc: Association,
    batch: Sequence[Payload],
    report: Callable[[SendResult], None],
    go_on: Callable[[], bool],
) -> list[SendResult]:
    accepted = {(UID(cx.abstract_syntax), cx.transfer_syntax[0]) for cx in assoc.accepted_contexts}
    results: list[SendResult] = []
    broken = False
    for payload in batch:
        syntaxes = [uid for uid in payload.syntaxes if (payload.sop_class_uid, uid) in accepted]
        if not syntaxes:
            result = _refused(payload)
        elif broken or not go_on():
            result = _result(payload, Outcome.RETRY, "its turn did not come", attempted=False)
        else:
            result = _send_one(
                assoc, payload, verbatim=payload.consistent and syntaxes[0] == payload.transfer_syntax_uid
            )
            broken = result.status is None
        results.append(result)
        report(result)
    return results


def _send_one(assoc: Association, payload: Payload, *, verbatim: bool) -> SendResult:
    try:
        status = assoc.send_c_store(payload.path if verbatim else dcmread(payload.path))
    except OSError as error:
        assoc.abort()  # what was said of the object so far can't be taken back
        return _result(
            payload, Outcome.FAILED, f"{payload.path.name} can't be read: {error.strerror or error}"
        )
    except (AttributeError, ValueError):
        assoc.abort()
        return _result(payload, Outcome.FAILED, f"{payload.path.name} can't be encoded for sending")
    except RuntimeError:  # released or aborted by the peer since the last answer
        return _result(payload, Outcome.RETRY, "the association broke", attempted=False)
    if "Status" not in status:
        assoc.abort()
        return _result(payload, Outcome.RETRY, "the association broke, or there was no answer in time")
    code = int(status.Status)
    comment = str(status.get("ErrorComment", "") or "")
    reason = "" if code == 0 else describe(code)
    return _result(payload, outcome_of(code), reason, status=code, comment=comment)


def _refused(payload: Payload) -> SendResult:
    syntax = "" if payload.transcodable else f" as {payload.transfer_syntax_uid.name}"
    return _result(payload, Outcome.CLASS_REFUSED, f"{payload.sop_class_uid.name} is not accepted{syntax}")


def _result(
    payload: Payload,
    outcome: Outcome,
    reason: str,
    *,
    status: int | None = None,
    attempted: bool = True,
    comment: str = "",
) -> SendResult:
    return SendResult(
        path=payload.path,
        sop_class_uid=payload.sop_class_uid,
        sop_instance_uid=payload.sop_instance_uid,
        outcome=outcome,
        reason=reason,
        status=status,
        attempted=attempted,
        comment=comment,
    )
