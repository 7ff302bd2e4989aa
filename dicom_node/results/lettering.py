"""Texts in pictures: one font, each text drawn once and kept, since most stand in many pictures."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from dicom_node.results.colours import Rgb

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

BLACK: Final[Rgb] = (0, 0, 0)
AROUND_PX: Final = 2
"""Width of what is dark around a text that lies on an image."""


@lru_cache(maxsize=16)
def font(size: int) -> Font:
    """Return the font of all pictures, in pixels."""
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> float:
    """Return the width of a text, in pixels."""
    return float(font(size).getlength(text))


def draw_text(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: Rgb,
    *,
    dark_around: bool = False,
) -> None:
    """Draw a text with its upper left corner at a place (column, row)."""
    left, top = round(place[0]), round(place[1])
    if dark_around:
        pen.bitmap((left, top), _drawn(text, size, AROUND_PX), fill=BLACK)
    pen.bitmap((left, top), _drawn(text, size, 0), fill=colour)


@lru_cache(maxsize=4096)
def _drawn(text: str, size: int, around: int) -> Image.Image:
    """Return a text, grey on black, with room around it for what is dark."""
    width, height = int(text_width(text, size)) + 2 * AROUND_PX + 2, round(1.4 * size) + 2 * AROUND_PX
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((AROUND_PX, 0), text, font=font(size), fill=255, stroke_width=around)
    return image
