"""One association on one thread.

pynetdicom runs two threads for each association, which look for work in turns and sleep between. Here the
thread of the connection does all of it: it waits on the socket and nowhere else, steps pynetdicom's state
machine, and answers. Negotiation, release, abort and every service but C-STORE are pynetdicom's own.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association as PynetdicomAssociation
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ

from dicom_node.receive.dimse import ProtocolError
from dicom_node.receive.limits import Limits
from dicom_node.receive.messages import Messages, StoreHandler
from dicom_node.receive.timed_socket import ClosedError, LateError, TimedSocket

LOGGER = logging.getLogger(__name__)

P_DATA_TF = 0x04
KNOWN_PDUS = range(0x01, 0x08)
READY, CLOSING, IDLE = "Sta6", "Sta13", "Sta1"
"""States of PS3.8 9.2."""

OTHER_PDU_LIMIT = 1 << 20
"""Bytes that any PDU but P-DATA may have: an association request with 128 contexts of 30 syntaxes has 120 kB."""

PDU_TOLERANCE = 64
"""Bytes by which a P-DATA PDU may exceed the length that was agreed: some peers don't count its headers."""

LINGER_S = 2.0
"""Time for a peer to close after it was told that the association is over."""


class SteppedDUL(DULServiceProvider):  # type: ignore[misc]
    """pynetdicom's upper layer without a thread: whoever waits for something steps it."""

    assoc: SteppedAssociation
    socket: TimedSocket

    def __init__(self, assoc: SteppedAssociation) -> None:
        super().__init__(assoc)
        self._head = bytearray(6)
        self._body = bytearray(0)
        self.messages = Messages(assoc)

    def start(self) -> None:
        """Take up the connection; there is no thread to start."""
        self.assoc._dul_ready.set()
        self._run_events()

    def is_alive(self) -> bool:
        """Tell whether there is a connection to step on."""
        return not self._kill_thread

    def send_pdu(self, primitive: Any) -> None:
        """Send at once; what is left to say when the connection is over is dropped."""
        if self.state_machine.current_state in (CLOSING, IDLE):
            return
        super().send_pdu(primitive)
        self._process_recv_primitive()
        self._run_events()

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """Return the next primitive for the service user; waiting means stepping."""
        while wait and self.to_user_queue.empty() and self.is_alive():
            self.step()
        return super().receive_pdu(wait=False)

    def step(self) -> None:
        """Wait for a PDU that pynetdicom has to do something about, and have that done.

        What comes before it, and is the handler's alone, is taken.
        """
        try:
            if self.state_machine.current_state == CLOSING:
                self.socket.drain(LINGER_S)
                self.socket.close()
            else:
                while self._read() and not self.assoc.is_stopping:
                    pass
            self._run_events()
        except LateError as error:
            self.assoc.cut_off(str(error))
        except Exception as error:
            if not isinstance(error, (ProtocolError, ClosedError)):
                LOGGER.exception("association of %s is aborted", self.assoc.requestor.address)
            self.assoc.cut_off(str(error) if isinstance(error, ProtocolError) else "")

    def abandon(self) -> None:
        """Abort without the state machine, which may be in any state."""
        if self.is_alive():
            self.socket.send(ABORT)
            if self.socket.socket is not None:
                self.socket.drain(LINGER_S)
                self.socket.close()
        self.state_machine.current_state = IDLE
        self.kill_dul()

    def _run_events(self) -> None:
        while self.is_alive():
            try:
                event = self.event_queue.get(block=False)
            except queue.Empty:
                return
            self.state_machine.do_action(event)

    def _read(self) -> bool:
        """Read a PDU, and tell whether it has been dealt with; otherwise there is an event or a message now."""
        limits = self.assoc.limits
        is_ready = self.state_machine.current_state == READY
        if is_ready:
            seconds, late = limits.idle_s, f"it sent nothing for {limits.idle_s:g} s"
        else:
            seconds, late = self.assoc.request_left(), f"no association request within {limits.request_s:g} s"
        if not self._fill(memoryview(self._head), seconds, late):
            return False
        kind, length = self._head[0], int.from_bytes(self._head[2:], "big")
        if kind not in KNOWN_PDUS:
            self.event_queue.put("Evt19")
            return False
        allowed = limits.max_pdu + PDU_TOLERANCE if kind == P_DATA_TF and is_ready else OTHER_PDU_LIMIT
        if length > allowed:
            raise ProtocolError(f"a PDU of {length} bytes, {allowed} are allowed")
        if length > len(self._body):
            self._body = bytearray(length)
        body = memoryview(self._body)[:length]
        if is_ready:
            seconds, late = limits.pdu_s, f"a PDU took longer than {limits.pdu_s:g} s"
        else:
            seconds = self.assoc.request_left()
        if not self._fill(body, seconds, late):
            return False
        if kind == P_DATA_TF and is_ready:
            return self.messages.take(body)
        try:
            pdu, event = self._decode_pdu(self._head + body)
        except Exception:  # noqa: BLE001 - whatever a peer's bytes do to pynetdicom's parser
            self.event_queue.put("Evt19")
            return False
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)
        return False

    def _fill(self, view: memoryview, seconds: float, late: str) -> bool:
        """Read; False when the connection is closed, which is an event of its own."""
        try:
            self.socket.fill(view, seconds)
        except LateError:
            raise LateError(late) from None
        except ClosedError:
            if self.assoc.is_stopping:
                self.assoc.cut_off("")
            else:
                self.event_queue.put("Evt17")
            return False
        return True


