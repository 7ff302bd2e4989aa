"""The receiver processes of a node: started, listened to, and replaced when one dies."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dicom_node.receive.admission import Gatekeeper
from dicom_node.receive.association import Association, ReceiveEvents
from dicom_node.receive.channel import Channel, pair
from dicom_node.receive.commitment_scp import NO_TERMS, Terms
from dicom_node.receive.limits import Limits
from dicom_node.receive.listener import listen
from dicom_node.receive.scp import STOP_WAIT_S, StorageSCP
from dicom_node.spool.spool import Spool
from dicom_node.tls import ServerTls

LOGGER = logging.getLogger(__name__)

REPLACE_AFTER_S = 1.0
"""How long after its start a process that died is replaced at the earliest."""


@dataclass
class _Open:
    """An association of a process, and the last file that the process told of."""

    association: Association
    started: float = field(default_factory=time.monotonic)
    opened: bool = False
    images: int = 0
    last: str = ""


class Receivers:
    """Receives in processes that share one listening socket, or in this process.

    Parameters
    ----------
    host, port : str, int
        Where to listen; port 0 takes a free one.
    ae_title : str
        The node's own.
    spool : Spool
        Where objects go.
    gate : Gatekeeper
        Who may call, and how many at once over all processes.
    limits : Limits
        How long callers may take, and how much they may send.
    tls : ServerTls or None
        Makes TLS required.
    events : ReceiveEvents
        Is told what happens.
    processes : int
        How many; 0: none but this one.
    terms : Terms
        Of the commitment to images that others ask for.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        ae_title: str,
        spool: Spool,
        gate: Gatekeeper,
        limits: Limits,
        tls: ServerTls | None,
        events: ReceiveEvents,
        processes: int,
        terms: Terms = NO_TERMS,
    ) -> None:
        self._address = (host, port)
        self._ae_title = ae_title
        self._spool = spool
        self._gate = gate
        self._limits = limits
        self._tls = tls
        self._events = events
        self._count = processes
        self._terms = terms
        self._listener: socket.socket | None = None
        self._here: StorageSCP | None = None
        self._threads: list[threading.Thread] = []
        self._channels: set[Channel] = set()
        self._down: dict[int, str] = {}  # why processes that are to receive do not
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    @property
    def port(self) -> int:
        """The port that is listened on; the wanted one before the start."""
        return int(self._listener.getsockname()[1]) if self._listener else self._address[1]

    def start(self) -> None:
        """Bind the port once and begin to accept; connections wait in it until a process is ready for them.

        Raises
        ------
        PortTakenError, AddressError
            The port can't be had.
        ConfigError
            A file for TLS can't be used.
        """
        tls = self._tls.context() if self._tls else None
        self._listener = listen(*self._address)
        if not self._count:
            self._here = StorageSCP(
                listener=self._listener.dup(),
                ae_title=self._ae_title,
                spool=self._spool,
                gate=self._gate,
                limits=self._limits,
                tls=tls,
                events=self._events,
                terms=self._terms,
            )
            self._here.start()
        for number in range(self._count):
            thread = threading.Thread(
                target=self._keep, args=(number + 1,), name=f"receiver-{number + 1}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Close the port, abort the open associations and wait until their ends are reported."""
        with self._lock:
            self._stopping.set()
            channels = list(self._channels)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        here, self._here = self._here, None
        if here is not None:
            here.stop()
        for channel in channels:
            channel.send("stop")
        for thread in self._threads:
            thread.join(2 * STOP_WAIT_S)

    def troubles(self) -> Iterator[str]:
        """Yield which processes do not receive, for /healthz."""
        for number, reason in sorted(self._down.copy().items()):
            yield (
                f"receiver process {number} of {self._count} does not receive: it {reason} and is started again "
                "each second; the journal says more"
            )

    def _keep(self, number: int) -> None:
        """Keep one process running."""
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._run(number)
            except OSError as error:
                self._tell_down(number, f"can't be started ({error.strerror})")
                LOGGER.warning("receiver process %d can't be started: %s", number, error.strerror)
            except Exception:  # nothing else would receive again
                self._tell_down(number, "told what nobody understands")
                LOGGER.exception("receiver process %d is replaced", number)
            self._stopping.wait(max(0.0, started + REPLACE_AFTER_S - time.monotonic()))

    def _tell_down(self, number: int, reason: str) -> None:
        """Note why a process does not receive; said once until it does again, however often it ends at its start."""
        if number not in self._down:
            try:
                self._events.receiver_lost(f"{number} {reason}, and is started again")
            except Exception:
                LOGGER.exception("receiver process %d: its end could not be told", number)
        self._down[number] = reason

    def _run(self, number: int) -> None:
        """Run a process until its end, and do what it tells."""
        ours, theirs = pair()
        channel = Channel(ours)
        with self._lock:
            listener = self._listener
            if self._stopping.is_set() or listener is None:
                ours.close()
                theirs.close()
                return
            with theirs:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "dicom_node.receive.process",
                        str(listener.fileno()),
                        str(theirs.fileno()),
                    ],
                    pass_fds=(listener.fileno(), theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                )
            self._channels.add(channel)
        listening = _Listening(self._spool, self._gate, self._events)
        channel.send("begin", self._settings())
        try:
            while (message := channel.receive()) is not None and message[0] != "stopped":
                if message[0] == "ready":
                    self._down.pop(number, None)
                else:
                    listening.take(channel, message)
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()
            status = process.wait()
            listening.end()
            if not self._stopping.is_set():
                self._tell_down(number, f"ended with status {status}")
                LOGGER.error("receiver process %d ended with status %d and is replaced", number, status)

    def _settings(self) -> dict[str, Any]:
        tls = {name: path and str(path) for name, path in asdict(self._tls).items()} if self._tls else None
        return {
            "ae_title": self._ae_title,
            "root": str(self._spool.root),
            "high_water": self._spool.high_water,
            "limits": asdict(self._limits),
            "tls": tls,
            "terms": [self._terms.keep_s, sorted(self._terms.known)],
        }


