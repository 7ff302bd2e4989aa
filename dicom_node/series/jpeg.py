"""Decoders of JPEG Extended, JPEG Lossless and JPEG-LS for pydicom: libjpeg-turbo and CharLS, by way of imagecodecs."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder
from pydicom.uid import (
    UID,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
)

DECODER_DEPENDENCIES = {
    UID(uid): ("imagecodecs>=2026.3.6",)
    for uid in (JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
}
"""Transfer syntaxes that this module decodes, in the form in which pydicom asks for them."""

FRAME_FAULTS = (
    r"the compressed frame is cut off: it has no end of image marker",
    r"the compressed frame has \d+ x \d+ x \d+ samples, the image \d+ x \d+ x \d+",
    r"the compressed frame is no JPEG stream",
    r"the compressed frame has no frame header",
    r"the compressed frame is cut off in its headers",
)
"""All that this module says of a frame, as patterns: pydicom puts it into a text of its own, and it is taken out again."""

_PLUGINS = ("gdcm", "pillow", "pyjpegls", "pylibjpeg")
_END_OF_IMAGE = b"\xff\xd9"
_FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def register() -> None:
    """Make this module the only decoder of its transfer syntaxes in pydicom.

    pydicom tries every plugin that it finds until one succeeds. On damaged streams GDCM corrupts the memory of
    the process and pyjpegls never returns, so neither may be tried; Pillow refuses 12 bits.
    """
    for uid in DECODER_DEPENDENCIES:
        decoder = get_decoder(uid)
        if "imagecodecs" in decoder.available_plugins:
            continue
        for label in _PLUGINS:
            try:
                decoder.remove_plugin(label)
            except ValueError:
                continue
        decoder.add_plugin("imagecodecs", (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Tell pydicom whether this module decodes a transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Return the samples of one compressed frame as bytes, colours as they were coded.

    Raises
    ------
    ValueError
        The stream is cut off, or its size is not that of the image.
    RuntimeError
        The stream is damaged.

    References
    ----------
    DICOM PS3.5 A.4.1, A.4.3; ISO 10918-1 B.2.2; ISO 14495-1 C.2.2
    """
    _check_frame_header(src, runner)
    # Both libraries go on after the end of a stream that is cut off: one with grey, one for seconds.
    if _END_OF_IMAGE not in src:
        raise ValueError("the compressed frame is cut off: it has no end of image marker")
    samples: npt.NDArray[Any]
    if runner.transfer_syntax in JPEGLSTransferSyntaxes:
        samples = imagecodecs.jpegls_decode(src)
    else:
        colours = "GRAYSCALE" if runner.samples_per_pixel == 1 else "RGB"
        samples = imagecodecs.jpeg8_decode(src, colorspace=colours, outcolorspace=colours)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", 8 * samples.itemsize)
    return np.ascontiguousarray(samples).tobytes()


def _check_frame_header(src: bytes, runner: DecodeRunner) -> None:
    """Refuse a frame of another size than the image: a few damaged bytes would ask for gigabytes."""
    rows, columns, components = _frame_header(src)
    if (rows, columns, components) != (runner.rows, runner.columns, runner.samples_per_pixel):
        raise ValueError(
            f"the compressed frame has {rows} x {columns} x {components} samples, "
            f"the image {runner.rows} x {runner.columns} x {runner.samples_per_pixel}"
        )


def _frame_header(src: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components of a JPEG or JPEG-LS stream."""
    position = 2
    try:
        while True:
            if src[position] != 0xFF:
                raise ValueError("the compressed frame is no JPEG stream")
            marker = src[position + 1]
            if marker in _FRAME_HEADERS:
                return struct.unpack_from(">HHB", src, position + 5)
            if marker == _START_OF_SCAN:
                raise ValueError("the compressed frame has no frame header")
            if marker == 0xFF:
                position += 1
            elif marker in _WITHOUT_LENGTH:
                position += 2
            else:
                position += 2 + int(struct.unpack_from(">H", src, position + 2)[0])
    except (IndexError, struct.error) as error:
        raise ValueError("the compressed frame is cut off in its headers") from error
