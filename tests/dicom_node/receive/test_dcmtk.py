"""Images sent by DCMTK's storescu, as a PACS forwards them."""

from __future__ import annotations

import os
import subprocess

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from tests.integration.systems import program

pytestmark = pytest.mark.integration


@pytest.fixture
def storescu():
    found = program("storescu")

    def send(port, *arguments):
        command = [
            found,
            "-aet",
            "DCMTK",
            "-aec",
            "NODE",
            *arguments[:-1],
            "127.0.0.1",
            str(port),
            arguments[-1],
        ]
        return subprocess.run(
            list(map(str, command)),
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "TCP_NODELAY": "1"},
        )

    return send


@pytest.mark.parametrize(
    ("name", "option", "syntax"),
    [
        ("MR_small_jp2klossless.dcm", "-xv", "1.2.840.10008.1.2.4.90"),
        ("JPEG2000.dcm", "-xw", "1.2.840.10008.1.2.4.91"),
        ("MR_small_RLE.dcm", "-xr", "1.2.840.10008.1.2.5"),
        ("MR_small_jpeg_ls_lossless.dcm", "-xt", "1.2.840.10008.1.2.4.80"),
        ("SC_rgb_jpeg_dcmtk.dcm", "-xy", "1.2.840.10008.1.2.4.50"),
        ("JPGExtended.dcm", "-xx", "1.2.840.10008.1.2.4.51"),
        ("image_dfl.dcm", "-xd", "1.2.840.10008.1.2.1.99"),
        ("MR_small_bigendian.dcm", "-xb", "1.2.840.10008.1.2.2"),
        ("MR_small_implicit.dcm", "-xi", "1.2.840.10008.1.2"),
    ],
)
def test_encoded_image_arrives_as_it_was_sent(name, option, syntax, start_scp, storescu, recorder):
    path = get_testdata_file(name)
    sent = storescu(start_scp().port, "-R", option, path)
    assert sent.returncode == 0, sent.stderr
    ((stored,),) = recorder.wait("image_stored")
    received, original = dcmread(stored), dcmread(path)
    assert received.file_meta.TransferSyntaxUID == syntax == original.file_meta.TransferSyntaxUID
    assert received.PixelData == original.PixelData
    assert received.SOPInstanceUID == original.SOPInstanceUID


def test_private_class_is_taken(start_scp, storescu, recorder, make_image, tmp_path):
    private = make_image(1, SOPClassUID="1.3.12.2.1107.5.9.1")
    private.save_as(tmp_path / "private.dcm", enforce_file_format=True)
    # DCMTK offers classes that it does not know only when its configuration names them.
    (tmp_path / "scu.cfg").write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1=LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Private]\nPresentationContext1=1.3.12.2.1107.5.9.1\\Plain\n"
        "[[Profiles]]\n[Default]\nPresentationContexts=Private\n"
    )
    sent = storescu(start_scp().port, "-xf", tmp_path / "scu.cfg", "Default", tmp_path / "private.dcm")
    assert sent.returncode == 0, sent.stderr
    ((stored,),) = recorder.wait("image_stored")
    assert dcmread(stored).SOPClassUID == "1.3.12.2.1107.5.9.1"


def test_series_comes_over_one_association_complete(start_scp, storescu, recorder, make_image, tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(1, 41):
        make_image(number).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    sent = storescu(start_scp().port, "-R", "+sd", folder)
    assert sent.returncode == 0, sent.stderr
    assert recorder.wait("association_ended")[0][0] == 40
    numbers = sorted(dcmread(path).InstanceNumber for (path,) in recorder.of("image_stored"))
    assert numbers == list(range(1, 41))


def test_full_disk_is_told_to_the_sender(start_scp, storescu, recorder, make_image, tmp_path, spool):
    spool.high_water = 0.0
    make_image(1).save_as(tmp_path / "image.dcm", enforce_file_format=True)
    sent = storescu(start_scp().port, "-R", tmp_path / "image.dcm")
    assert sent.returncode == 0xA7
    assert recorder.of("image_stored") == []
