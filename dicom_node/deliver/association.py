"""Opens associations to peers, and says in one line why one can't be opened."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationSocket

from dicom_node.deliver.address import Address
from dicom_node.deliver.bounded_association import BoundedMessages, check_pdu
from dicom_node.deliver.reactor_pause import ReactorPause
from dicom_node.errors import ConfigError, DeliveryError
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID
from dicom_node.standard.status import CALLED_AE_NOT_RECOGNISED, CALLING_AE_NOT_RECOGNISED
from dicom_node.tls import explain_peer

MAX_PDU = 131072
RUN_LOOP_DELAY_S = 0.0002
"""Sleep of pynetdicom's DUL thread between two looks at an idle socket; its 1 ms halve the throughput."""


@dataclass(frozen=True)
class Timeouts:
    """Waits for the TCP connection, association messages, an answer, and for a report on the same association."""

    connect_s: float = 10.0
    acse_s: float = 30.0
    dimse_s: float = 60.0
    report_s: float = 5.0


DEFAULT_TIMEOUTS = Timeouts()


class UnreachableError(DeliveryError):
    """Nobody took the association, or it broke: a later try may succeed."""


class TlsError(UnreachableError):
    """No secure connection: a certificate or a setting must be changed, there or here, and then it goes on."""


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

    def recv(self, nr_bytes: int) -> bytearray:
        """Read bytes of a PDU that is not too long, and keep what TLS says.

        In TLS 1.3 a peer refuses our certificate after the handshake.
        """
        check_pdu(nr_bytes)
        try:
            return bytearray(super().recv(nr_bytes))
        except ssl.SSLError as error:
            self.failure = error
            raise


class Requestor(AE):  # type: ignore[misc]
    """An application entity whose associations have a :class:`_Socket`, a :class:`ReactorPause` and bounded messages."""

    takes_objects = False
    """True where the peer may store objects on them."""

    def associate(self, *args: Any, **options: Any) -> Association:
        """Ask for an association, and take a rejection for one however fast it came.

        When the peer has rejected and closed before pynetdicom looks whether it is connected, pynetdicom takes
        that for a connection that failed, and leaves the rejection unread.
        """
        assoc = super().associate(*args, **options)
        if assoc.is_aborted and assoc.acceptor.primitive is None:
            answer = assoc.dul.receive_pdu()
            if isinstance(answer, A_ASSOCIATE) and answer.result:
                assoc.acceptor.primitive = answer
                assoc.is_aborted, assoc.is_rejected = False, True
        return assoc

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> _Socket:
        assoc._reactor_checkpoint = ReactorPause(assoc)
        assoc.dimse = BoundedMessages(assoc, takes_objects=self.takes_objects)
        sock = _Socket(assoc, address=address)
        sock.tls_args = tls_args
        return sock


@contextmanager
def associate(
    address: Address,
    ae_title: str,
    contexts: Sequence[PresentationContext],
    *,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
    max_pdu: int = MAX_PDU,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    handlers: Sequence[tuple[Any, ...]] = (),
    takes_objects: bool = False,
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
    roles : sequence of SCP_SCU_RoleSelectionNegotiation
        Roles to negotiate, where they are not the usual ones.
    handlers : sequence of tuple
        Events of pynetdicom and what handles them, for what the peer may ask.
    takes_objects : bool
        The peer may store objects on it, as C-GET has it.

    Raises
    ------
    UnreachableError
        Host not found, connection refused, or no answer in time.
    TlsError
        The peer's certificate is not accepted, or it does not accept ours.
    RejectedError
        The peer rejected the association.
    NoContextError
        The peer accepted no presentation context.
    """
    ae = Requestor(ae_title)
    ae.takes_objects = takes_objects
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.connection_timeout, ae.acse_timeout = timeouts.connect_s, timeouts.acse_s
    ae.dimse_timeout = ae.network_timeout = timeouts.dimse_s
    started = time.monotonic()
    tls_args = None
    if address.tls is not None:
        try:
            tls_args = (address.tls.context(), address.tls.name or address.host)
        except ConfigError as error:
            raise TlsError(f"{address}: {error}") from error
    try:
        assoc = ae.associate(
            address.host,
            address.port,
            list(contexts),
            ae_title=address.ae_title,
            max_pdu=max_pdu,
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, _connection_open), *handlers],
            tls_args=tls_args,
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
    if isinstance(failure, ssl.SSLError) and address.tls is not None:
        return TlsError(f"{address}: {explain_peer(failure, address.tls, address.host)}")
    if isinstance(failure, ConnectionRefusedError):
        return UnreachableError(
            f"{address}: connection refused; nothing listens on that port, or a firewall refuses it"
        )
    if isinstance(failure, TimeoutError):
        return UnreachableError(
            f"{address}: no answer within {timeouts.connect_s:g} s; check address, network and firewalls"
        )
    if isinstance(failure, ConnectionError) and address.tls is not None:
        return TlsError(f"{address}: broke off in the TLS handshake; does that port speak TLS?")
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
            f"{address}: broke off while the association was negotiated; is that a DICOM port"
            + (", and our certificate one that it accepts?" if address.tls else " without TLS?")
        )
    numbers = (answer.result, answer.result_source, answer.diagnostic)
    text = f"{address}: association rejected: {answer.reason_str}"
    if numbers[1:] == (CALLING_AE_NOT_RECOGNISED.source, CALLING_AE_NOT_RECOGNISED.diagnostic):
        text += f"; the PACS does not know our AE title {ae_title}: enter it there with this host's address"
    elif numbers[1:] == (CALLED_AE_NOT_RECOGNISED.source, CALLED_AE_NOT_RECOGNISED.diagnostic):
        text += f"; the peer does not go by the AE title {address.ae_title}"
    return RejectedError(text) if answer.result == 1 else UnreachableError(text)
