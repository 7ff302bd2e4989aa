"""Canvas of a page: wrapped text, rules, tables and pictures at places in pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dicom_node.results.colours import RgbArray

Colour = tuple[int, int, int]

WHITE: Final = (255, 255, 255)
INK: Final = (22, 32, 43)
GREY: Final = (92, 106, 120)
RULE: Final = (212, 218, 225)
ACCENT: Final = (12, 84, 99)
AMBER: Final = (146, 64, 14)
PALE_AMBER: Final = (254, 243, 215)
PALE: Final = (245, 247, 249)

SMALLEST_PX: Final = 12
"""Least size of letters: what is smaller can't be read on a screen."""
LEADING: Final = 1.32
"""Height of a line over the size of its letters."""


@dataclass(frozen=True)
class Style:
    """Size in pixels, colour and weight of a text."""

    size: int
    colour: Colour = INK
    bold: bool = False

    @property
    def line_px(self) -> int:
        """Height of a line."""
        return round(LEADING * self.size)


@dataclass(frozen=True)
class Column:
    """Column of a table: its heading, its left edge and width in pixels, and to which side its cells are set."""

    heading: str
    left: int
    width: int
    right: bool = False


@cache
def font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    """Return the page's font, Source Sans Pro: Latin, Greek and Cyrillic."""
    name = f"SourceSansPro-{'Semibold' if bold else 'Regular'}.otf"
    stream = io.BytesIO((files("dicom_node.study") / "fonts" / name).read_bytes())
    return ImageFont.truetype(stream, max(size, SMALLEST_PX), layout_engine=ImageFont.Layout.BASIC)


def can_show(text: str) -> bool:
    """Tell whether the font has a glyph for each character of a text."""
    missing = bytes(font(20, False).getmask("\uffff"))
    return all(
        character.isspace() or bytes(font(20, False).getmask(character)) != missing for character in text
    )


class Canvas:
    """White page on which things are drawn at places in pixels, from the upper left."""

    def __init__(self, width: int, height: int) -> None:
        self.picture = Image.new("RGB", (width, height), WHITE)
        self._pen = ImageDraw.Draw(self.picture)

    @property
    def pixels(self) -> RgbArray:
        """The page as uint8 RGB, shape (j, i, 3)."""
        return np.asarray(self.picture)

    def width_of(self, text: str, style: Style) -> float:
        """Return the width of a text in one line."""
        return float(font(style.size, style.bold).getlength(text))

    def lines_of(self, text: str, style: Style, width: int) -> list[str]:
        """Return a text in lines no wider than ``width``; a word that is wider is cut."""
        lines = [""]
        for word in text.split():
            joined = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.width_of(joined, style) > width:
                lines.append(self._fitted(word, style, width))
            else:
                lines[-1] = self._fitted(joined, style, width)
        return lines

    def text(self, left: int, top: int, text: str, style: Style, width: int = 0, most_lines: int = 0) -> int:
        """Draw a text, wrapped where a width is given, and return its lower edge; beyond ``most_lines`` it ends in "..."."""
        lines = self.lines_of(text, style, width) if width else [text]
        if 0 < most_lines < len(lines):
            lines = [*lines[: most_lines - 1], self._fitted(f"{lines[most_lines - 1]} …", style, width)]
        for line in lines:
            self._pen.text((left, top), line, font=font(style.size, style.bold), fill=style.colour)
            top += style.line_px
        return top

    def text_right(self, right: int, top: int, text: str, style: Style) -> int:
        """Draw a line that ends at ``right``, and return its lower edge."""
        return self.text(round(right - self.width_of(text, style)), top, text, style)

    def rule(self, left: int, top: int, right: int, colour: Colour = RULE, thickness: int = 1) -> int:
        """Draw a horizontal line, and return its lower edge."""
        self._pen.rectangle((left, top, right, top + thickness - 1), fill=colour)
        return top + thickness

    def box(self, left: int, top: int, right: int, bottom: int, fill: Colour, radius: int = 6) -> None:
        """Draw a filled box with round corners."""
        self._pen.rounded_rectangle((left, top, right, bottom), radius, fill=fill)

    def place(self, picture: Image.Image, left: int, top: int, size: int) -> None:
        """Draw a square picture with this side."""
        self.picture.paste(picture.resize((size, size), Image.Resampling.LANCZOS), (left, top))

    def side_letters(self, sides: Sequence[str], left: int, top: int, size: int) -> None:
        """Draw the letters of the left, right, upper and lower edge on a square picture."""
        middle, edge, letters = size / 2, 8, max(14, size // 16)
        for text, x, y, anchor in zip(
            sides,
            (left + edge, left + size - edge, left + middle, left + middle),
            (top + middle, top + middle, top + edge, top + size - edge),
            ("lm", "rm", "ma", "md"),
            strict=True,
        ):
            self.on_picture(x, y, text, letters, anchor)

    def on_picture(self, x: float, y: float, text: str, size: int, anchor: str) -> None:
        """Draw white letters with a dark edge, readable on any picture."""
        self._pen.text(
            (x, y),
            text,
            font=font(size, True),
            fill=WHITE,
            anchor=anchor,
            stroke_width=2,
            stroke_fill=(0, 0, 0),
        )

    def table(
        self,
        top: int,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        style: Style,
        last_bold: bool = False,
    ) -> int:
        """Draw a table with a quiet heading, and return its lower edge; the last row may be set apart as a total."""
        heading = Style(style.size - 3, GREY)
        left, right = columns[0].left, columns[-1].left + columns[-1].width
        bottom = top
        for column in columns:
            bottom = max(bottom, self._cell(column, top, column.heading, heading))
        top = self.rule(left, bottom + 5, right) + 6
        for number, row in enumerate(rows):
            is_total = last_bold and number == len(rows) - 1
            if is_total:
                top = self.rule(left, top + 3, right) + 6
            told = Style(style.size, style.colour, bold=is_total)
            bottom = max(
                self._cell(column, top, text, told) for column, text in zip(columns, row, strict=True)
            )
            top = bottom + 4
        return top

    def _cell(self, column: Column, top: int, text: str, style: Style) -> int:
        if column.right:
            return self.text_right(column.left + column.width, top, text, style)
        return self.text(column.left, top, text, style, column.width)

    def _fitted(self, text: str, style: Style, width: int) -> str:
        while len(text) > 1 and self.width_of(text, style) > width:
            text = text.rstrip("…")[:-1].rstrip() + "…"
        return text
