"""The demonstration's PACS answers questions on a patient's earlier studies, and sends a series to whom it knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.demo.archive import Archive

FIND, MOVE = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "pacs")
    for name, day, patient in (("a", "20240301", "P"), ("b", "20260101", "P"), ("c", "20240301", "Q")):
        tags = {"StudyDate": day, "PatientID": patient, "seed": name, "shape": (3, 8, 8)}
        archive.keep(mr_series(tmp_path / name, **tags))
    archive.start()
    yield archive
    archive.stop()


def asked(archive: Archive, level: str, **keys: Any) -> list[Dataset]:
    ae = AE("NODE")
    ae.add_requested_context(FIND)
    assoc = ae.associate("127.0.0.1", archive.port, ae_title="PACS")
    question = Dataset()
    question.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    answers = [answer for _, answer in assoc.send_c_find(question, FIND) if answer is not None]
    assoc.release()
    return answers


def test_earlier_study_is_found_by_patient_and_day_and_its_series_is_counted(archive: Archive):
    keys = {"PatientID": "P", "StudyDate": "-20251231", "StudyInstanceUID": "", "ModalitiesInStudy": ""}
    (study,) = asked(archive, "STUDY", **keys)
    assert (study.StudyDate, study.PatientID, study.ModalitiesInStudy) == ("20240301", "P", "MR")
    series_keys = {"SeriesInstanceUID": "", "SeriesDescription": "", "NumberOfSeriesRelatedInstances": ""}
    (series,) = asked(archive, "SERIES", StudyInstanceUID=study.StudyInstanceUID, **series_keys)
    assert (series.SeriesDescription, series.NumberOfSeriesRelatedInstances) == ("t2_tirm_tra_dark-fluid", 3)
    assert len(asked(archive, "STUDY", StudyInstanceUID="")) == 3


def test_series_goes_to_a_destination_that_is_known_and_to_no_other(archive: Archive):
    got: list[str] = []

    def on_store(event: Any) -> int:
        got.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    receiver = AE("NODE")
    receiver.add_supported_context(MRImageStorage)
    server = receiver.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
    wanted = dcmread(archive.files()[0])
    question = Dataset()
    question.QueryRetrieveLevel = "SERIES"
    question.StudyInstanceUID, question.SeriesInstanceUID = wanted.StudyInstanceUID, wanted.SeriesInstanceUID
    ae = AE("NODE")
    ae.add_requested_context(MOVE)
    assoc = ae.associate("127.0.0.1", archive.port, ae_title="PACS")
    try:
        *_, (status, _) = assoc.send_c_move(question, "NODE", MOVE)
        assert (status.Status, got) == (0xA801, [])
        archive.destinations["NODE"] = "127.0.0.1", server.socket.getsockname()[1]
        *_, (status, _) = assoc.send_c_move(question, "NODE", MOVE)
        assert status.Status == 0x0000 and len(set(got)) == 3
    finally:
        assoc.release()
        server.shutdown()
