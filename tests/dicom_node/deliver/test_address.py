import pytest

from dicom_node.deliver.address import Address
from dicom_node.errors import AddressError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ORTHANC@localhost:4242", ("ORTHANC", "localhost", 4242)),
        (" MY PACS@10.0.0.1:104 ", ("MY PACS", "10.0.0.1", 104)),
        ("A@[::1]:65535", ("A", "::1", 65535)),
        ("ODD@AE@h:1", ("ODD@AE", "h", 1)),
    ],
)
def test_reads_title_host_and_port(text, parts):
    address = Address.parse(text)
    assert (address.ae_title, address.host, address.port) == parts
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("localhost:4242", "no AE title before an @"),
        ("@localhost:4242", "AE title '' is not 1 to 16 characters long"),
        ("SEVENTEEN_LETTERS@localhost:4242", "is not 1 to 16 characters long"),
        ("A\\B@localhost:4242", "forbids"),
        ("ÄRZTE@localhost:4242", "forbids"),
        ("PACS@localhost", "no port after a colon"),
        ("PACS@:4242", "is no host name"),
        ("PACS@::1:4242", "IPv6 in brackets"),
        ("PACS@999.1.1.1:104", "no IP address"),
        ("PACS@localhost:", "a port is a number from 1 to 65535, not ''"),
        ("PACS@localhost:dicom", "not 'dicom'"),
        ("PACS@localhost:0", "not 0"),
        ("PACS@localhost:65536", "not 65536"),
        ("", "no AE title"),
    ],
)
def test_says_what_is_wrong_and_which_form_is_expected(text, wrong):
    with pytest.raises(AddressError) as raised:
        Address.parse(text)
    assert wrong in str(raised.value)
    assert "AET@HOST:PORT" in str(raised.value)
