"""FAT-SAT phantoms with a lesion in one eye through the whole node into Orthanc: left stays left."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO

from dicom_node.demo.studies import sides_judged
from dicom_node.series.writer import write_series
from pipelines.phantoms.orbits import geometric_orbits
from pipelines.types import Laterality, Volume
from tests.integration.systems import Orthanc, RunningNode, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

SEEDS: dict[Laterality, int] = {"right": 7, "left": 12}
CONTRAST = 2.0
"""Of the lesion over the nerve: plain to see, for this test is of sides and not of the network's skill."""


def columns_from_the_left(volume: Volume) -> Volume:
    """The same head on a grid whose columns begin at the patient's left."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (volume.array.shape[2] - 1)
    affine[:3, 0] *= -1
    return Volume(np.flip(volume.array, 2).copy(), affine, volume.attributes)


def stored(orthanc: Orthanc, study_uid: str, description: str) -> list[Dataset]:
    """What Orthanc holds of a study in the series of one kind of result."""
    found = []
    for series in orthanc.find("Series", {"StudyInstanceUID": study_uid}):
        if (
            series["MainDicomTags"]
            .get("SeriesDescription", "")
            .endswith(f" {description}: FAT-SAT optic nerves")
        ):
            for identity in series["Instances"]:
                url = f"http://127.0.0.1:{orthanc.http_port}/instances/{identity}/file"
                with urllib.request.urlopen(url) as answer:
                    found.append(dcmread(DicomBytesIO(answer.read())))
    return found


def test_lesion_in_one_eye_is_that_eye_in_the_pacs(orthanc: Orthanc, tmp_path: Path) -> None:
    studies: dict[Laterality, tuple[str, Any]] = {}
    for side, seed in SEEDS.items():
        phantom = geometric_orbits(seed, lesions=(side,), contrast=CONTRAST)
        eye = phantom.eye(side)
        assert eye is not None
        volume = columns_from_the_left(phantom.volume) if side == "left" else phantom.volume
        patient = {"PatientName": "Grepme^Nobody", "PatientID": f"GREPME-{side}"}
        files = write_series(
            volume,
            tmp_path / "source" / side,
            patient=patient,
            study={"AccessionNumber": f"F-{side}"},
            attributes=volume.attributes,
            seed=side,
        )
        studies[side] = (str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), eye)
    node = RunningNode(tmp_path / "node", orthanc.port, "ORTHANC")
    node.start()
    try:
        send = [program("storescu"), "-aet", "SCANNER", "-aec", "LESIONNODE", "127.0.0.1", str(node.port)]
        subprocess.run([*send, "+sd", "+r", str(tmp_path / "source")], check=True, timeout=120)
        node.wait_for("delivered", 400, count=2)
        for side, (study_uid, _) in studies.items():
            other = "left" if side == "right" else "right"
            (report,) = stored(orthanc, study_uid, "measurements")
            assert sides_judged(report) == {side: True, other: False}
            (seg,) = stored(orthanc, study_uid, "nerve, candidate region")
            assert {str(item.SegmentLabel).split()[0] for item in seg.SegmentSequence} == {side.capitalize()}
            text = stored(orthanc, study_uid, "report")[0].to_json()
            assert f"{side.capitalize()} optic nerve: rated suspicious for a lesion" in text
            assert f"{other.capitalize()} optic nerve: not rated suspicious for a lesion" in text
        lines = {record["sides"].split(" (")[0] for record in node.events("analysed")}
        assert lines == {"right optic nerve positive", "right optic nerve negative"}
        study_uid, eye = studies["right"]
        points = tmp_path / "points.json"
        points.write_text(json.dumps({"right": [round(float(x), 1) for x in eye.junction_lps]}))
        done = node.run("retry", "F-right", "--points", str(points), "--config", str(node.config))
        assert done.returncode == 0, done.stderr
        node.wait_for("delivered", 200, count=3)
        (again,) = [ds for ds in stored(orthanc, study_uid, "report") if "PredecessorDocumentsSequence" in ds]
        assert "Right optic nerve: located by a point that a person gave" in again.to_json()
        why = node.run("why", "F-right", "--config", str(node.config))
        assert "right optic nerve positive" in why.stdout
        assert "with points given by a person" in why.stdout
    finally:
        node.stop()
    for name in ("worklog.log", "worklog.jsonl", "worker.log"):
        assert "grepme" not in (node.data / name).read_text().lower(), f"a patient stands in {name}"
