"""The listening socket and the connections: what pynetdicom's server does not do for us.

One thread accepts and does nothing else; each connection has a thread that does all of its work, the TLS
handshake included, and that says once, whatever the way, that it is over.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.receive.connection import SteppedAssociation
from dicom_node.receive.limits import Limits
from dicom_node.receive.listener import listen
from dicom_node.receive.timed_socket import TimedSocket

# pynetdicom's own handlers format every PDU and log identifiers of patients; the node has its worklog.
_config.LOG_HANDLER_LEVEL = "none"

LOGGER = logging.getLogger(__name__)

MOST_PENDING = 64
"""Connections without an association request that are kept at once."""


class ConnectionHandler(RequestHandler):  # type: ignore[misc]
    """Serves one connection from its acceptance to its end."""

    server: ReceiveServer
    request: socket.socket

    def handle(self) -> None:
        """Run the association until it is over."""
        self.server.pending.add(self)
        try:
            if self._secure():
                self._serve()
        finally:
            self.server.pending.discard(self)
            self.request.close()

    def hang_up(self) -> None:
        """Close the connection for the thread that waits at it; called from another one."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.request, socket.SHUT_RDWR)

    def _secure(self) -> bool:
        """Do the handshake where TLS is wanted, and tell whether the connection can be used."""
        context = self.server.ssl_context
        try:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                secured = context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
                self.request = secured  # what another thread would have to close from now on
                secured.settimeout(self.server.limits.request_s)
                secured.do_handshake()
        except OSError as error:
            self.server.on_unsecured(self.client_address[0], error)
            return False
        return True

    def _serve(self) -> None:
        assoc = self._associate(self.request)
        try:
            evt.trigger(assoc, evt.EVT_CONN_OPEN, {"address": self.client_address})
            assoc.run_reactor()
        finally:
            self.server.forget(assoc)
            self.server.on_ended(assoc)

    def _associate(self, connection: socket.socket) -> SteppedAssociation:
        """Make the association as pynetdicom's handler does, of our class."""
        server, ae = self.server, self.ae
        assoc = SteppedAssociation(ae, "acceptor", server.limits)
        assoc._server = server
        assoc.connection = self
        assoc.name = f"association {self.client_address[0]}"
        assoc.set_socket(TimedSocket(assoc, client_socket=connection))
        assoc.acceptor.maximum_length = ae.maximum_pdu_size
        assoc.acceptor.ae_title = server.ae_title
        assoc.acceptor.address_info = self.local
        assoc.acceptor.implementation_class_uid = ae.implementation_class_uid
        assoc.acceptor.implementation_version_name = ae.implementation_version_name
        assoc.acceptor.supported_contexts = deepcopy(server.contexts)
        assoc.requestor.address_info = self.remote
        for event, handlers in server._handlers.items():
            for handler in [handlers] if event.is_intervention else handlers:
                assoc.bind(event, *handler)
        server.remember(assoc)
        return assoc


class PendingConnections:
    """The connections that have not asked for an association yet.

    Nobody knows who they are, so that no limit of a caller counts them. When they are too many, those that
    have waited longest are cut off: a caller that means it asks at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handlers: dict[ConnectionHandler, None] = {}

    def add(self, handler: ConnectionHandler) -> None:
        """Count a new connection, and make room for it."""
        with self._lock:
            oldest = next(iter(self._handlers)) if len(self._handlers) >= MOST_PENDING else None
            if oldest is not None:
                del self._handlers[oldest]
            self._handlers[handler] = None
        if oldest is not None:
            oldest.hang_up()

    def hang_up(self) -> None:
        """Close all of them."""
        with self._lock:
            handlers = list(self._handlers)
        for handler in handlers:
            handler.hang_up()

    def discard(self, handler: ConnectionHandler) -> None:
        """Count a connection no longer: it has asked, or is over."""
        with self._lock:
            self._handlers.pop(handler, None)


class ReceiveServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections on one socket.

    Parameters
    ----------
    ae : pynetdicom.AE
        Gives titles and PDU size.
    address : tuple of str and int, or socket
        Host and port to listen on, port 0 takes a free one; or what listens already.
    on_ended : callable
        Called with the pynetdicom association when its connection is over.
    limits : Limits
        How long peers may take, and how much they may send.
    ssl_context : ssl.SSLContext, optional
        Makes TLS required.
    on_unsecured : callable, optional
        Called with the address and the error when a handshake fails.

    Raises
    ------
    AddressError, PortTakenError
        The address can't be resolved or bound.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        ae: AE,
        address: tuple[str, int] | socket.socket,
        *,
        evt_handlers: list[Any],
        on_ended: Callable[[Any], None],
        limits: Limits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_unsecured: Callable[[str, OSError], None] = lambda address, error: None,
    ) -> None:
        self.on_ended = on_ended
        self.on_unsecured = on_unsecured
        self.limits = limits or Limits(max_pdu=ae.maximum_pdu_size)
        self._lock = threading.Lock()
        self._open: set[SteppedAssociation] = set()
        self.pending = PendingConnections()
        self._listener = listen(*address) if isinstance(address, tuple) else address
        super().__init__(
            ae,
            self._listener.getsockname(),
            ae.ae_title,
            ae.supported_contexts,
            ssl_context=ssl_context,
            evt_handlers=[(evt.EVT_REQUESTED, self._on_requested), *evt_handlers],
            request_handler=ConnectionHandler,
        )
        ae._servers.append(self)

    def server_bind(self) -> None:
        """Take the socket that listens already in place of the one that socketserver made."""
        self.socket.close()
        self.socket: socket.socket = self._listener

    def server_activate(self) -> None:
        """Do nothing: it listens."""

    def server_close(self) -> None:
        """Close our end of the socket; another process that inherited it may go on listening."""
        self.socket.close()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def active_associations(self) -> list[SteppedAssociation]:
        """The associations whose connections are open."""
        with self._lock:
            return list(self._open)

    def remember(self, assoc: SteppedAssociation) -> None:
        """Note an association whose connection is open."""
        with self._lock:
            self._open.add(assoc)

    def forget(self, assoc: SteppedAssociation) -> None:
        """Note that an association's connection is over."""
        with self._lock:
            self._open.discard(assoc)

    def _on_requested(self, event: Any) -> None:
        self.pending.discard(event.assoc.connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and leave what may take time to its own thread."""
        connection, address = self.socket.accept()
        connection.setblocking(True)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close a connection whose thread is done with it; its end was agreed on before."""
        request.close()

    def service_actions(self) -> None:
        """Leave garbage collection to Python."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; the others go on."""
        LOGGER.exception("connection from %s failed", client_address[0])
