"""TLS towards a PACS: certificates of every kind, each with the line that a person reads."""

import datetime
import ssl

import pytest
import trustme

from dicom_node.config.sections import Destination
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import TlsError, UnreachableError
from dicom_node.deliver.c_echo import echo
from dicom_node.deliver.c_find import Instance, c_find_missing
from dicom_node.deliver.c_store import send_files
from dicom_node.errors import ConfigError
from dicom_node.tls import ClientTls

YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def tls_pacs(make_pacs, authority):
    """A PACS with a certificate for 127.0.0.1, and what is asked of it."""

    def make(certificate=None, *, client_ca=None, maximum=ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = maximum
        (certificate or authority.issue_cert("127.0.0.1")).configure_cert(context)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return make_pacs(tls=context)

    return make


def address_of(pacs, **tls):
    return Address("PACS", "127.0.0.1", pacs.port, ClientTls(**tls))


def client_files(authority, folder):
    certificate = authority.issue_cert("node.example.org")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "certificate.pem", append=number > 0)
    return {"certificate": folder / "certificate.pem", "key": folder / "key.pem"}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_everything_goes_over_tls(tls_pacs, ca, make_object, tmp_path, version, quick):
    pacs = tls_pacs(maximum=version)
    address = address_of(pacs, ca=ca)
    uid = make_object(
        tmp_path / "a.dcm", "1.2.840.10008.5.1.4.1.1.7", fill=b"x" * 300_000, series_uid="1.2.4"
    )
    assert echo(address, "NODE", timeouts=quick) > 0
    assert [result.outcome for result in send_files(address, [tmp_path / "a.dcm"], "NODE")] == ["stored"]
    assert c_find_missing(address, "NODE", [Instance("1.2.3", "1.2.4", uid)], timeouts=quick) == set()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_peer_that_asks_who_we_are(tls_pacs, authority, ca, tmp_path, version, quick):
    pacs = tls_pacs(client_ca=ca, maximum=version)
    files = client_files(authority, tmp_path)
    assert echo(address_of(pacs, ca=ca, **files), "NODE", timeouts=quick) > 0
    with pytest.raises(TlsError, match="certificate") as caught:
        echo(address_of(pacs, ca=ca), "NODE", timeouts=quick)
    assert "\n" not in str(caught.value)
    (tmp_path / "other").mkdir()
    strange = client_files(trustme.CA(), tmp_path / "other")
    with pytest.raises(TlsError, match="refuses our certificate: it does not know who signed it"):
        echo(address_of(pacs, ca=ca, **strange), "NODE", timeouts=quick)


def test_certificate_that_nobody_we_trust_has_signed(tls_pacs, ca, quick):
    pacs = tls_pacs(trustme.CA().issue_cert("127.0.0.1"))
    with pytest.raises(TlsError, match=r"its certificate is not trusted: an authority in .*ca.pem must have"):
        echo(address_of(pacs, ca=ca), "NODE", timeouts=quick)
    with pytest.raises(TlsError, match="not trusted: an authority that this system knows must have"):
        echo(address_of(pacs), "NODE", timeouts=quick)


def test_expired_certificate(tls_pacs, authority, ca, quick):
    pacs = tls_pacs(authority.issue_cert("127.0.0.1", not_after=YESTERDAY))
    with pytest.raises(TlsError, match="its certificate has expired"):
        echo(address_of(pacs, ca=ca), "NODE", timeouts=quick)


def test_certificate_of_another_host(tls_pacs, authority, ca, quick):
    pacs = tls_pacs(authority.issue_cert("pacs.example.org"))
    with pytest.raises(TlsError, match=r"its certificate is not for 127\.0\.0\.1"):
        echo(address_of(pacs, ca=ca), "NODE", timeouts=quick)
    assert echo(address_of(pacs, ca=ca, name="pacs.example.org"), "NODE", timeouts=quick) > 0
    with pytest.raises(TlsError, match=r"not for ris\.example\.org"):
        echo(address_of(pacs, ca=ca, name="ris.example.org"), "NODE", timeouts=quick)


def test_old_versions_are_not_offered(tls_pacs, ca, quick):
    context = ClientTls(ca=ca).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    names = [cipher["name"] for cipher in context.get_ciphers()]
    assert not [name for name in names if "CBC" in name or "RC4" in name or name.startswith("AES")]
    assert "ECDHE-RSA-AES256-GCM-SHA384" in names


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_peer_that_speaks_only_an_old_version(tls_pacs, ca, quick):
    pacs = tls_pacs(maximum=ssl.TLSVersion.TLSv1_1)
    with pytest.raises(TlsError, match=r"neither TLS 1.2 nor 1.3|TLS handshake|no cipher"):
        echo(address_of(pacs, ca=ca), "NODE", timeouts=quick)


def test_one_side_without_tls(make_pacs, tls_pacs, ca, quick):
    with pytest.raises(UnreachableError, match=r"TLS|no answer within"):
        echo(address_of(make_pacs(), ca=ca), "NODE", timeouts=quick)
    plain = Address("PACS", "127.0.0.1", tls_pacs().port)
    with pytest.raises(UnreachableError, match="a DICOM port without TLS"):
        echo(plain, "NODE", timeouts=quick)


def test_files_that_can_not_be_used(authority, ca, tmp_path, closed_port):
    files = client_files(authority, tmp_path)
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "other").mkdir()
    other = client_files(authority, tmp_path / "other")
    for tls, message in (
        (ClientTls(ca=tmp_path / "none.pem"), "tls ca .*none.pem: can't be read: No such file"),
        (ClientTls(ca=tmp_path / "text.pem"), "no PEM file of certificates"),
        (ClientTls(ca=ca, certificate=tmp_path / "none.pem"), "tls certificate .*: can't be read"),
        (ClientTls(ca=ca, certificate=tmp_path / "text.pem"), "are no PEM files"),
        (ClientTls(ca=ca, certificate=files["certificate"], key=other["key"]), "don't belong together"),
        (ClientTls(ca=ca, key=files["key"]), "there is no tls certificate"),
    ):
        with pytest.raises(ConfigError, match=message):
            Address("PACS", "h", 1, tls).check_tls()
        with pytest.raises(TlsError, match=message):  # a file that went away while the node ran
            echo(Address("PACS", "127.0.0.1", closed_port, tls), "NODE")


def test_protected_key_is_refused_and_nobody_is_asked_for_its_password(authority, ca, tmp_path):
    from cryptography.hazmat.primitives import serialization

    files = client_files(authority, tmp_path)
    key = serialization.load_pem_private_key(files["key"].read_bytes(), None)
    encrypted = serialization.BestAvailableEncryption(b"secret")
    files["key"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted)
    )
    with pytest.raises(ConfigError, match="protected by a password"):
        ClientTls(ca=ca, **files).context()


def test_address_of_a_destination(tmp_path):
    destination = Destination(
        name="pacs", ae_title="PACS", host="h", port=104, tls={"ca": tmp_path / "ca.pem", "name": "pacs"}
    )
    assert Address.of(destination) == Address(
        "PACS", "h", 104, ClientTls(ca=tmp_path / "ca.pem", name="pacs")
    )
    assert str(Address.of(destination)) == "PACS@h:104"
