"""Fixtures of the integration tests: the peers that a node talks to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.demo.archive import Archive
from tests.integration.systems import Orthanc


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    pacs = Archive(tmp_path / "pacs")
    pacs.start()
    yield pacs
    pacs.stop()