class SteppedAssociation(PynetdicomAssociation):  # type: ignore[misc]
    """An accepted connection's association, run by calling :meth:`run_reactor` on the connection's thread.

    Parameters
    ----------
    ae, mode
        As for pynetdicom.
    limits : Limits
        For how long, and how much.
    """

    dul: SteppedDUL

    def __init__(self, ae: Any, mode: str, limits: Limits) -> None:
        super().__init__(ae, mode)
        self.limits = limits
        self.store_handler: StoreHandler | None = None
        self.after_response: list[Callable[[], None]] = []  # done once the message at work is answered
        self.dul = SteppedDUL(self)
        self.connection: Any = None
        self.why_cut_off = ""
        self.is_stopping = False
        self._request_deadline = time.monotonic() + limits.request_s

    def request_left(self) -> float:
        """Return the seconds that are left for the association request to arrive."""
        return max(0.001, self._request_deadline - time.monotonic())

    def cut_off(self, reason: str) -> None:
        """End an association whose peer does not keep to the rules, or that broke."""
        self.why_cut_off = self.why_cut_off or reason
        self.is_aborted = True
        self.is_established = False
        self._kill = True
        self.dul.abandon()

    def stop(self) -> None:
        """Have the association aborted by its own thread; may be called from any."""
        self.is_stopping = True
        if self.dul.socket is not None:
            self.dul.socket.hang_up()

    def kill(self) -> None:
        """End the association: wait until the peer has closed, for a short time."""
        self._kill = True
        self.is_established = False
        while self.dul.is_alive():
            if self.dul.state_machine.current_state in (CLOSING, IDLE):
                if self.dul.state_machine.current_state == IDLE:
                    self.dul.kill_dul()
                    return
                self.dul.step()
            else:
                self.dul.abandon()

    def _run_reactor(self) -> None:
        """Serve until the end: each step waits for the peer."""
        while not self._kill:
            if self.is_stopping:
                self.cut_off("")
                return
            self.dul.step()
            while not self._kill and (item := self.dimse.get_msg(block=False)) != (None, None):
                self._serve_request(item[1], item[0])
                while self.after_response:
                    self.after_response.pop(0)()
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.is_established = False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted():
                self.is_aborted = True
                self.is_established = False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()


def _abort_pdu() -> bytes:
    pdu = A_ABORT_RQ()
    pdu.source, pdu.reason_diagnostic = 0x02, 0x00
    return bytes(pdu.encode())


ABORT = _abort_pdu()
"""A-ABORT by the service provider, reason not specified (PS3.8 9.3.8)."""
