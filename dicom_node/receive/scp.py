"""The storage SCP: takes objects as bytes, has them on the disk, and only then answers Success."""

from __future__ import annotations

import logging
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext

from dicom_node import __version__
from dicom_node.receive.admission import Gatekeeper
from dicom_node.receive.association import Association
from dicom_node.receive.c_store import CStoreProvider
from dicom_node.receive.commitment_scp import CommitmentPolicy
from dicom_node.receive.events import (
    AssociationCut,
    AssociationEnded,
    AssociationOpened,
    AssociationRefused,
    Tell,
    guarded,
)
from dicom_node.receive.limits import Limits
from dicom_node.receive.server import ReceiveServer
from dicom_node.receive.services import Handler, services
from dicom_node.spool.spool import Spool
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID, TRANSFER_SYNTAXES, is_storage_class
from dicom_node.tls import explain_caller

LOGGER = logging.getLogger(__name__)

_SYNTAXES = [str(syntax) for syntax in TRANSFER_SYNTAXES]

STOP_WAIT_S = 5.0
"""Time that a stop gives aborted associations to end."""


@dataclass
class _Session:
    """An association and what has come over it."""

    association: Association
    started: float = field(default_factory=time.monotonic)
    opened: bool = False
    c_store: CStoreProvider | None = None


class StorageSCP:
    """Accepts DICOM associations and stores what comes over them in the spool.

    Parameters
    ----------
    listener : socket
        What connections are accepted from, bound and listening. Other processes may accept from it, too.
    ae_title : str
        The node's own.
    spool : Spool
        Where objects go.
    gate : Gatekeeper
        Who may call, and how many at once.
    limits : Limits
        How long callers may take, and how much they may send.
    tls : ssl.SSLContext or None
        Makes TLS required.
    tell : callable
        Told what happens, on the threads of the associations; what it raises is logged.
    commitment : CommitmentPolicy
        For others that ask for commitment to their images.
    """

    def __init__(
        self,
        *,
        listener: socket.socket,
        ae_title: str,
        spool: Spool,
        gate: Gatekeeper,
        limits: Limits,
        tls: ssl.SSLContext | None,
        tell: Tell,
        commitment: CommitmentPolicy,
    ) -> None:
        self.spool = spool
        self.gate = gate
        self.limits = limits
        self._tell = guarded(tell)
        self._changed = threading.Condition()
        self._sessions: dict[Any, _Session] = {}
        ae = AE(ae_title.strip())
        ae.maximum_pdu_size = limits.max_pdu
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = f"DICOM_NODE_{__version__}"[:16]
        # The limit is ours to count: pynetdicom's counts connections that have not asked for anything yet.
        ae.maximum_associations = 1_000_000
        handlers: list[Any] = [(evt.EVT_REQUESTED, self._on_requested), (evt.EVT_ACCEPTED, self._on_accepted)]
        for service in services(spool, commitment):
            role = True if service.either_role else None
            syntaxes = [str(uid) for uid in TRANSFER_SYNTAXES[:3]]
            ae.add_supported_context(service.abstract_syntax, syntaxes, scu_role=role, scp_role=role)
            handlers.append((service.event, partial(self._on_service, service.handler)))
        self._server = ReceiveServer(
            ae,
            listener,
            evt_handlers=handlers,
            on_ended=self._on_ended,
            limits=limits,
            ssl_context=tls,
            on_unsecured=self._on_unsecured,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="receive", daemon=True)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port, abort the open associations and wait until their ends are reported."""
        self._server.shutdown()
        self._server.pending.hang_up()
        for assoc in self._server.active_associations:
            assoc.stop()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._sessions, STOP_WAIT_S):
                LOGGER.warning("%d associations did not end in %g s", len(self._sessions), STOP_WAIT_S)
        self._thread.join(STOP_WAIT_S)

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
            self._sessions[assoc] = session
        refusal = self.gate.admit(session.association)
        if refusal is not None:
            self._tell(AssociationRefused(session.association, refusal.reason))
            reject = refusal.rejection
            assoc.acse.send_reject(reject.result, reject.source, reject.diagnostic)
            assoc.kill()  # waits until the rejection is on its way and the peer has closed
            return
        assoc.acceptor.supported_contexts += _storage_contexts(request.presentation_context_definition_list)

    def _on_accepted(self, event: Any) -> None:
        assoc = event.assoc
        session = self._sessions[assoc]
        session.opened = True
        accepted = {
            cx.context_id: cx.transfer_syntax[0]
            for cx in assoc.accepted_contexts
            if is_storage_class(cx.abstract_syntax)
        }
        session.c_store = assoc.store_handler = CStoreProvider(
            session.association, self.spool, accepted, self.limits.max_object, self._tell
        )
        self._tell(AssociationOpened(session.association))

    def _on_ended(self, assoc: Any) -> None:
        """Forget an association whose thread has ended, however it did."""
        session = self._sessions.get(assoc)
        if session is None:
            if assoc.why_cut_off:
                self._refuse_unknown(assoc.requestor.address, assoc.why_cut_off)
            return
        try:
            if session.opened:
                if assoc.why_cut_off:
                    self._tell(AssociationCut(session.association, assoc.why_cut_off))
                images = session.c_store.close() if session.c_store else 0
                seconds = time.monotonic() - session.started
                self._tell(AssociationEnded(session.association, images, seconds))
        finally:  # its place is another's now, whatever went wrong
            self.gate.leave(session.association)
            with self._changed:
                del self._sessions[assoc]
                self._changed.notify_all()

    def _on_unsecured(self, address: str, error: OSError) -> None:
        self._refuse_unknown(address, f"TLS: {explain_caller(error)}")

    def _refuse_unknown(self, address: str, reason: str) -> None:
        """Report a caller that never got as far as a request."""
        nobody = Association(id=secrets.token_hex(6), calling_ae="", address=address, called_ae="")
        self._tell(AssociationRefused(nobody, reason))

    def _on_service(self, handler: Handler, event: Any) -> Any:
        """Let another service answer, which may tell of the association."""
        return handler(event, self._sessions[event.assoc].association, self._tell)


def _storage_contexts(requested: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Return what of a request is accepted: what is storage, private classes too, in the encodings that we take.

    Anything else is refused by its absence. Encodings that nobody asks for are left out: to make all of them
    for each of a request's classes takes longer than the rest of the association.
    """
    offered: dict[str, set[str]] = {}
    for context in requested:
        offered.setdefault(str(context.abstract_syntax), set()).update(map(str, context.transfer_syntax))
    # Where no encoding fits, any one makes this the reason for the refusal.
    return [
        build_context(uid, [syntax for syntax in _SYNTAXES if syntax in syntaxes] or _SYNTAXES[:1])
        for uid, syntaxes in offered.items()
        if is_storage_class(uid)
    ]
