"""The listening socket and the connections: what pynetdicom's server does not do for us.

One thread accepts; each connection has a thread that waits until its association has ended, whatever the way,
and says so once.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

# pynetdicom's own handlers format every PDU and log identifiers of patients; the node has its worklog.
_config.LOG_HANDLER_LEVEL = "none"

LOGGER = logging.getLogger(__name__)

RUN_LOOP_DELAY_S = 0.0005
"""How long the reactor of an association sleeps when it finds nothing to do.

pynetdicom's 1 ms is waited once or more for each image. Shorter costs an idle association a share of a
core: 0.8 % at 1 ms, 1.7 % at 0.5 ms, 4 % at 0.2 ms.
"""

STALLED_S = 60
"""A peer that sends nothing for so long in the middle of a PDU is cut off."""

BACKLOG = 128
"""Connections that may wait to be accepted; more than a PACS opens at once."""


class ConnectionHandler(RequestHandler):  # type: ignore[misc]
    """Serves one connection from its acceptance to its end."""

    server: ReceiveServer

    def handle(self) -> None:
        """Start the association and wait until it is over."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # As options of the socket, so that it stays a blocking one, whose reads need no poll before each.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.request.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALLED_S, 0))
        assoc = self._create_association()
        assoc.dul._run_loop_delay = RUN_LOOP_DELAY_S
        try:
            evt.trigger(assoc, evt.EVT_CONN_OPEN, {"address": self.client_address})
            assoc.start()
            assoc.join()
        finally:
            self.request.close()  # pynetdicom leaves it open when the peer has closed first
            self.server.on_ended(assoc)


class ReceiveServer(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections on one socket.

    Parameters
    ----------
    ae : pynetdicom.AE
        Gives limits and timeouts.
    address : tuple of str and int
        Host and port to listen on; port 0 takes a free one.
    on_ended : callable
        Called with the pynetdicom association when its thread has ended.

    Raises
    ------
    OSError
        The address can't be resolved or bound.
    """

    request_queue_size = BACKLOG
    daemon_threads = True

    def __init__(
        self, ae: AE, address: tuple[str, int], *, evt_handlers: list[Any], on_ended: Callable[[Any], None]
    ) -> None:
        self.on_ended = on_ended
        super().__init__(
            ae,
            address,
            ae.ae_title,
            ae.supported_contexts,
            evt_handlers=evt_handlers,
            request_handler=ConnectionHandler,
        )
        ae._servers.append(self)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; the others go on."""
        LOGGER.exception("connection from %s failed", client_address[0])
