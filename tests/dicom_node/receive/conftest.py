"""A receiver on a free port, what it reported, and small real objects to send to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom_node.deliver.association import Requestor
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.association import Association
from dicom_node.receive.limits import Limits
from dicom_node.receive.receiver_processes import Receivers
from dicom_node.spool.spool import Spool

WAIT_S = 20.0


class Recorder:
    """ReceiveEvents that keeps what it was told, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Association, tuple[Any, ...]]] = []
        self.raises: type[Exception] | None = None
        self._changed = threading.Condition()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith(("association_", "image_", "commitment_", "receiver_")):
            raise AttributeError(name)

        def note(association: Association, *details: Any) -> None:
            with self._changed:
                self.calls.append((name, association, details))
                self._changed.notify_all()
            if self.raises:
                raise self.raises("told to")

        return note

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [details for event, _, details in list(self.calls) if event == name]

    def wait(self, name: str, count: int = 1) -> list[tuple[Any, ...]]:
        """Return the details of an event once it was told ``count`` times."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(name)) >= count, WAIT_S), self.calls
        return self.of(name)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def start_scp(spool: Spool, recorder: Recorder) -> Iterator[Callable[..., Receivers]]:
    """Start a receiver called NODE; keywords replace the defaults."""
    started: list[Receivers] = []

    def start(
        *,
        admission: Admission | None = None,
        max_associations: int = 32,
        max_per_caller: int = 0,
        limits: Mapping[str, float] = MappingProxyType({}),
        **changes: Any,
    ) -> Receivers:
        values: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "ae_title": "NODE",
            "spool": spool,
            "gate": Gate(
                admission or Admission(),
                "NODE",
                max_associations=max_associations,
                max_per_caller=max_per_caller,
            ),
            "limits": Limits(**limits),  # type: ignore[arg-type]
            "tls": None,
            "events": recorder,
            "processes": 0,
        }
        scp = Receivers(**{**values, **changes})
        scp.start()
        started.append(scp)
        return scp

    yield start
    for scp in started:
        scp.stop()


@pytest.fixture
def associate() -> Iterator[Callable[..., Any]]:
    """Open an association to a port of this machine, as SCU to NODE."""
    opened: list[Any] = []
    sockets: list[Any] = []

    def connect(
        port: int, contexts: dict[str, list[str]] | None = None, *, calling: str = "SCU", called: str = "NODE"
    ) -> Any:
        ae = Requestor(calling)
        for uid, syntaxes in (
            contexts or {MRImageStorage: [ExplicitVRLittleEndian], "1.2.840.10008.1.1": []}
        ).items():
            ae.add_requested_context(uid, syntaxes or None)
        assoc = ae.associate("127.0.0.1", port, ae_title=called)
        opened.append(assoc)
        if assoc.is_established:
            sockets.append(assoc.dul.socket.socket)
        return assoc

    yield connect
    for assoc in opened:
        if assoc.is_established:
            assoc.release()
    for sock in sockets:
        sock.close()  # pynetdicom leaves it open when the other side has closed first