class _Listening:
    """What one process tells, and what follows when it stops telling."""

    def __init__(self, spool: Spool, gate: Gatekeeper, events: ReceiveEvents) -> None:
        self._spool = spool
        self._gate = gate
        self._events = events
        self._open: dict[str, _Open] = {}

    def take(self, channel: Channel, message: list[Any]) -> None:
        """Do what a message asks for."""
        kind = message[0]
        if kind == "admit":
            association = Association(**message[2])
            refusal = self._gate.admit(association)
            if refusal is None:
                self._open[association.id] = _Open(association)
                channel.send("answer", message[1], None, "")
            else:
                reject = refusal.rejection
                numbers = [reject.result, reject.source, reject.diagnostic]
                channel.send("answer", message[1], numbers, refusal.reason)
        elif kind == "leave":
            association = Association(**message[1])
            self._gate.leave(association)
            self._open.pop(association.id, None)
        elif kind == "tell":
            self._tell(message[1], Association(**message[2]), message[3:])

    def end(self) -> None:
        """Account for the associations of a process that is gone, and for files that it did not tell of.

        What was complete when it died lies in the inbox, acknowledged or about to be.
        """
        for known in list(self._open.values()):
            association = known.association
            try:
                self._spool.recover(association.id)
            except OSError as error:  # the node's next start does it
                LOGGER.warning(
                    "association %s: its files can't be sorted out: %s", association.id, error.strerror
                )
            for path in self._spool.waiting(association.id):
                if path.name > known.last:
                    self._tell("image_stored", association, [str(path)])
            if known.opened:
                seconds = time.monotonic() - known.started
                self._tell("association_ended", association, [known.images, seconds])
            self._gate.leave(association)
        self._open.clear()

    def _tell(self, event: str, association: Association, details: list[Any]) -> None:
        known = self._open.get(association.id)
        if event == "image_stored":
            details = [Path(details[0])]
            if known:
                known.images += 1
                known.last = details[0].name
        elif event == "association_opened" and known:
            known.opened = True
        try:
            getattr(self._events, event)(association, *details)
        except Exception:
            LOGGER.exception("association %s: %s could not be handled", association.id, event)
