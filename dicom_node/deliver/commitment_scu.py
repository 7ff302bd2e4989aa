"""Storage commitment on associations that we open: requests to a peer, and reports on its requests.

References
----------
DICOM PS3.4 annex J; PS3.7 10.1.1 (N-EVENT-REPORT), 10.1.4 (N-ACTION) and D.3.3.4 (role selection)
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import (
    DEFAULT_TIMEOUTS,
    NoContextError,
    RejectedError,
    Timeouts,
    UnreachableError,
    associate,
)
from dicom_node.errors import DeliveryError
from dicom_node.standard.commitment import (
    PUSH_MODEL,
    PUSH_MODEL_INSTANCE,
    REQUEST,
    Report,
    Request,
    decode_report,
    encode_report,
    encode_request,
)
from dicom_node.standard.status import PROCESSING_FAILURE, SUCCESS, describe, is_temporary

INVALID_ARGUMENT = 0x0115  # PS3.7 annex C.5.9
NATIVE = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]


class CommitmentRefusedError(DeliveryError):
    """The peer does not take such requests, so that no proof can be had from it."""


class CommitmentBrokenError(DeliveryError):
    """The peer took the association and not the request: a later one may succeed."""


def ask(
    address: Address,
    ae_title: str,
    request: Request,
    on_report: Callable[[Report], None],
    *,
    heard: threading.Event,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> None:
    """Ask a peer to commit to objects, and wait a short time for its report on the same association.

    Parameters
    ----------
    on_report : callable
        Called with a report that comes on this association, before it is acknowledged, on another thread.
    heard : threading.Event
        Ends the wait: set by this function, or by somebody who heard the report on another association.

    Raises
    ------
    CommitmentRefusedError
        It offers no storage commitment to us, or refuses.
    CommitmentBrokenError
        It broke off or lacks resources.
    UnreachableError
        It can't be reached.
    """

    def take(event: Any) -> tuple[int, None]:
        try:
            report = decode_report(event.event_information)
        except Exception:  # noqa: BLE001 - pydicom raises what it likes on what strangers send
            return INVALID_ARGUMENT, None
        on_report(report)
        reported.set()
        return SUCCESS, None

    def sent(_: Any) -> None:
        if (
            reported.is_set()
        ):  # the first PDU after it acknowledges it: a release before that breaks the protocol
            heard.set()

    def over(_: Any) -> None:
        heard.set()

    reported = threading.Event()
    handlers = [(evt.EVT_N_EVENT_REPORT, take), (evt.EVT_PDU_SENT, sent), (evt.EVT_CONN_CLOSE, over)]
    heard.clear()
    try:
        with associate(
            address, ae_title, [build_context(PUSH_MODEL, NATIVE)], timeouts=timeouts, handlers=handlers
        ) as assoc:
            try:
                status, _ = assoc.send_n_action(
                    encode_request(request), REQUEST, PUSH_MODEL, PUSH_MODEL_INSTANCE
                )
            except RuntimeError as error:  # released or aborted since
                raise CommitmentBrokenError("it broke off when asked for storage commitment") from error
            if "Status" not in status:
                raise CommitmentBrokenError("it broke off or fell silent when asked for storage commitment")
            code = int(status.Status)
            if is_temporary(code) or code == PROCESSING_FAILURE:
                raise CommitmentBrokenError(f"it answered the request for commitment with {describe(code)}")
            if code != SUCCESS:
                raise CommitmentRefusedError(f"it answered the request for commitment with {describe(code)}")
            heard.wait(timeouts.report_s)
    except (NoContextError, RejectedError) as error:
        raise CommitmentRefusedError("it offers no storage commitment") from error


def offer(address: Address, ae_title: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
    """See whether a peer offers storage commitment to us, without asking for any.

    Raises
    ------
    CommitmentRefusedError
        It does not.
    UnreachableError
        It can't be reached.
    """
    try:
        with associate(address, ae_title, [build_context(PUSH_MODEL, NATIVE)], timeouts=timeouts):
            pass
    except NoContextError as error:
        raise CommitmentRefusedError(
            f'{address}: offers no storage commitment; allow it there, or set confirm = "c-find"'
        ) from error


def report_to(
    address: Address, ae_title: str, report: Report, *, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> None:
    """Tell a peer what we commit to, on an association of our own, on which we are the provider.

    Raises
    ------
    DeliveryError
        It can't be reached, or does not take the report.
    """
    role = build_role(PUSH_MODEL, scp_role=True)
    with associate(
        address, ae_title, [build_context(PUSH_MODEL, NATIVE)], timeouts=timeouts, roles=[role]
    ) as assoc:
        status, _ = assoc.send_n_event_report(
            encode_report(report), report.event_type, PUSH_MODEL, PUSH_MODEL_INSTANCE
        )
        if "Status" not in status:
            raise UnreachableError(f"{address}: did not answer the report on storage commitment")
        if status.Status != SUCCESS:
            raise DeliveryError(
                f"{address}: answered the report on storage commitment with {describe(int(status.Status))}"
            )
