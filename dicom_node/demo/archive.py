"""A small archive that plays the PACS in the demonstration and in tests: C-ECHO, C-STORE into a folder, C-FIND, C-MOVE."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_node.receive.server import ReceiveServer
from dicom_node.standard.status import SUCCESS
from dicom_node.standard.uids import uid_key

PENDING = 0xFF00  # PS3.4 C.4.1.1.4
UNIQUE_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
PATIENT_KEYS = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")
LEVELS = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
"""Unique key of each level of the Study Root model (PS3.4 C.6.2.1)."""
INDEXED = (
    *UNIQUE_KEYS,
    *PATIENT_KEYS,
    "SOPClassUID",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "Modality",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
)


class Archive:
    """Keeps what it is sent under ``folder``, one file for each SOP instance, the first of two staying.

    Parameters
    ----------
    folder : Path
        Made when it is missing.
    ae_title, host, port : str, str, int
        Port 0 takes a free one.
    destinations : mapping of str to (str, int), optional
        Host and port of those to whom it sends by C-MOVE, by their AE titles.
    """

    def __init__(
        self,
        folder: Path,
        ae_title: str = "PACS",
        host: str = "127.0.0.1",
        port: int = 0,
        destinations: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.destinations = dict(destinations or {})
        self._address = (host, port)
        self._lock = threading.Lock()
        self._index: dict[str, Dataset] = {}
        self._ae = AE(ae_title)
        self._ae.supported_contexts = AllStoragePresentationContexts
        self._ae.add_supported_context(Verification)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        self._ae.add_requested_context(MRImageStorage)
        self._server: ReceiveServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port if self._server else self._address[1]

    def start(self) -> None:
        """Begin to listen."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_C_MOVE, self._on_move),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
        ]
        self._server = ReceiveServer(self._ae, self._address, evt_handlers=handlers, on_ended=lambda _: None)
        threading.Thread(target=self._server.serve_forever, name="archive", daemon=True).start()

    def stop(self) -> None:
        """Close the port; what was stored stays."""
        if self._server is not None:
            self._server.block_on_close = False
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def files(self) -> list[Path]:
        """Return the stored files, in the order of their names."""
        return sorted(self.folder.glob("*.dcm"))

    def keep(self, paths: Iterable[Path]) -> None:
        """Have files as if they had been sent, long ago."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            kept = self._path(str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID))
            kept.write_bytes(path.read_bytes())
            self._add(kept)

    def _path(self, sop_instance_uid: str) -> Path:
        return self.folder / f"{uid_key(sop_instance_uid)}.dcm"

    def _add(self, path: Path) -> None:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(INDEXED))
        with self._lock:
            self._index[UID(header.SOPInstanceUID)] = header

    def _on_store(self, event: Any) -> int:
        path = self._path(event.request.AffectedSOPInstanceUID)
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(event.encoded_dataset())
            part.replace(path)
        self._add(path)
        return SUCCESS

    def _matching(self, identifier: Dataset) -> list[Dataset]:
        with self._lock:
            headers = list(self._index.values())
        return [
            header
            for header in headers
            if all(_matches(identifier, header, key) for key in (*UNIQUE_KEYS, "PatientID"))
            and _is_within(str(header.get("StudyDate") or ""), str(identifier.get("StudyDate") or ""))
        ]

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Match unique keys, patient and days (PS3.4 C.2.2.2), one response for each entity of the level that is asked for."""
        identifier = event.identifier
        level = str(identifier.QueryRetrieveLevel)
        headers = self._matching(identifier)
        images = Counter(header.SeriesInstanceUID for header in headers)
        for header in {header[LEVELS[level]].value: header for header in headers}.values():
            answer = Dataset()
            answer.QueryRetrieveLevel = level
            if header.get("SpecificCharacterSet"):
                answer.SpecificCharacterSet = header.SpecificCharacterSet
            for key in ("StudyInstanceUID", *PATIENT_KEYS, *(element.keyword for element in identifier)):
                if key in INDEXED:
                    setattr(answer, key, header.get(key))
            if level == "IMAGE":
                answer.SeriesInstanceUID, answer.SOPClassUID = header.SeriesInstanceUID, header.SOPClassUID
            if "ModalitiesInStudy" in identifier:
                answer.ModalitiesInStudy = header.Modality
            if "NumberOfSeriesRelatedInstances" in identifier:
                answer.NumberOfSeriesRelatedInstances = images[header.SeriesInstanceUID]
            yield PENDING, answer
        yield SUCCESS, None

    def _on_move(self, event: Any) -> Iterator[Any]:
        """Send what matches to a destination that is known (PS3.4 C.4.2.2), on an association of its own."""
        destination = self.destinations.get(str(event.move_destination).strip())
        if destination is None:
            yield None, None  # A801
            return
        headers = self._matching(event.identifier)
        yield *destination, {"contexts": self._ae.requested_contexts}
        yield len(headers)
        for header in headers:
            yield PENDING, dcmread(self._path(header.SOPInstanceUID))


def _is_within(day: str, asked: str) -> bool:
    """Tell whether a day lies within a range as C-FIND gives it (PS3.4 C.2.2.2.5): ``A``, ``A-``, ``-B`` or ``A-B``."""
    first, dash, last = asked.partition("-")
    return (first or day) <= day <= ((last or day) if dash else (first or day))


def _matches(identifier: Dataset, header: Dataset, key: str) -> bool:
    wanted = identifier.get(key) or ""
    return not wanted or header.get(key) in ([wanted] if isinstance(wanted, str) else list(wanted))
