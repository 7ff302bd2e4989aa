"""A part of a picture, enlarged in a free corner of it: a nerve is a few pixels wide on a slice of the whole head."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dicom_node.results.colours import RgbArray
from dicom_node.results.picture import BLACK, SMALLEST_WITH_LETTERS, WHITE, font_size
from pipelines.types import BoolArray

ROOM: Final = (0.26, 0.4)
"""Share of the picture's height and width that it may take; the colour bar ends above it."""
ZOOM: Final = (2, 4)
"""Enlargement, least and most; with less room than for the least there is no inset."""
FRAME: Final = (200, 200, 200)


def with_inset(picture: RgbArray, shown: RgbArray, part: BoolArray) -> RgbArray:
    """Return a picture with one part enlarged in its lower or upper right corner; as it is where there is no room for it.

    Parameters
    ----------
    picture : uint8 array, shape (j, i, 3)
    shown : uint8 array, shape (j, i, 3)
        What is enlarged: the picture, or the same without some of its lines.
    part : bool array, shape (j, i)
        The part is the box around these pixels.
    """
    height, width = part.shape
    if not part.any() or min(height, width) < SMALLEST_WITH_LETTERS:
        return picture
    (top, bottom), (left, right) = (
        (int(at.min()), int(at.max()) + 1) for at in (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    )
    zoom = int(min(ROOM[0] * height / (bottom - top), ROOM[1] * width / (right - left), ZOOM[1]))
    if zoom < ZOOM[0]:
        return picture
    tall, wide = zoom * (bottom - top), zoom * (right - left)
    margin = 2
    place_left = width - wide - margin
    for place_top in (height - tall - margin, margin):
        if right <= place_left or not (place_top < bottom and top < place_top + tall):
            break
    else:
        return picture
    canvas = Image.fromarray(picture)
    part_of = Image.fromarray(np.ascontiguousarray(shown[top:bottom, left:right]))
    canvas.paste(part_of.resize((wide, tall), Image.Resampling.BICUBIC), (place_left, place_top))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((place_left - 1, place_top - 1, place_left + wide, place_top + tall), outline=FRAME)
    font = ImageFont.load_default(max(8, font_size(part.shape) - 3))
    pen.text(
        (place_left + margin, place_top + margin),
        f"{zoom}x",
        font=font,
        fill=WHITE,
        stroke_width=1,
        stroke_fill=BLACK,
    )
    return np.asarray(canvas)
