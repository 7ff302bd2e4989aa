"""One heatmap as a picture: the source in grey, the map over it, a colour bar, and what it is, in the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from dicom_node.results.colours import RgbArray, colour_scale

WHITE: Final = (255, 255, 255)
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
AMBER: Final = (255, 196, 64)
BLACK: Final = (0, 0, 0)
SMALLEST_WITH_LETTERS: Final = 96
"""On smaller matrices the letters of the sides would cover the anatomy."""
_LETTERS: Final = (("L", "R"), ("P", "A"), ("H", "F"))
"""LPS: the letter towards which each axis rises and falls (PS3.3 C.7.6.1.1.1)."""
_OBLIQUE: Final = 0.35
"""A direction gets a second letter where that axis' cosine is at least this."""


@dataclass(frozen=True)
class Caption:
    """Texts that are burned in: top left line by line, bottom left, and at the four sides (left, right, top, bottom)."""

    top: tuple[str, ...]
    bottom: tuple[str, ...]
    sides: tuple[str, str, str, str] = ("", "", "", "")


def orientation_letters(direction_lps: npt.ArrayLike) -> str:
    """Return the letters that a direction points to, the strongest first ("L", "AH")."""
    cosines = np.asarray(direction_lps, dtype=np.float64)
    axes = sorted(range(3), key=lambda axis: -abs(cosines[axis]))
    shown = [axis for rank, axis in enumerate(axes) if rank == 0 or abs(cosines[axis]) >= _OBLIQUE][:2]
    return "".join(_LETTERS[axis][0 if cosines[axis] > 0 else 1] for axis in shown)


def side_letters(orientation: tuple[float, ...]) -> tuple[str, str, str, str]:
    """Return the letters of the left, right, top and bottom edge, from ImageOrientationPatient."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    return tuple(orientation_letters(way) for way in (-row, row, -column, column))  # type: ignore[return-value]


def font_size(shape_ji: tuple[int, ...]) -> int:
    """Return a size, in pixels, that is readable on a matrix and leaves the anatomy free."""
    return int(np.clip(round(min(shape_ji[:2]) / 24), 8, 22))


def draw_caption(image: RgbArray, caption: Caption, *, colour_bar: bool) -> RgbArray:
    """Return RGB, shape (j, i, 3), with the caption and the colour bar from 0 to 1 burned in."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    size = font_size(image.shape)
    width, height = picture.size
    margin = max(2, size // 4)
    bar_room = _draw_bar(picture, pen, size, margin) if colour_bar else 0
    font = ImageFont.load_default(size)
    room, line_height = width - 2 * margin, _line_height(size)
    widest = {"top": 0.0, "bottom": 0.0}
    for index, line in enumerate(caption.top):
        widest["top"] = max(
            widest["top"], _draw_line(pen, (margin, margin + index * line_height), line, font, room, WHITE)
        )
    for index, line in enumerate(reversed(caption.bottom), start=1):
        lower = (float(margin), height - margin - index * line_height)
        widest["bottom"] = max(widest["bottom"], _draw_line(pen, lower, line, font, room, AMBER))
    # The letters of the upper and lower edge move inwards only where the text would run into them.
    free = width / 2 - 2 * size
    inset_top = 0 if widest["top"] < free else len(caption.top) * line_height
    inset_bottom = 0 if widest["bottom"] < free else len(caption.bottom) * line_height
    left, right, above, below = caption.sides if min(width, height) >= SMALLEST_WITH_LETTERS else ("",) * 4
    for text, place, anchor in (
        (left, (margin, height / 2), "lm"),
        (right, (width - margin - bar_room, height / 2), "rm"),
        (above, (width / 2, margin + inset_top), "ma"),
        (below, (width / 2, height - margin - inset_bottom), "md"),
    ):
        pen.text(place, text, font=font, fill=WHITE, anchor=anchor, stroke_width=1, stroke_fill=BLACK)
    return np.asarray(picture)


def _draw_bar(picture: Image.Image, pen: ImageDraw.ImageDraw, size: int, margin: int) -> int:
    """Draw the colour bar at the right edge with its ends and middle named; return the width that it takes."""
    width, height = picture.size
    bar, length = max(4, size // 2), int(height * 0.45)
    left, top = width - margin - bar, (height - length) // 2
    colours = colour_scale(np.linspace(1.0, 0.0, length))
    picture.paste(Image.fromarray(np.repeat(colours[:, None, :], bar, axis=1)), (left, top))
    pen.rectangle((left - 1, top - 1, left + bar, top + length), outline=(160, 160, 160))
    font = ImageFont.load_default(size - 1)
    room = 0
    for label, place in (("1", top), ("0.5", top + length / 2), ("0", top + length)):
        pen.text(
            (left - margin, place),
            label,
            font=font,
            fill=WHITE,
            anchor="rm",
            stroke_width=1,
            stroke_fill=BLACK,
        )
        room = max(room, round(pen.textlength(label, font=font)))
    return bar + room + 3 * margin


def _draw_line(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    font: Font,
    room: float,
    colour: tuple[int, int, int],
) -> float:
    """Draw a line no wider than the room, shortened with an ellipsis where it must be; return its width."""
    shown = text
    while shown and pen.textlength(shown, font=font) > room:
        shown = shown[:-2].rstrip() + "…" if len(shown) > 2 else ""
    pen.text(place, shown, font=font, fill=colour, stroke_width=1, stroke_fill=BLACK)
    return float(pen.textlength(shown, font=font))


def _line_height(size: int) -> float:
    return float(round(size * 1.25) + 1)
