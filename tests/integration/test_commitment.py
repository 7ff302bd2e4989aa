"""The whole node and Orthanc over TLS: each asks the other for storage commitment, and nothing is left readable to others."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from dicom_node.config.settings import Settings
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import DEFAULT_TIMEOUTS
from dicom_node.deliver.c_store import send_files
from dicom_node.jobs.states import JobState, ObjectState
from dicom_node.node.node import Node
from dicom_node.spool.promises import promised_until
from tests.dicom_node.deliver.conftest import read_dataset_bytes, write_object
from tests.dicom_node.deliver.test_outbox import JOB, Bench
from tests.integration.systems import Orthanc, free_port, wait_until

pytestmark = pytest.mark.integration

NO_BROKER = "redis://127.0.0.1:1/0"
MR = "1.2.840.10008.5.1.4.1.1.4"


class SecureOrthanc(Orthanc):
    """Speaks DICOM over TLS only, asks for a client's certificate, and knows the node's port."""

    def __init__(self, folder: Path, node_port: int) -> None:
        super().__init__(folder)
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        for name, host in (("orthanc", "127.0.0.1"), ("node", "node.example.org")):
            certificate = authority.issue_cert(host)
            certificate.private_key_pem.write_to_path(folder / f"{name}-key.pem")
            certificate.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        configuration = json.loads(self.configuration.read_text())
        configuration |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(folder / "orthanc.pem"),
            "DicomTlsPrivateKey": str(folder / "orthanc-key.pem"),
            "DicomTlsTrustedCertificates": str(self.ca),
            "DicomModalities": {
                "node": {
                    "AET": "LESIONNODE",
                    "Host": "127.0.0.1",
                    "Port": node_port,
                    "AllowStorageCommitment": True,
                }
            },
        }
        self.configuration.write_text(json.dumps(configuration))

    def post(self, path: str, body: Any) -> Any:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(body).encode()), timeout=30
        ) as answer:
            return json.load(answer)

    @property
    def tls(self) -> dict[str, Any]:
        return {
            "ca": self.ca,
            "certificate": self.folder / "node.pem",
            "key": self.folder / "node-key.pem",
        }


@pytest.fixture
def generous_umask() -> Iterator[None]:
    """The umask of a shell, so that what is private is so by the node's own doing."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def secure_orthanc(tmp_path: Path) -> Iterator[SecureOrthanc]:
    server = SecureOrthanc(tmp_path / "orthanc", free_port())
    server.start()
    yield server
    server.stop()


def readable_by_others(root: Path) -> list[str]:
    paths = [root, *root.rglob("*")]
    return [str(path) for path in paths if not path.is_symlink() and path.stat().st_mode & 0o077]


@pytest.mark.usefixtures("generous_umask")
def test_both_commit_to_each_other_over_tls(tmp_path: Path, secure_orthanc: SecureOrthanc) -> None:
    bench = Bench(tmp_path / "data", write_object, read_dataset_bytes, DEFAULT_TIMEOUTS)
    bench.finished_job(["seg", "sr", "text-sr"])
    bench.close()
    for path in bench.spool.results.rglob("*"):  # as a worker leaves them, under its own umask
        path.chmod(0o700 if path.is_dir() else 0o600)
    port = json.loads(secure_orthanc.configuration.read_text())["DicomModalities"]["node"]["Port"]
    settings = Settings.model_validate(
        {
            "node": {"data": tmp_path / "data", "host": "127.0.0.1", "port": port},
            "series": {"quiet_s": 0.2},
            "destination": [
                {
                    "name": "pacs",
                    "ae_title": "ORTHANC",
                    "host": "127.0.0.1",
                    "port": secure_orthanc.port,
                    "confirm": "commitment",
                    "tls": secure_orthanc.tls,
                }
            ],
        }
    )
    node = Node(settings, {}, NO_BROKER)
    node.start()
    try:
        # the node asks, and Orthanc reports on an association of its own
        wait_until(lambda: node.store.job(JOB).state == JobState.DELIVERED, 60, "the job is delivered")
        rows = node.outbox._states.rows(JOB)
        assert [row.state for row in rows] == [ObjectState.CONFIRMED] * 3

        # Orthanc asks, and the node reports on an association of its own
        uid = write_object(tmp_path / "image.dcm", MR, series_uid="1.2.3.77")
        address = Address("LESIONNODE", "127.0.0.1", port)
        assert send_files(address, [tmp_path / "image.dcm"], "ORTHANC")[0].outcome.stored
        asked = secure_orthanc.post(
            "/modalities/node/storage-commitment", {"DicomInstances": [[MR, uid], [MR, "1.2.3.4.5"]]}
        )
        path = f"/storage-commitment/{asked['ID']}"
        wait_until(lambda: secure_orthanc.get(path)["Status"] != "Pending", 60, "Orthanc has its answer")
        answer = secure_orthanc.get(path)
        assert answer["Status"] == "Failure"
        assert [one["SOPInstanceUID"] for one in answer["Success"]] == [uid]
        (failure,) = answer["Failures"]
        assert failure["SOPInstanceUID"] == "1.2.3.4.5"
        assert 0x0112 in failure.values(), failure
        assert promised_until(node.spool.series_folder("1.2.3.77")) > 0
        assert (
            readable_by_others(tmp_path / "data") == []
        )  # the database's and the sockets' files are there, too
    finally:
        node.stop()
    assert readable_by_others(tmp_path / "data") == []
