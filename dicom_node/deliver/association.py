"""Opens associations to peers, and says in one line why one can't be opened."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.deliver.address import Address
from dicom_node.errors import DeliveryError
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID
from dicom_node.standard.status import CALLED_AE_NOT_RECOGNISED, CALLING_AE_NOT_RECOGNISED

MAX_PDU = 131072
RUN_LOOP_DELAY_S = 0.0002
"""Sleep of pynetdicom's DUL thread between two looks at an idle socket; its 1 ms halve the throughput."""


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for the TCP connection, for association messages, and for the answer to a request."""

    connect_s: float = 10.0
    acse_s: float = 30.0
    dimse_s: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()


class UnreachableError(DeliveryError):
    """Nobody took the association, or it broke: a later try may succeed."""


class RejectedError(DeliveryError):
    """The peer rejected the association for good (PS3.8 table 9-21): a configuration must be changed."""


class NoContextError(DeliveryError):
    """The peer took the association and none of the presentation contexts."""


class _Socket(AssociationSocket):  # type: ignore[misc]
    """Keeps the reason of a failed connection, and closes its socket.

    The base class only logs the reason, and leaves a socket without a peer to the garbage collector.
    """

    failure: OSError | None = None

    def _shutdown_socket(self) -> None:
        error = sys.exception()
        if isinstance(error, OSError) and not self._is_connected:
            self.failure = error
        super()._shutdown_socket()
        if self.socket is not None:
            self.socket.close()


class _Requestor(AE):  # type: ignore[misc]
    """An application entity whose associations have a :class:`_Socket`."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> _Socket:
        return _Socket(assoc, address=address)


@contextmanager
def associate(
    address: Address,
    ae_title: str,
    contexts: Sequence[PresentationContext],
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    max_pdu: int = MAX_PDU,
) -> Iterator[Association]:
    """Hold an established association; it is released at the end, or aborted when an error leaves the block.

    Parameters
    ----------
    address : Address
        The peer.
    ae_title : str
        Our own AE title.
    contexts : sequence of PresentationContext
        At most 128 (PS3.8 9.3.2.2: odd IDs of one byte).

    Raises
    ------
    UnreachableError
        Host not found, connection refused, or no answer in time.
    RejectedError
        The peer rejected the association.
    NoContextError
        The peer accepted no presentation context.
    """
    ae = _Requestor(ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.connection_timeout, ae.acse_timeout = timeouts.connect_s, timeouts.acse_s
    ae.dimse_timeout = ae.network_timeout = timeouts.dimse_s
    started = time.monotonic()
    try:
        assoc = ae.associate(
            address.host,
            address.port,
            list(contexts),
            ae_title=address.ae_title,
            max_pdu=max_pdu,
            evt_handlers=[(evt.EVT_CONN_OPEN, _connection_open)],
        )
    except socket.gaierror as error:
        raise UnreachableError(
            f"{address}: host {address.host!r} not found; check the name or the DNS"
        ) from error
    if not assoc.is_established:
        failure = assoc.dul.socket.failure
        if failure is not None:
            raise _connection_error(address, failure, timeouts) from failure
        raise _negotiation_error(assoc, address, ae_title, time.monotonic() - started, timeouts)
    try:
        yield assoc
    except BaseException:
        assoc.abort()
        raise
    if assoc.is_established:
        assoc.release()


def _connection_open(event: evt.Event) -> None:
    event.assoc.dul._run_loop_delay = RUN_LOOP_DELAY_S
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connection_error(address: Address, failure: OSError, timeouts: Timeouts) -> DeliveryError:
    if isinstance(failure, ConnectionRefusedError):
        return UnreachableError(
            f"{address}: connection refused; nothing listens on that port, or a firewall refuses it"
        )
    if isinstance(failure, TimeoutError):
        return UnreachableError(
            f"{address}: no answer within {timeouts.connect_s:g} s; check address, network and firewalls"
        )
    return UnreachableError(f"{address}: can't connect: {failure.strerror or failure}")


def _negotiation_error(
    assoc: Association, address: Address, ae_title: str, waited_s: float, timeouts: Timeouts
) -> DeliveryError:
    answer = assoc.acceptor.primitive
    if answer is not None and answer.result == 0:
        return NoContextError(f"{address}: took the association and none of the object types offered")
    if not assoc.is_rejected or answer is None:
        if waited_s >= timeouts.acse_s:
            return UnreachableError(
                f"{address}: takes connections but answered no association within {timeouts.acse_s:g} s"
            )
        return UnreachableError(
            f"{address}: broke off while the association was negotiated; is that a DICOM port?"
        )
    numbers = (answer.result, answer.result_source, answer.diagnostic)
    text = f"{address}: association rejected: {answer.reason_str}"
    if numbers[1:] == (CALLING_AE_NOT_RECOGNISED.source, CALLING_AE_NOT_RECOGNISED.diagnostic):
        text += f"; the PACS does not know our AE title {ae_title}: enter it there with this host's address"
    elif numbers[1:] == (CALLED_AE_NOT_RECOGNISED.source, CALLED_AE_NOT_RECOGNISED.diagnostic):
        text += f"; the peer does not go by the AE title {address.ae_title}"
    return RejectedError(text) if answer.result == 1 else UnreachableError(text)
