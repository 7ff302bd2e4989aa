"""The question whose study a destination has, put to Orthanc."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import mr_series
from pydicom import dcmread

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_find import c_find_patients
from dicom_node.deliver.c_store import send_files
from dicom_node.series.identity import identity_of
from tests.integration.systems import Orthanc

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_orthanc_says_whose_study_it_has(orthanc: Orthanc, tmp_path: Path) -> None:
    patient = {"PatientID": "4711-Ä", "IssuerOfPatientID": "Clinic", "PatientBirthDate": "19700101"}
    (path, *_) = mr_series(tmp_path / "sent", SpecificCharacterSet="ISO_IR 100", **patient)
    image = dcmread(path)
    address = Address("ORTHANC", "127.0.0.1", orthanc.port)
    assert c_find_patients(address, "LESIONNODE", image.StudyInstanceUID) == set()
    assert send_files(address, [path], "LESIONNODE")[0].outcome.stored
    (there,) = c_find_patients(address, "LESIONNODE", image.StudyInstanceUID)
    ours = identity_of(image)
    assert (there.patient_id, there.issuer, there.birth_date) == (
        ours.patient_id,
        ours.issuer,
        ours.birth_date,
    )
