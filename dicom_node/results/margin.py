"""Black margin beneath a picture, which holds all texts, so that none lies on the anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from dicom_node.results.colours import FAINT, Rgb, RgbArray, overlay
from dicom_node.results.lettering import BLACK, draw_text, text_width
from dicom_node.standard.geometry import orientation_letters

TEXT: Final[Rgb] = (225, 225, 225)
AMBER: Final[Rgb] = (255, 196, 64)
SIZE: Final = 14
LETTER_SIZE: Final = 18
LINE: Final = 19
EDGE: Final = 5
LETTER_ROOM: Final = 26
"""At either end of the margin, for the letter of that side."""
BETWEEN: Final = 16
"""Between texts on one line."""
PATCH: Final = 10
BAR_SHARE: Final = 0.45
"""Of the margin's width that the colour bar takes."""


@dataclass(frozen=True)
class Remark:
    """A text of the margin, behind a patch of a colour where it explains one.

    ``starts_line``: not behind others on their line.
    """

    text: str
    colour: Rgb = TEXT
    patch: Rgb | None = None
    starts_line: bool = False


@dataclass(frozen=True)
class Margin:
    """Content of a margin.

    Parameters
    ----------
    remarks : tuple of Remark
        In reading order; they flow into lines.
    sides : (str, str)
        Letters of the picture's left and right edge.
    has_bar : bool
        The colour bar of maps stands below the texts.
    insets : tuple of uint8 arrays, shape (j, i, 3)
        Parts of the picture, enlarged; they stand at the right.
    least_lines : int
        Height in lines that it has in any case, so that all images of a series are alike.
    """

    remarks: tuple[Remark, ...]
    sides: tuple[str, str] = ("", "")
    has_bar: bool = False
    insets: tuple[RgbArray, ...] = ()
    least_lines: int = 1


def side_letters(orientation: Sequence[float]) -> tuple[str, str, str, str]:
    """Return the letters of the left, right, top and bottom edge of an image, from ImageOrientationPatient."""
    column = np.asarray(orientation[3:], dtype=np.float64)
    return (*edge_letters(orientation), orientation_letters(-column), orientation_letters(column))


def edge_letters(orientation: Sequence[float]) -> tuple[str, str]:
    """Return the letters of a picture's left and right edge, from ImageOrientationPatient."""
    row = np.asarray(orientation[:3], dtype=np.float64)
    return orientation_letters(-row), orientation_letters(row)


def lines_needed(margin: Margin, width: int) -> int:
    """Return how many lines a margin has under a picture of a width, in pixels."""
    needed = len(_lines(margin, _room(margin, width))) + margin.has_bar
    return max(margin.least_lines, needed)


def with_margin(picture: RgbArray, margin: Margin) -> RgbArray:
    """Return the picture, shape (j, i, 3), with the margin beneath it."""
    width = picture.shape[1]
    inset_height = max((part.shape[0] for part in margin.insets), default=-2 * EDGE)
    height = max(lines_needed(margin, width) * LINE, inset_height) + 2 * EDGE
    band = Image.new("RGB", (width, height), BLACK)
    pen = ImageDraw.Draw(band)
    left, right = margin.sides
    draw_text(pen, (EDGE, EDGE), left, LETTER_SIZE, TEXT)
    draw_text(pen, (width - EDGE - text_width(right, LETTER_SIZE), EDGE), right, LETTER_SIZE, TEXT)
    lines = _lines(margin, _room(margin, width))
    for number, line in enumerate(lines):
        at = float(LETTER_ROOM)
        for remark in line:
            at = _draw(pen, at, EDGE + number * LINE, remark) + BETWEEN
    if margin.has_bar:
        _draw_bar(band, pen, EDGE + len(lines) * LINE)
    start = width - LETTER_ROOM
    for part in reversed(margin.insets):
        start -= part.shape[1]
        band.paste(Image.fromarray(part), (start, EDGE))
        pen.rectangle((start - 1, EDGE - 1, start + part.shape[1], EDGE + part.shape[0]), outline=(150,) * 3)
        start -= EDGE
    return np.concatenate([picture, np.asarray(band)])


def _room(margin: Margin, width: int) -> int:
    return width - 2 * LETTER_ROOM - sum(int(part.shape[1]) + EDGE for part in margin.insets)


def _width(remark: Remark) -> float:
    return text_width(remark.text, SIZE) + (0 if remark.patch is None else PATCH + 4)


def _lines(margin: Margin, room: int) -> list[list[Remark]]:
    """Return the remarks in lines; one that is wider than a line is broken between words."""
    lines: list[list[Remark]] = []
    used = 0.0
    for remark in margin.remarks:
        for piece in _pieces(remark, room):
            needed = _width(piece) + (BETWEEN if used else 0)
            if not lines or piece.starts_line or used + needed > room:
                lines.append([])
                used, needed = 0.0, _width(piece)
            lines[-1].append(piece)
            used += needed
    return lines


def _pieces(remark: Remark, room: int) -> list[Remark]:
    if _width(remark) <= room:
        return [remark]
    pieces: list[str] = []
    for word in remark.text.split():
        longer = f"{pieces[-1]} {word}" if pieces else word
        if pieces and text_width(longer, SIZE) + PATCH + 4 <= room:
            pieces[-1] = longer
        else:
            pieces.append(word)
    first = Remark(pieces[0], remark.colour, remark.patch, remark.starts_line)
    return [first, *(Remark(text, remark.colour, None, True) for text in pieces[1:])]


def _draw(pen: ImageDraw.ImageDraw, left: float, top: float, remark: Remark) -> float:
    """Draw one text at a place and return where it ends."""
    if remark.patch is not None:
        pen.rectangle((left, top + 4, left + PATCH - 1, top + 4 + PATCH - 1), fill=remark.patch)
        left += PATCH + 4
    draw_text(pen, (left, top), remark.text, SIZE, remark.colour)
    return left + text_width(remark.text, SIZE)


def _draw_bar(band: Image.Image, pen: ImageDraw.ImageDraw, top: int) -> None:
    """Draw the colours of values from 0 to 1 as they lie over a grey, with the ends and the first that is seen named."""
    shown = f"1   below {FAINT:g} not shown"
    start, room = (
        LETTER_ROOM + text_width("0", SIZE) + 4,
        band.width - LETTER_ROOM - text_width(shown, SIZE) - 4,
    )
    length = max(1, round(min(BAR_SHARE * band.width, room - start)))
    grey = np.full((PATCH, length, 3), 70, np.uint8)
    values = np.broadcast_to(np.linspace(0.0, 1.0, length, dtype=np.float32), (PATCH, length))
    at = round(start)
    band.paste(Image.fromarray(overlay(grey, np.asarray(values))), (at, top + 4))
    draw_text(pen, (LETTER_ROOM, top), "0", SIZE, TEXT)
    draw_text(pen, (at + length + 4, top), shown, SIZE, TEXT)
