"""The receiver processes of a node: started, listened to, and replaced when one dies."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from dicom_node.receive.admission import Gatekeeper, Refusal
from dicom_node.receive.association import Association
from dicom_node.receive.channel import Channel, pair
from dicom_node.receive.commitment_scp import CommitmentPolicy
from dicom_node.receive.events import (
    AssociationEnded,
    AssociationEvent,
    AssociationOpened,
    ImageStored,
    ReceiveEvents,
    call,
    guarded,
)
from dicom_node.receive.limits import Limits
from dicom_node.receive.listener import listen
from dicom_node.receive.process_messages import (
    Admit,
    Admitted,
    Begin,
    FromNode,
    FromReceiver,
    Leave,
    Ready,
    Stop,
    Stopped,
    node_channel,
)
from dicom_node.receive.scp import STOP_WAIT_S, StorageSCP
from dicom_node.spool.spool import Spool
from dicom_node.tls import ServerTls

LOGGER = logging.getLogger(__name__)

REPLACE_AFTER_S = 1.0
"""Time after its start before which a process that died is not replaced."""

ToReceiver = Channel[FromNode, FromReceiver]


@dataclass
class _Session:
    """An association of a process, and the last file that the process told of."""

    association: Association
    started: float = field(default_factory=time.monotonic)
    opened: bool = False
    images: int = 0
    last_name: str = ""


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
    commitment : CommitmentPolicy
        For others that ask for commitment to their images.
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
        commitment: CommitmentPolicy | None = None,
    ) -> None:
        self._address = (host, port)
        self._ae_title = ae_title
        self._spool = spool
        self._gate = gate
        self._limits = limits
        self._tls = tls
        self._events = events
        self._count = processes
        self._commitment = commitment or CommitmentPolicy()
        self._listener: socket.socket | None = None
        self._here: StorageSCP | None = None
        self._threads: list[threading.Thread] = []
        self._channels: set[ToReceiver] = set()
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
                tell=partial(call, self._events),
                commitment=self._commitment,
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
            channel.send(Stop())
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
        channel = node_channel(ours)
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
                        "dicom_node.receive.receiver_process",
                        str(listener.fileno()),
                        str(theirs.fileno()),
                    ],
                    pass_fds=(listener.fileno(), theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                )
            self._channels.add(channel)
        sessions = _Sessions(self._spool, self._gate, self._events)
        channel.send(self._begin())
        try:
            while (message := channel.receive()) is not None:
                match message:
                    case Ready():
                        self._down.pop(number, None)
                    case Stopped():
                        break
                    case Admit(question, association):
                        channel.send(Admitted(question, sessions.admit(association)))
                    case Leave(association):
                        sessions.leave(association)
                    case _:
                        sessions.tell(message)
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()
            status = process.wait()
            sessions.end()
            if not self._stopping.is_set():
                self._tell_down(number, f"ended with status {status}")
                LOGGER.error("receiver process %d ended with status %d and is replaced", number, status)

    def _begin(self) -> Begin:
        return Begin(
            ae_title=self._ae_title,
            root=self._spool.root,
            high_water=self._spool.high_water,
            limits=self._limits,
            tls=self._tls,
            commitment=self._commitment,
        )


class _Sessions:
    """The associations of one process: counted in and out, and accounted for when the process dies."""

    def __init__(self, spool: Spool, gate: Gatekeeper, events: ReceiveEvents) -> None:
        self._spool = spool
        self._gate = gate
        self._call = guarded(partial(call, events))
        self._sessions: dict[str, _Session] = {}

    def admit(self, association: Association) -> Refusal | None:
        """Count an association in, or say why it is refused."""
        refusal = self._gate.admit(association)
        if refusal is None:
            self._sessions[association.id] = _Session(association)
        return refusal

    def leave(self, association: Association) -> None:
        """Count an association out."""
        self._gate.leave(association)
        self._sessions.pop(association.id, None)

    def tell(self, event: AssociationEvent) -> None:
        """Tell of an event, and note what must be known when no other follows."""
        session = self._sessions.get(event.association.id)
        if session is not None:
            match event:
                case ImageStored(_, path):
                    session.images += 1
                    session.last_name = path.name
                case AssociationOpened():
                    session.opened = True
        self._call(event)

    def end(self) -> None:
        """Account for the associations of a process that is gone, and for files that it did not tell of.

        What was complete when it died lies in the inbox, acknowledged or about to be.
        """
        for session in list(self._sessions.values()):
            association = session.association
            try:
                self._spool.recover(association.id)
            except OSError as error:  # the node's next start does it
                LOGGER.warning(
                    "association %s: its files can't be sorted out: %s", association.id, error.strerror
                )
            for path in self._spool.waiting(association.id):
                if path.name > session.last_name:
                    self.tell(ImageStored(association, path))
            if session.opened:
                seconds = time.monotonic() - session.started
                self.tell(AssociationEnded(association, session.images, seconds))
            self._gate.leave(association)
        self._sessions.clear()
