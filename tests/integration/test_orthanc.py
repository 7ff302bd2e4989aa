"""A real clinical FLAIR through the node into Orthanc, with programs that are not ours at both ends."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.series.writer import volume_from_nifti, write_series
from tests.integration.systems import Orthanc, RunningNode, program

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

PATIENT = {
    "PatientName": "Grepme^Nobody",
    "PatientID": "GREPME-4711",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
}


def test_real_flair_comes_back_with_mask_reports_and_heatmaps(
    shared_data: Path, orthanc: Orthanc, tmp_path: Path
) -> None:
    volume = volume_from_nifti(shared_data / "open_ms/longitudinal/patient01/study1_FLAIR.nii.gz")
    attributes = {
        "SeriesDescription": "t2_tirm_tra_dark-fluid",
        "InversionTime": 2500.0,
        "EchoTime": 91.0,
        "RepetitionTime": 9000.0,
        "ScanningSequence": ["SE", "IR"],
    }
    study = {"AccessionNumber": "A-1", "StudyDescription": "MR brain"}
    files = write_series(volume, tmp_path / "source", patient=PATIENT, study=study, attributes=attributes)
    source = dcmread(files[0], stop_before_pixels=True)
    node = RunningNode(tmp_path / "node", orthanc.port, "ORTHANC")
    node.start()
    try:
        storescu = [program("storescu"), "-aet", "SCANNER", "-aec", "LESIONNODE", "127.0.0.1", str(node.port)]
        subprocess.run(
            [program("echoscu"), "-aec", "LESIONNODE", "127.0.0.1", str(node.port)], check=True, timeout=30
        )
        subprocess.run([*storescu, "+sd", str(tmp_path / "source")], check=True, timeout=60)
        node.wait_for("delivered", 400)
        again = subprocess.run([*storescu, "+sd", str(tmp_path / "source")], check=True, timeout=60)
        assert again.returncode == 0
        node.wait_for("duplicate", 60)
        (study_found,) = orthanc.find("Study", {"StudyInstanceUID": source.StudyInstanceUID})
        assert study_found["MainDicomTags"]["AccessionNumber"] == "A-1"
        series = orthanc.find("Series", {"StudyInstanceUID": source.StudyInstanceUID})
        found = Counter(
            {
                s["MainDicomTags"]["Modality"]: len(s["Instances"])
                for s in series
                if s["MainDicomTags"]["Modality"] != "SR"
            }
        )
        reports = sorted(
            s["MainDicomTags"]["SeriesDescription"] for s in series if s["MainDicomTags"]["Modality"] == "SR"
        )
        assert found["SEG"] == 1
        assert found["OT"] >= 1
        assert [description.split()[1:3] for description in reports] == [
            ["13", "measurements:"],
            ["14", "report:"],
        ]
        assert len(node.events("confirmed")) >= 1, "Orthanc shows by C-FIND what it holds"
        assert len(node.events("analysed")) == 1, "the same series sent twice is analysed once"
        why = node.run("why", "A-1", "--config", str(node.config))
        assert why.returncode == 0, why.stderr
        assert "delivered" in why.stdout
    finally:
        node.stop()
    for name in ("worklog.log", "worklog.jsonl", "worker.log"):
        text = (node.data / name).read_text()
        assert "grepme" not in text.lower(), f"a patient's name or ID stands in {name}"
