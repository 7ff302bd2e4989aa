"""The storage SCP: takes objects as bytes, has them on the disk, and only then answers Success."""

from __future__ import annotations

import errno
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pynetdicom import AE, build_context, evt

from dicom_node import __version__
from dicom_node.errors import AddressError, NodeError, PortTakenError
from dicom_node.receive.admission import Admission
from dicom_node.receive.association import Association, ReceiveEvents
from dicom_node.receive.connection import Limits
from dicom_node.receive.server import ReceiveServer
from dicom_node.receive.spool import Spool
from dicom_node.receive.storing import Storing
from dicom_node.standard.contexts import (
    IMPLEMENTATION_CLASS_UID,
    TRANSFER_SYNTAXES,
    VERIFICATION,
    is_storage_class,
)
from dicom_node.standard.status import SUCCESS

__all__ = ["Association", "ReceiveEvents", "StorageSCP"]

LOGGER = logging.getLogger(__name__)

STOP_WAIT_S = 5.0
"""How long a stop waits for aborted associations to end."""


@dataclass
class _Session:
    """An association and what has come over it."""

    association: Association
    started: float = field(default_factory=time.monotonic)
    admitted: bool = False
    opened: bool = False
    storing: Storing | None = None


class StorageSCP:
    """Listens for DICOM associations and stores what comes over them in the spool.

    Parameters
    ----------
    ae_title : str
        The node's own.
    host, port : str, int
        Where to listen; port 0 takes a free one.
    spool : Spool
        Where objects go.
    admission : Admission
        Who may call.
    limits : Limits
        How long callers may take, and how much they may send.
    max_associations : int
        How many may be open at once.
    events : ReceiveEvents
        Is told what happens.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int,
        spool: Spool,
        admission: Admission,
        limits: Limits | None = None,
        max_associations: int = 32,
        events: ReceiveEvents,
    ) -> None:
        self.ae_title = ae_title.strip()
        self.host = host
        self.spool = spool
        self.admission = admission
        self.limits = limits or Limits()
        self.max_associations = max_associations
        self.events = events
        self._wanted_port = port
        self._changed = threading.Condition()
        self._sessions: dict[Any, _Session] = {}
        self._server: ReceiveServer | None = None
        self._thread: threading.Thread | None = None
        self._ae = AE(self.ae_title)
        self._ae.maximum_pdu_size = self.limits.max_pdu
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = f"DICOM_NODE_{__version__}"[:16]
        # The limit is ours to count: pynetdicom's counts connections that have not asked for anything yet.
        self._ae.maximum_associations = 1_000_000
        self._ae.add_supported_context(VERIFICATION, [str(uid) for uid in TRANSFER_SYNTAXES[:3]])

    @property
    def port(self) -> int:
        """The port that it listens on; the wanted one before the start."""
        return self._server.port if self._server else self._wanted_port

    def start(self) -> None:
        """Bind the port once and begin to accept; clears what an earlier crash left half written.

        Raises
        ------
        PortTakenError
            Somebody else listens there, or the port needs rights that this user lacks.
        AddressError
            The host is not an address of this machine.
        """
        handlers: list[tuple[Any, Callable[..., Any]]] = [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_ACCEPTED, self._on_accepted),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
        ]
        address = (self.host, self._wanted_port)
        try:
            self._server = ReceiveServer(
                self._ae, address, evt_handlers=handlers, on_ended=self._on_ended, limits=self.limits
            )
        except socket.gaierror as error:
            raise AddressError(
                f"[node] host {self.host!r} can't be resolved: give an address of this machine"
            ) from error
        except PermissionError as error:
            raise PortTakenError(
                f"port {self._wanted_port} needs more rights: choose a [node] port of 1024 or more"
            ) from error
        except OSError as error:
            raise self._bind_error(error) from error
        kept, removed = self.spool.recover()
        if kept or removed:
            LOGGER.warning("a crash left %d whole files and %d half-written ones, removed now", kept, removed)
        self._thread = threading.Thread(target=self._server.serve_forever, name="receive", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port, abort the open associations and wait until their ends are reported."""
        server, self._server = self._server, None
        if server is None:
            return
        server.block_on_close = False
        server.shutdown()
        for assoc in server.active_associations:
            assoc.stop()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._sessions, STOP_WAIT_S):
                LOGGER.warning("%d associations did not end in %g s", len(self._sessions), STOP_WAIT_S)
        if self._thread:
            self._thread.join(STOP_WAIT_S)

    def _bind_error(self, error: OSError) -> NodeError:
        if error.errno == errno.EADDRINUSE:
            return PortTakenError(
                f"port {self._wanted_port} is in use: choose another [node] port, or stop what listens there"
            )
        return AddressError(f"[node] host {self.host!r} can't be listened on: {error.strerror}")

    def _on_requested(self, event: Any) -> None:
        """Admit or reject, before pynetdicom negotiates; offer what fits the request."""
        assoc = event.assoc
        request = assoc.requestor.primitive
        session = _Session(
            Association(
                id=secrets.token_hex(6),
                calling_ae=request.calling_ae_title.strip(),
                address=assoc.requestor.address,
                called_ae=request.called_ae_title.strip(),
            )
        )
        with self._changed:
            refusal = self.admission.check(
                session.association,
                ae_title=self.ae_title,
                already_open=sum(other.admitted for other in self._sessions.values()),
                limit=self.max_associations,
            )
            session.admitted = refusal is None
            self._sessions[assoc] = session
        if refusal is not None:
            self._tell("association_refused", session.association, refusal.reason)
            reject = refusal.rejection
            assoc.acse.send_reject(reject.result, reject.source, reject.diagnostic)
            assoc.kill()  # waits until the rejection is on its way and the peer has closed
            return
        # What is asked for and is storage, private classes too; anything else is refused by its absence.
        storage = {str(cx.abstract_syntax) for cx in request.presentation_context_definition_list}
        assoc.acceptor.supported_contexts += [
            build_context(uid, [str(syntax) for syntax in TRANSFER_SYNTAXES])
            for uid in storage
            if is_storage_class(uid)
        ]

    def _on_accepted(self, event: Any) -> None:
        assoc = event.assoc
        session = self._sessions[assoc]
        session.opened = True
        accepted = {
            cx.context_id: cx.transfer_syntax[0]
            for cx in assoc.accepted_contexts
            if is_storage_class(cx.abstract_syntax)
        }
        session.storing = assoc.taker = Storing(
            session.association, self.spool, accepted, self.limits.max_object, self._tell
        )
        self._tell("association_opened", session.association)

    def _on_ended(self, assoc: Any) -> None:
        """Forget an association whose thread has ended, however it did."""
        session = self._sessions.get(assoc)
        if session is None:
            return
        if session.opened:
            images = session.storing.close() if session.storing else 0
            seconds = time.monotonic() - session.started
            self._tell("association_ended", session.association, images, seconds)
        with self._changed:
            del self._sessions[assoc]
            self._changed.notify_all()

    def _tell(self, event: str, association: Association, *details: Any) -> None:
        """Report an event; what its receiver does wrong must not reach the caller on the network."""
        try:
            getattr(self.events, event)(association, *details)
        except Exception:
            LOGGER.exception("association %s: %s could not be handled", association.id, event)
