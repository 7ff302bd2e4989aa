"""A PACS that can be told to misbehave, and that remembers all it was sent."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from tests.integration.systems import free_port, wait_until

CLASSES = (
    SegmentationStorage,
    Comprehensive3DSRStorage,
    EnhancedSRStorage,
    BasicTextSRStorage,
    SecondaryCaptureImageStorage,
)
SUCCESS, OUT_OF_RESOURCES, COERCED = 0x0000, 0xA700, 0xB000


class Pacs:
    """Stores what it is sent in memory.

    Attributes
    ----------
    status : callable
        Gets SOP Instance UID and how often that was sent before; returns the C-STORE status.
    shows : callable
        Whether C-FIND shows an object that was stored.
    before_store : callable
        Gets pynetdicom's event before anything is done with it.
    sent : Counter
        How often each SOP Instance UID was offered.
    held : dict
        SOP Instance UID to the data set that was stored.
    """

    def __init__(self, name: str = "pacs", classes: tuple[Any, ...] = CLASSES) -> None:
        self.name = name
        self.port = free_port()
        self.status: Callable[[str, int], int] = lambda uid, before: SUCCESS
        self.shows: Callable[[str], bool] = lambda uid: True
        self.before_store: Callable[[Any], None] = lambda event: None
        self.sent: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.held: dict[str, Dataset] = {}
        self._of_series: defaultdict[str, list[str]] = defaultdict(list)
        self.associations = 0
        self._lock = threading.Lock()
        self.ae = AE("PACS")
        for context in (Verification, StudyRootQueryRetrieveInformationModelFind):
            self.ae.add_supported_context(context)
        for sop_class in classes:
            self.ae.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._server: Any = None

    def destination(self, **options: Any) -> dict[str, Any]:
        """Return it as a ``[[destination]]`` table."""
        return {"name": self.name, "ae_title": "PACS", "host": "127.0.0.1", "port": self.port, **options}

    def start(self) -> None:
        """Listen."""
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_REQUESTED, self._on_requested),
        ]
        self._server = self.ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def wait_for_association(self) -> None:
        """Wait for another one."""
        before = self.associations
        wait_until(lambda: self.associations > before, 15, "an association")

    def _on_requested(self, event: Any) -> None:
        with self._lock:
            self.associations += 1

    def _on_store(self, event: Any) -> int:
        self.before_store(event)
        uid = str(event.request.AffectedSOPInstanceUID)
        with self._lock:
            before = self.sent[uid]
            self.sent[uid] += 1
            status = self.status(uid, before)
            if status in (SUCCESS, COERCED):
                self.stored[uid] += 1
                if uid not in self.held:
                    self._of_series[event.dataset.SeriesInstanceUID].append(uid)
                self.held[uid] = event.dataset
        return status

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        if query.QueryRetrieveLevel == "STUDY":
            yield from self._find_study(query)
            return
        with self._lock:
            held = [uid for uid in self._of_series[query.SeriesInstanceUID] if uid in self.held]
        for uid in held:
            if query.get("SOPInstanceUID") in (None, "", uid) and self.shows(uid):
                answer = Dataset()
                answer.QueryRetrieveLevel, answer.SOPInstanceUID = "IMAGE", uid
                yield 0xFF00, answer

    def _find_study(self, query: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        with self._lock:
            held = [ds for ds in self.held.values() if ds.StudyInstanceUID == query.StudyInstanceUID]
        for ds in held[:1]:
            answer = Dataset()
            for keyword in ("StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate"):
                setattr(answer, keyword, ds.get(keyword, ""))
            yield 0xFF00, answer
