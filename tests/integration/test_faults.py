"""Processes killed in the middle of the work: after a restart the results arrive, once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_store import send_files
from dicom_node.demo.archive import Archive
from dicom_node.series.writer import write_series
from pipelines.phantoms.orbits import geometric_orbits
from tests.integration.systems import RunningNode, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def study(tmp_path: Path) -> list[Path]:
    """Orbits with a plain lesion: of the two pipelines theirs is done in seconds, and what is tested is a death in it."""
    volume = geometric_orbits(7, lesions=("right",), contrast=2.0).volume
    return write_series(volume, tmp_path / "source", patient={}, study={}, attributes=volume.attributes)


def send(node: RunningNode, files: list[Path]) -> None:
    results = send_files(Address("LESIONNODE", "127.0.0.1", node.port), files, "SCANNER")
    assert all(result.outcome.stored for result in results)


def roles(archive: Archive) -> Counter[str]:
    return Counter(str(dcmread(path, stop_before_pixels=True).SOPClassUID.name) for path in archive.files())


def assert_came_back_once(archive: Archive) -> None:
    found = roles(archive)
    assert found["Segmentation Storage"] == 1
    assert found["Comprehensive 3D SR Storage"] == 1
    assert found["Basic Text SR Storage"] == 1
    assert found["Secondary Capture Image Storage"] >= 1


def test_worker_killed_in_the_middle_of_a_job(archive: Archive, study: list[Path], tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "node", archive.port)
    node.start()
    try:
        send(node, study)
        node.wait_for("stage", 120)
        for process in node.processes("worker"):
            process.kill()
        node.wait_for("run-lost", 60)
        node.wait_for("delivered", 240)
        assert_came_back_once(archive)
        assert len(node.events("analysed")) == 1
    finally:
        node.stop()


def test_node_killed_after_the_store_and_broker_killed_in_the_middle(
    archive: Archive, study: list[Path], tmp_path: Path
) -> None:
    node = RunningNode(tmp_path / "node", archive.port)
    node.start("serve")
    try:
        send(node, study)
        node.kill()
        for process in node.processes("valkey"):
            process.kill()
        node.start("up")
        node.wait_for("running", 120)
        servers = wait_until(lambda: node.processes("valkey"), 10, "a broker runs")
        for process in servers:
            process.kill()
        node.wait_for("delivered", 300)
        assert_came_back_once(archive)
    finally:
        node.stop()


def test_worker_of_a_killed_node_ends(archive: Archive, tmp_path: Path) -> None:
    node = RunningNode(tmp_path / "node", archive.port)
    node.start()
    try:
        wait_until(lambda: len(node.processes("worker")) > 1, 60, "the worker has its child")
        node.kill()
        wait_until(lambda: not node.processes("worker"), 30, "no worker is left")
    finally:
        node.stop()
