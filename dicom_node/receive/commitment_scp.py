"""Storage commitment on associations that others open: their requests to us, and their reports on ours.

References
----------
DICOM PS3.4 annex J; PS3.7 10.1.1 (N-EVENT-REPORT) and 10.1.4 (N-ACTION)
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from dicom_node.errors import SpoolError
from dicom_node.receive.association import Association
from dicom_node.receive.commitment_provider import CommitmentProvider
from dicom_node.receive.events import CommitmentAsked, CommitmentGiven, CommitmentReported, Tell
from dicom_node.spool.durable import write_durably
from dicom_node.spool.series_folder import make_folder
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST,
    RESOURCE_LIMITATION,
    Reference,
    Report,
    Request,
    decode_report,
    decode_request,
    encode_report,
)
from dicom_node.standard.status import SUCCESS

# PS3.7 annex C.5
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
NO_SUCH_ACTION = 0x0123

Answer = tuple[int, Dataset | None]
"""Status and data set of the response."""

PROMPT_S = 5.0
"""Time that the response to an asker without an address here may wait for the report; some give up after 10 s."""

FOLDER = "commitments"
"""Folder of the data folder with requests that are to be answered on an association of ours."""


@dataclass(frozen=True)
class CommitmentPolicy:
    """For how long images are committed to, and on which association each asker is answered.

    Attributes
    ----------
    keep_s : float
        For how long images that were committed to are kept, from then; 0: for ever.
    known : frozenset of str
        AE titles of those whose address is known: they are answered on a new association, by whoever is told.
        All others are answered on the association on which they ask.
    """

    keep_s: float = 0.0
    known: frozenset[str] = frozenset()


class CommitmentService:
    """Handles N-ACTION and N-EVENT-REPORT on associations that others have opened to us.

    Parameters
    ----------
    spool : Spool
        Holds the images.
    policy : CommitmentPolicy
        For how long, and where to answer.
    """

    def __init__(self, spool: Spool, policy: CommitmentPolicy) -> None:
        self._spool = spool
        self._provider = CommitmentProvider(spool, policy.keep_s)
        self._known = policy.known

    def asked(self, event: Any, association: Association, tell: Tell) -> Answer:
        """Take a request; CommitmentAsked or CommitmentGiven tells of it."""
        if event.request.RequestedSOPInstanceUID != PUSH_MODEL_INSTANCE:
            return NO_SUCH_INSTANCE, None
        if event.action_type != REQUEST:
            return NO_SUCH_ACTION, None
        try:
            request = decode_request(event.action_information)
        except Exception:  # noqa: BLE001 - pydicom raises what it likes on what strangers send
            return INVALID_ARGUMENT, None
        assoc = event.assoc
        asker = assoc.requestor.ae_title.strip()
        if asker in self._known:
            try:
                if not self._spool.has_room():
                    return RESOURCE_LIMITATION, None
                tell(CommitmentAsked(association, write_request(self._spool, asker, request)))
            except SpoolError:
                return RESOURCE_LIMITATION, None
        else:
            # Where that takes a moment only, the report is ready before the response: both then reach the asker
            # together, which may release as soon as it has the response.
            is_filed = self._provider.wait_filed(request, PROMPT_S)
            report = self._provider.commit_now(request) if is_filed else None

            def answer_here() -> None:
                given = report or self._provider.commit(request)
                tell(CommitmentGiven(association, len(given.committed), len(given.failed)))
                _send_report(assoc, event.context, given)

            assoc.after_response.append(answer_here)
        return SUCCESS, None

    def reported(self, event: Any, association: Association, tell: Tell) -> Answer:
        """Take a report on a request of ours; CommitmentReported tells of it."""
        try:
            report = decode_report(event.event_information)
        except Exception:  # noqa: BLE001 - see above
            return INVALID_ARGUMENT, None
        committed = tuple(one.sop_instance_uid for one in report.committed)
        failed = {one.sop_instance_uid: reason for one, reason in report.failed.items()}
        tell(CommitmentReported(association, report.transaction_uid, committed, failed))
        return SUCCESS, None


def _send_report(assoc: Any, context: Any, report: Report) -> None:
    """Send a report on the asker's own association, if it is still there; its answer is not waited for."""
    if assoc.is_established:
        assoc.dimse.send_msg(_message(report, UID(context.transfer_syntax)), context.context_id)


def write_request(spool: Spool, asker: str, request: Request) -> str:
    """Write a request down, durably, and return the name of its file.

    Raises
    ------
    SpoolError
        The request, or the folder of requests, can't be written.
    """
    folder = spool.root / FOLDER
    make_folder(folder)
    path = folder / f"{secrets.token_hex(8)}.json"
    text = json.dumps(
        {"asker": asker, "transaction": request.transaction_uid, "instances": request.references}
    )
    write_durably(path, text)
    return path.name


def read_request(path: Path) -> tuple[str, Request]:
    """Return who asked, and the request.

    Raises
    ------
    ValueError
        The file is not one of these.
    OSError
        It can't be read now.
    """
    text = path.read_bytes()
    try:
        values = json.loads(text)
        references = tuple(Reference(*one) for one in values["instances"])
        return str(values["asker"]), Request(str(values["transaction"]), references)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: not a request: {type(error).__name__}") from error


def _message(report: Report, syntax: UID) -> N_EVENT_REPORT:
    encoded = encode(encode_report(report), syntax.is_implicit_VR, syntax.is_little_endian)
    assert encoded is not None, "a data set of UIDs can be encoded"
    message = N_EVENT_REPORT()
    message.MessageID = 1
    message.AffectedSOPClassUID = PUSH_MODEL
    message.AffectedSOPInstanceUID = PUSH_MODEL_INSTANCE
    message.EventTypeID = report.event_type
    message.EventInformation = BytesIO(encoded)
    return message
