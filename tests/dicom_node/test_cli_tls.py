"""``dicom-node echo`` and ``send`` over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.deliver.association import TlsError
from dicom_node.errors import ConfigError
from tests.dicom_node.deliver.conftest import Pacs, write_object

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[str]:
    """Address of a PACS that asks for a certificate; its files lie in the test's folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("node.example.org")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "node.pem")
    ours.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("pacs.example.org").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    pacs = Pacs(tls=context).start()
    yield str(pacs.address)
    pacs.stop()


def files(folder: Path) -> list[str]:
    options = {"ca": "ca.pem", "cert": "node.pem", "key": "key.pem"}
    return [word for name, file in options.items() for word in (f"--tls-{name}", str(folder / file))]


def test_echo_and_send(peer: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    write_object(tmp_path / "a.dcm", SECONDARY_CAPTURE)
    name = ["--tls-name", "pacs.example.org"]
    result = run(app, ["echo", peer, *files(tmp_path), *name])
    assert result.exit_code == 0, result.output
    assert "answers in" in result.output
    result = run(app, ["send", str(tmp_path / "a.dcm"), "--to", peer, *files(tmp_path), *name])
    assert result.exit_code == 0, result.output
    assert "1 of 1 objects stored" in result.output


def test_what_is_wrong_is_one_line(peer: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    error = run(app, ["echo", peer, *files(tmp_path)]).exception
    assert isinstance(error, TlsError)
    assert "its certificate is not for 127.0.0.1" in str(error)
    assert "\n" not in str(error)
    error = run(app, ["echo", peer, "--tls", "--tls-name", "pacs.example.org"]).exception
    assert "not trusted: an authority that this system knows" in str(error)
    error = run(app, ["echo", peer, "--tls-ca", str(tmp_path / "none.pem")]).exception
    assert isinstance(error, (TlsError, ConfigError))
    assert "can't be read" in str(error)
