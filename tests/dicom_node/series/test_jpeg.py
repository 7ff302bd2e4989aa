from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from factories import mr_series, phantom_array
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_node.errors import UnreadableError
from dicom_node.series.volume import load_series

SHAPE = (5, 41, 35)
Encoder = Callable[[npt.NDArray[Any]], bytes]

OURS = (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)


def jpeg_lossless(predictor: int, bits: int = 16) -> Encoder:
    return lambda frame: bytes(
        imagecodecs.jpeg8_encode(frame, lossless=True, predictor=predictor, bitspersample=bits)
    )


def jpeg_extended(frame: npt.NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(frame, level=98, bitspersample=12))


def jpeg_8_bits(frame: npt.NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(frame.astype(np.uint8), level=98))


def jpeg_ls(near: int) -> Encoder:
    return lambda frame: bytes(imagecodecs.jpegls_encode(frame, level=near))


def htj2k(frame: npt.NDArray[Any]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(frame, reversible=True))


def packed(folder: Path, syntax: str, encode: Encoder, *, enhanced: bool = False, **tags: Any) -> list[Path]:
    """The phantom, each frame coded by `encode` and the files named after `syntax`."""
    paths = mr_series(folder, shape=SHAPE, enhanced=enhanced)
    for path in paths:
        ds = pydicom.dcmread(path)
        frames = ds.pixel_array.reshape(-1, *SHAPE[1:]).astype(np.uint16)
        ds.PixelData = encapsulate([encode(frame) for frame in frames])
        ds["PixelData"].VR = "OB"
        ds.file_meta.TransferSyntaxUID = syntax
        for keyword, value in tags.items():
            setattr(ds, keyword, value)
        ds.save_as(path)
    return paths


def voxels(paths: Sequence[Path]) -> npt.NDArray[np.float32]:
    loaded = load_series(paths)
    assert loaded.volume is not None
    return loaded.volume.array


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLosslessSV1, jpeg_lossless(1)),
        (JPEGLosslessSV1, jpeg_lossless(1, bits=12)),
        *[(JPEGLossless, jpeg_lossless(predictor)) for predictor in range(1, 8)],
        (JPEGLSLossless, jpeg_ls(0)),
        (HTJ2KLossless, htj2k),
        (HTJ2KLosslessRPCL, htj2k),
        (HTJ2K, htj2k),
    ],
)
def test_lossless_coding_gives_every_voxel_back(
    tmp_path: Path, syntax: str, encode: Encoder, enhanced: bool
) -> None:
    np.testing.assert_array_equal(
        voxels(packed(tmp_path, syntax, encode, enhanced=enhanced)), phantom_array(SHAPE)
    )


@pytest.mark.parametrize("near", [1, 3])
def test_near_lossless_jpeg_ls_keeps_to_its_bound(tmp_path: Path, near: int) -> None:
    decoded = voxels(packed(tmp_path, JPEGLSNearLossless, jpeg_ls(near)))
    assert np.abs(decoded - phantom_array(SHAPE)).max() == near


def test_jpeg_of_12_bits_is_decoded_nearly(tmp_path: Path) -> None:
    decoded = voxels(packed(tmp_path, JPEGExtended12Bit, jpeg_extended, BitsStored=12, HighBit=11))
    assert np.abs(decoded - phantom_array(SHAPE)).mean() < 3


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit], ids=lambda syntax: syntax.name)
def test_jpeg_of_8_bits_is_decoded_nearly(tmp_path: Path, syntax: str) -> None:
    eighth = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "RescaleSlope": "4", "RescaleIntercept": "0"}
    decoded = voxels(packed(tmp_path, syntax, lambda frame: jpeg_8_bits(frame // 4), **eighth))
    assert np.abs(decoded - phantom_array(SHAPE)).mean() < 6


@pytest.mark.parametrize(
    ("syntax", "encode", "bits"),
    [
        (JPEGLosslessSV1, jpeg_lossless(1, bits=12), 12),
        (JPEGLosslessSV1, jpeg_lossless(1), 16),
        (JPEGLSLossless, jpeg_ls(0), 16),
    ],
)
def test_signed_values_keep_their_sign(tmp_path: Path, syntax: str, encode: Encoder, bits: int) -> None:
    mask = (1 << bits) - 1
    signed = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 1}

    def below_zero(frame: npt.NDArray[Any]) -> bytes:
        return encode(((frame.astype(np.int32) - 500) & mask).astype(np.uint16))

    np.testing.assert_array_equal(
        voxels(packed(tmp_path, syntax, below_zero, **signed)), phantom_array(SHAPE) - 500
    )


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.name,
)
def test_other_encoders_are_read_alike(tmp_path: Path, syntax: str) -> None:
    np.testing.assert_array_equal(
        voxels(mr_series(tmp_path, shape=SHAPE, transfer_syntax=syntax)), phantom_array(SHAPE)
    )


def sample(name: str) -> npt.NDArray[Any]:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return np.asarray(pydicom.dcmread(path).pixel_array)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm"),
    ],
)
def test_file_of_another_program_has_the_pixels_of_its_twin(name: str, plain: str) -> None:
    np.testing.assert_array_equal(sample(name), sample(plain))


