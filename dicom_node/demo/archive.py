"""A small archive that plays the PACS in the demonstration and in tests: C-ECHO, C-STORE into a folder, C-FIND."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from dicom_node.receive.server import ReceiveServer
from dicom_node.standard.status import SUCCESS
from dicom_node.standard.uids import uid_key

PENDING = 0xFF00  # PS3.4 C.4.1.1.4
UNIQUE_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
PATIENT_KEYS = ("PatientID", "IssuerOfPatientID", "PatientBirthDate")


class Archive:
    """Keeps what it is sent under ``folder``, one file for each SOP instance, the first of two staying.

    Parameters
    ----------
    folder : Path
        Made when it is missing.
    ae_title, host, port : str, str, int
        Port 0 takes a free one.
    """

    def __init__(self, folder: Path, ae_title: str = "PACS", host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self._address = (host, port)
        self._lock = threading.Lock()
        self._index: dict[str, Dataset] = {}
        self._ae = AE(ae_title)
        self._ae.supported_contexts = AllStoragePresentationContexts
        self._ae.add_supported_context(Verification)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
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

    def _on_store(self, event: Any) -> int:
        path = self.folder / f"{uid_key(event.request.AffectedSOPInstanceUID)}.dcm"
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(event.encoded_dataset())
            part.replace(path)
        header = dcmread(
            path, stop_before_pixels=True, specific_tags=[*UNIQUE_KEYS, *PATIENT_KEYS, "SOPClassUID"]
        )
        with self._lock:
            self._index[UID(header.SOPInstanceUID)] = header
        return SUCCESS

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """Match unique keys (PS3.4 C.2.2.2.1), one response for each instance, or for each study at that level."""
        of_studies = event.identifier.QueryRetrieveLevel == "STUDY"
        keys = ("StudyInstanceUID", *PATIENT_KEYS) if of_studies else (*UNIQUE_KEYS, "SOPClassUID")
        with self._lock:
            headers = list(self._index.values())
        if of_studies:
            headers = list({header.StudyInstanceUID: header for header in headers}.values())
        for header in headers:
            if all(_matches(event.identifier, header, key) for key in UNIQUE_KEYS):
                answer = Dataset()
                answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
                for key in keys:
                    setattr(answer, key, header.get(key))
                yield PENDING, answer
        yield SUCCESS, None


def _matches(identifier: Dataset, header: Dataset, key: str) -> bool:
    wanted = identifier.get(key) or ""
    return not wanted or header.get(key) in ([wanted] if isinstance(wanted, str) else list(wanted))
