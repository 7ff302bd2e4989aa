"""Earlier studies from archives that we did not write: Orthanc (C-MOVE, C-GET, DICOMweb) and DCMTK's dcmqrscp."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_echo import echo
from dicom_node.deliver.c_store import send_files
from dicom_node.errors import DeliveryError, PriorError
from dicom_node.jobs.states import SeriesState
from dicom_node.priors.probe import probe_archive
from tests.integration.systems import Orthanc, free_port, program, wait_until
from tests.priors_rig import Bench, RigPacs, flair

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

T1 = {"SeriesDescription": "t1_mprage", "InversionTime": 900.0, "EchoTime": 3.0, "ScanningSequence": "GR"}
NOW, BEFORE = "20260301", "20250401"


@pytest.fixture
def sender() -> Iterator[RigPacs]:
    sender = RigPacs()
    yield sender
    sender.stop()


def fill(address: Address, tmp_path: Path) -> list[Path]:
    """Let an archive have an earlier FLAIR, beside another series and another patient's; return the FLAIR."""
    before = flair(tmp_path / "before", BEFORE)
    study = str(dcmread(before[0]).StudyInstanceUID)
    other = flair(tmp_path / "t1", BEFORE, StudyInstanceUID=study, **T1)
    stranger = flair(tmp_path / "stranger", BEFORE, PatientID="P-10")
    sent = send_files(address, [*before, *other, *stranger], "SENDER")
    assert all(one.outcome.stored for one in sent)
    return before


def check_found(bench: Bench, before: list[Path], tmp_path: Path, most_asked: int = 1) -> None:
    job = bench.answered(flair(tmp_path / "now", NOW))
    bench.search()
    steps = bench.record(job).steps
    (prior,) = bench.found(job)
    row = bench.series(before)
    assert row is not None and row.state == SeriesState.PRIOR, steps
    assert prior.series_uid == row.series_uid and len(prior.images) == len(before), steps
    assert bench.jobs(row.series_uid) == []
    asked = [series for series in bench.store.series_in(*SeriesState) if series.study_uid == row.study_uid]
    assert len(asked) <= most_asked, steps


@pytest.mark.parametrize("retrieve", ["move", "get", "web"])
def test_orthanc_gives_the_earlier_flair_alone(
    orthanc: Orthanc, sender: RigPacs, tmp_path: Path, retrieve: str
) -> None:
    before = fill(Address("ORTHANC", "127.0.0.1", orthanc.port), tmp_path)
    url = f"http://127.0.0.1:{orthanc.http_port}/dicom-web"
    bench = Bench(
        tmp_path / "data", sender, ("ORTHANC", orthanc.port), wait_s=60, retrieve=retrieve, web_url=url
    )
    try:
        if retrieve == "move":
            tell_orthanc(orthanc, "OTHER", 104)
            with pytest.raises(PriorError, match="enter LESIONNODE"):
                probe_archive(bench.settings)
        tell_orthanc(orthanc, "LESIONNODE", bench.receivers.port)
        assert "answers C-FIND" in probe_archive(bench.settings)
        check_found(bench, before, tmp_path)
    finally:
        bench.stop()


def tell_orthanc(orthanc: Orthanc, ae_title: str, port: int) -> None:
    """Enter a node in Orthanc, in place of the one that is there."""
    body = json.dumps({"AET": ae_title, "Host": "127.0.0.1", "Port": port}).encode()
    url = f"http://127.0.0.1:{orthanc.http_port}/modalities/node"
    urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=10).close()


class Dcmqrscp:
    """DCMTK's archive with an area of its own."""

    def __init__(self, folder: Path, node_port: int) -> None:
        self.port = free_port()
        area = folder / "PACS"
        area.mkdir(parents=True)
        config = folder / "dcmqrscp.cfg"
        config.write_text(
            f"NetworkTCPPort = {self.port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\nnode = (LESIONNODE, localhost, {node_port})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nPACS {area} RW (200, 1024mb) ANY\nAETable END\n"
        )
        command = [program("dcmqrscp"), "--config", str(config), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, 60, "dcmqrscp answers")

    def _answers(self) -> bool:
        try:
            return echo(Address("PACS", "127.0.0.1", self.port), "LESIONNODE") > 0
        except DeliveryError:
            return False

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_dcmqrscp_gives_the_earlier_flair_alone(sender: RigPacs, tmp_path: Path, retrieve: str) -> None:
    port = free_port()
    archive = Dcmqrscp(tmp_path / "dcmtk", port)
    bench = Bench(tmp_path / "data", sender, ("PACS", archive.port), port, wait_s=60, retrieve=retrieve)
    try:
        before = fill(Address("PACS", "127.0.0.1", archive.port), tmp_path)
        assert "answers C-FIND" in probe_archive(bench.settings)
        check_found(bench, before, tmp_path, most_asked=2)  # it names no series
    finally:
        bench.stop()
        archive.stop()
