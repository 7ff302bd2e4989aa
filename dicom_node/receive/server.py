"""The listening socket and the connections: what pynetdicom's server does not do for us.

One thread accepts and does nothing else; each connection has a thread that does all of its work, the TLS
handshake included, and that says once, whatever the way, that it is over.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node.receive.connection import Limits, SteppedAssociation
from dicom_node.receive.listener import listen
from dicom_node.receive.wire import Wire

# pynetdicom's own handlers format every PDU and log identifiers of patients; the node has its worklog.
_config.LOG_HANDLER_LEVEL = "none"

LOGGER = logging.getLogger(__name__)


class ConnectionHandler(RequestHandler):  # type: ignore[misc]
    """Serves one connection from its acceptance to its end."""

    server: ReceiveServer

    def handle(self) -> None:
        """Run the association until it is over."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._secured()
        if connection is None:
            return
        assoc = self._associate(connection)
        try:
            evt.trigger(assoc, evt.EVT_CONN_OPEN, {"address": self.client_address})
            assoc.run_reactor()
        finally:
            self.server.forget(assoc)
            connection.close()
            self.server.on_ended(assoc)

    def _secured(self) -> socket.socket | None:
        """Return the connection, after the handshake where TLS is wanted; None when that fails."""
        context = self.server.ssl_context
        connection: socket.socket = self.request
        if context is None:
            return connection
        try:
            connection.settimeout(self.server.limits.request_s)
            secured: socket.socket = context.wrap_socket(connection, server_side=True)
        except OSError as error:
            self.server.on_unsecured(self.client_address[0], error)
            self.request.close()
            return None
        return secured

    def _associate(self, connection: socket.socket) -> SteppedAssociation:
        """Make the association as pynetdicom's handler does, of our class."""
        server, ae = self.server, self.ae
        assoc = SteppedAssociation(ae, "acceptor", server.limits)
        assoc._server = server
        assoc.name = f"association {self.client_address[0]}"
        assoc.set_socket(Wire(assoc, client_socket=connection))
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
        self._listener = listen(*address) if isinstance(address, tuple) else address
        super().__init__(
            ae,
            self._listener.getsockname(),
            ae.ae_title,
            ae.supported_contexts,
            ssl_context=ssl_context,
            evt_handlers=evt_handlers,
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