@pytest.mark.parametrize(
    ("name", "first_column"),
    [
        ("JPEGLSNearLossless_08.dcm", [255, 125, 65, 30, 15, 5, 5, 0, 0]),
        ("JPEGLSNearLossless_16.dcm", [65535, 32765, 16385, 4095, 1025, 255, 65, 15, 5, 0]),
    ],
)
def test_near_lossless_file_of_another_program_is_decoded(name: str, first_column: list[int]) -> None:
    assert sample(name)[::5, 0].tolist() == first_column


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_12_bit_file_of_another_program_is_decoded(name: str) -> None:
    assert sample(name)[420, 130:140].tolist() == [189, 197, 202, 212, 229, 243, 234, 229, 231, 240]


def test_colours_in_planes_are_put_together() -> None:
    colours = sample("SC_rgb_rle.dcm")
    ds = pydicom.dcmread(str(get_testdata_file("SC_rgb_rle.dcm")))
    ds.decompress()
    ds.PlanarConfiguration = 1
    ds.PixelData = colours.transpose(2, 0, 1).tobytes()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    np.testing.assert_array_equal(ds.pixel_array, colours)


@pytest.mark.parametrize("syntax", OURS, ids=lambda syntax: syntax.name)
def test_no_other_decoder_is_tried(syntax: str) -> None:
    assert get_decoder(syntax).available_plugins == ("imagecodecs",)


CODED = [
    pytest.param(JPEGLosslessSV1, jpeg_lossless(1), id="JPEG Lossless"),
    pytest.param(JPEGLSLossless, jpeg_ls(0), id="JPEG-LS"),
    pytest.param(JPEGLSNearLossless, jpeg_ls(2), id="JPEG-LS near-lossless"),
    pytest.param(JPEGExtended12Bit, jpeg_extended, id="JPEG Extended"),
]


def damaged(path: Path, change: Callable[[bytes], bytes]) -> list[Path]:
    ds = pydicom.dcmread(path)
    ds.PixelData = encapsulate([change(next(generate_frames(ds.PixelData, number_of_frames=1)))])
    ds.save_as(path)
    return [path]


@pytest.mark.parametrize(("syntax", "encode"), CODED)
@pytest.mark.parametrize("kept", [1, 3, 12, 60, -3, 0.5, 0.9])
def test_frame_that_is_cut_off_is_unreadable(
    tmp_path: Path, syntax: str, encode: Encoder, kept: float
) -> None:
    paths = packed(tmp_path, syntax, encode)
    damaged(paths[2], lambda src: src[: int(len(src) * kept) if isinstance(kept, float) else int(kept)])
    with pytest.raises(UnreadableError, match=r"can't be decoded.*(cut off|no JPEG stream)"):
        load_series(paths)


@pytest.mark.parametrize(("syntax", "encode"), CODED)
def test_frame_of_another_size_than_its_image_is_unreadable(
    tmp_path: Path, syntax: str, encode: Encoder
) -> None:
    paths = packed(tmp_path, syntax, encode)

    def enlarged(src: bytes) -> bytes:
        return src.replace(bytes([0, SHAPE[1], 0, SHAPE[2]]), b"\xff\xff\xff\xff", 1)

    damaged(paths[2], enlarged)
    with pytest.raises(UnreadableError, match="65535 x 65535 x 1 samples, the image 41 x 35 x 1"):
        load_series(paths)


@pytest.mark.parametrize(("syntax", "encode"), CODED)
def test_frame_without_a_frame_header_is_unreadable(tmp_path: Path, syntax: str, encode: Encoder) -> None:
    paths = packed(tmp_path, syntax, encode)
    damaged(paths[2], lambda src: b"\xff\xd8\xff\xff\xff\xd8\xff\xda\x00\x08" + src[-20:])
    with pytest.raises(UnreadableError, match="no frame header"):
        load_series(paths)


@pytest.mark.parametrize(("syntax", "encode"), CODED)
def test_damaged_bytes_never_end_the_process(tmp_path: Path, syntax: str, encode: Encoder) -> None:
    ds = pydicom.dcmread(packed(tmp_path, syntax, encode)[1])
    whole = next(generate_frames(ds.PixelData, number_of_frames=1))
    refused = 0
    for seed in range(200):
        chance = random.Random(seed)
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 9)):
            changed[chance.randrange(2, len(whole))] = chance.randrange(256)
        ds.PixelData = encapsulate([bytes(changed)])
        try:
            assert pixel_array(ds).shape == SHAPE[1:]
        except RuntimeError:
            refused += 1
    assert refused > 10
