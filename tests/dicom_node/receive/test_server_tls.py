"""Being called over TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from dicom_node.config.settings import load_settings
from dicom_node.errors import ConfigError
from dicom_node.node.probes import check_node
from dicom_node.tls import ServerTls


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "certificate.pem", append=number > 0)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().issue_cert("other.org").private_key_pem.write_to_path(folder / "other.pem")
    (folder / "junk.pem").write_text("junk")
    return folder


@pytest.fixture
def send(make_image):
    """Send an image over TLS."""

    def store(port, context):
        ae = AE("SCU")
        ae.add_requested_context(MRImageStorage, ExplicitVRLittleEndian)
        assoc = ae.associate("127.0.0.1", port, ae_title="NODE", tls_args=(context, "127.0.0.1"))
        assert assoc.is_established
        status = assoc.send_c_store(make_image(1)).get("Status")
        assoc.release()
        return status

    return store


def is_let_in(port, context):
    """Tell whether a handshake works, and is not revoked after it (TLS 1.3 shows a refusal only then)."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                secured.sendall(b"\x09\0\0\0\0\0")  # a PDU of no known type: answered by an abort
                return secured.recv(1) == b"\x07"
        except OSError:
            return False


def client_context(authority, version=None, *, client=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    if version:
        context.minimum_version = context.maximum_version = version
    if client:
        client.configure_cert(context)
    return context


def server(files, ca=False):
    return ServerTls(files / "certificate.pem", files / "key.pem", files / "ca.pem" if ca else None)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("processes", [0, 1])
def test_image_comes_in_over_tls(version, processes, start_scp, send, authority, files, recorder):
    scp = start_scp(tls=server(files), processes=processes)
    assert send(scp.port, client_context(authority, version)) == 0x0000
    assert recorder.wait("association_ended")[0][0] == 1


def test_client_certificate_is_required_where_there_is_a_ca(start_scp, send, authority, files, recorder):
    scp = start_scp(tls=server(files, ca=True))
    stranger = trustme.CA()
    assert send(scp.port, client_context(authority, client=authority.issue_cert("pacs.org"))) == 0x0000
    assert not is_let_in(scp.port, client_context(authority))
    assert recorder.wait("association_refused") == [("TLS: no client certificate was shown",)]
    assert not is_let_in(scp.port, client_context(authority, client=stranger.issue_cert("pacs.org")))
    reason = recorder.wait("association_refused", 2)[1][0]
    assert reason == "TLS: its certificate is not accepted: unable to get local issuer certificate"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_versions_before_1_2_are_refused(start_scp, authority, files, recorder):
    scp = start_scp(tls=server(files))
    assert is_let_in(scp.port, client_context(authority))
    context = client_context(authority, ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    assert not is_let_in(scp.port, context)
    assert recorder.wait("association_refused") == [("TLS: it offers neither TLS 1.2 nor 1.3",)]


def test_caller_without_tls_is_refused(start_scp, files, recorder):
    scp = start_scp(tls=server(files))
    with socket.create_connection(("127.0.0.1", scp.port), timeout=20) as peer:
        peer.sendall(b"\x01\0\0\0\0\xc8" + b"x" * 200)
        assert recorder.wait("association_refused") == [("TLS: it does not speak TLS",)]


@pytest.mark.slow
def test_handshake_that_stalls_blocks_nobody_and_ends(start_scp, send, authority, files, recorder):
    scp = start_scp(tls=server(files), limits={"request_s": 1.5})
    stalled = [socket.create_connection(("127.0.0.1", scp.port), timeout=20) for _ in range(5)]
    stalled[0].sendall(b"\x16\x03\x01")
    assert send(scp.port, client_context(authority)) == 0x0000
    assert set(recorder.wait("association_refused", 5)) == {("TLS: the handshake took too long",)}
    for peer in stalled:
        assert peer.recv(1) == b""
        peer.close()


def test_abort_of_a_stop_is_encrypted(start_scp, authority, files):
    scp = start_scp(tls=server(files))
    ae = AE("SCU")
    ae.add_requested_context(MRImageStorage)
    context = client_context(authority)
    assoc = ae.associate("127.0.0.1", scp.port, ae_title="NODE", tls_args=(context, "127.0.0.1"))
    assert assoc.is_established
    scp.stop()
    assoc.join(20)
    assert assoc.is_aborted


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"certificate": "missing.pem"}, r"tls certificate .*missing\.pem: can't be read: No such file"),
        ({"key": "missing.pem"}, r"tls key .*missing\.pem: can't be read: No such file"),
        ({"key": "other.pem"}, r"tls certificate .* and .*other\.pem don't belong together"),
        ({"certificate": "junk.pem"}, r"tls certificate .*junk\.pem and .* are no PEM files"),
        ({"ca": "junk.pem"}, r"tls ca .*junk\.pem: no PEM file of certificates"),
        ({"ca": "missing.pem"}, r"tls ca .*missing\.pem: can't be read: No such file"),
    ],
)
def test_wrong_file_is_one_clear_line_at_the_start_and_in_the_check(
    changes, line, start_scp, files, tmp_path
):
    names = {"certificate": "certificate.pem", "key": "key.pem", **changes}
    tls = {name: str(files / path) for name, path in names.items()}
    settings = load_settings(
        overrides={
            "node": {"data": str(tmp_path / "node")},
            "accept": {"tls": tls},
            "broker": {"url": "embedded"},
        }
    )
    server_tls = ServerTls.of(settings.accept.tls)
    with pytest.raises(ConfigError, match=rf"^\[accept\] {line}"):
        start_scp(tls=server_tls)
    (verdict,) = (verdict for verdict in check_node(settings) if verdict.what == "[accept] tls")
    assert not verdict.ok
    assert verdict.result.startswith("[accept] tls")


def test_check_says_who_is_served(files, tmp_path):
    tls = {name: str(files / f"{name}.pem") for name in ("certificate", "key", "ca")}
    settings = load_settings(overrides={"node": {"data": str(tmp_path / "node")}, "accept": {"tls": tls}})
    (verdict,) = (verdict for verdict in check_node(settings) if verdict.what == "[accept] tls")
    assert verdict.ok
    assert verdict.result.endswith(f"for associations of callers certified by {files / 'ca.pem'}")


def test_files_are_taken_from_the_folder_of_the_configuration(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text('[accept]\ntls = { certificate = "tls/node.pem" }\n')
    tls = load_settings(config).accept.tls
    assert (tls.certificate, tls.key, tls.ca) == (Path(tmp_path / "tls/node.pem"), None, None)


def test_certificate_is_required(tmp_path):
    with pytest.raises(ConfigError, match=r"\[accept\] tls.certificate is missing"):
        load_settings(overrides={"accept": {"tls": {"ca": "x.pem"}}})
