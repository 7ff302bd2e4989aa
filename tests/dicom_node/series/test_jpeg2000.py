"""JPEG 2000 frames of another size than their image."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from factories import mr_series
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from dicom_node.errors import UnreadableError
from dicom_node.series import decoding
from dicom_node.series.jpeg2000 import codestream_size
from dicom_node.series.volume import load_series


@pytest.mark.parametrize("form", ["j2k", "jp2"])
def test_size_is_read_from_the_frame_itself(form: str) -> None:
    frame = np.zeros((40, 33, 3), np.uint8)
    assert codestream_size(bytes(imagecodecs.jpeg2k_encode(frame, codecformat=form))) == (40, 33, 3)


@pytest.mark.parametrize("frame", [b"", b"nothing", b"\xff\x4f\xff\x51\x00"])
def test_frame_that_does_not_say_its_size_has_none(frame: bytes) -> None:
    assert codestream_size(frame) is None


def test_frame_that_is_larger_than_its_image_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = mr_series(tmp_path, shape=(5, 32, 32), transfer_syntax=JPEG2000Lossless)
    assert load_series(paths).volume is not None
    ds = dcmread(paths[0])
    ds.PixelData = encapsulate(
        [bytes(imagecodecs.jpeg2k_encode(np.zeros((64, 32), np.uint16), codecformat="j2k"))]
    )
    ds.save_as(paths[0])
    decoded = decoding.pixel_array

    def decode(ds: object) -> object:
        assert ds.SOPInstanceUID != large, "it was decoded"  # type: ignore[attr-defined]
        return decoded(ds)  # type: ignore[arg-type]

    large = ds.SOPInstanceUID
    monkeypatch.setattr(decoding, "pixel_array", decode)
    with pytest.raises(
        UnreadableError, match="a JPEG 2000 frame has 64 x 32 x 1 samples, its image 32 x 32 x 1"
    ):
        load_series(paths)
