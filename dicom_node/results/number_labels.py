"""Places of numbers beside what they name: near it, and, where that can be helped, on no finding and no other number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pipelines.types import BoolArray

DISTANCES_PX: Final = (2, 6, 11, 18, 27, 38, 52, 70, 92)
"""From the box of what is named to its number, tried in this order."""
WAYS: Final = (
    (0.0, 1.0),
    (0.0, -1.0),
    (-1.0, 0.0),
    (1.0, 0.0),
    (-1.0, 1.0),
    (-1.0, -1.0),
    (1.0, 1.0),
    (1.0, -1.0),
    (-0.5, 1.0),
    (0.5, 1.0),
    (-0.5, -1.0),
    (0.5, -1.0),
    (-1.0, 0.5),
    (-1.0, -0.5),
    (1.0, 0.5),
    (1.0, -0.5),
)
"""Directions (down, right) from the box to its number."""
ON_A_NUMBER: Final = 4.0
"""Weight of a pixel that lies on another number, to one that lies on a finding."""


@dataclass(frozen=True)
class Named:
    """Finding that is to get a number: the box around it and the size of the text, in pixels (rows and columns)."""

    text: str
    top: float
    left: float
    bottom: float
    right: float
    height: int
    width: int

    @property
    def area(self) -> float:
        """Of the box."""
        return (self.bottom - self.top) * (self.right - self.left)


@dataclass(frozen=True)
class NumberLabel:
    """Place of a number: the upper left corner of its text; ``is_far`` when a line should lead to it."""

    named: Named
    top: int
    left: int
    is_far: bool


def place_numbers(named: Sequence[Named], taken: BoolArray) -> list[NumberLabel]:
    """Return a place for each number, the smallest finding's first.

    Parameters
    ----------
    named : sequence of Named
    taken : bool array, shape (rows, columns)
        Pixels of the picture that no number should cover: all findings and their outlines.
    """
    sums = _sums(taken)
    boxes = np.zeros((0, 4), dtype=np.int64)
    placed = []
    for item in sorted(named, key=lambda item: (item.area, item.text)):
        tops, lefts, distances = _candidates(item, taken.shape)
        bottoms, rights = tops + item.height, lefts + item.width
        up, down, before, behind = tops // 2, -(-bottoms // 2), lefts // 2, -(-rights // 2)
        on_findings = sums[down, behind] - sums[up, behind] - sums[down, before] + sums[up, before]
        covered = 4.0 * on_findings
        for top, left, bottom, right in boxes:
            tall = np.minimum(bottoms, bottom) - np.maximum(tops, top)
            wide = np.minimum(rights, right) - np.maximum(lefts, left)
            covered += ON_A_NUMBER * np.maximum(tall, 0) * np.maximum(wide, 0)
        best = int(np.argmin(covered))  # of equal ones the first, which is the nearest
        top, left = int(tops[best]), int(lefts[best])
        boxes = np.vstack([boxes, [top, left, top + item.height, left + item.width]])
        placed.append(NumberLabel(item, top, left, bool(distances[best] > DISTANCES_PX[2])))
    return placed


def _sums(taken: BoolArray) -> npt.NDArray[np.int32]:
    """Return, for each corner of blocks of 2 x 2 pixels, how many blocks before it have a pixel that is taken."""
    rows, columns = (count + count % 2 for count in taken.shape)
    even = np.zeros((rows, columns), dtype=bool)
    even[: taken.shape[0], : taken.shape[1]] = taken
    blocks = (even[::2, ::2] | even[1::2, ::2]) | (even[::2, 1::2] | even[1::2, 1::2])
    sums = np.zeros((rows // 2 + 1, columns // 2 + 1), dtype=np.int32)
    np.cumsum(np.cumsum(blocks, axis=0, dtype=np.int32), axis=1, out=sums[1:, 1:])
    return sums


def _candidates(
    item: Named, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return tops, lefts and distances of the places around a box, the nearest first, all inside the picture."""
    distances = np.repeat(DISTANCES_PX, len(WAYS))
    down, right = np.tile(np.asarray(WAYS).T, len(DISTANCES_PX))
    middle_row, middle_column = (item.top + item.bottom) / 2, (item.left + item.right) / 2
    half_rows = (item.bottom - item.top + item.height) / 2 + distances
    half_columns = (item.right - item.left + item.width) / 2 + distances
    tops = np.rint(middle_row + down * half_rows - item.height / 2).astype(np.int64)
    lefts = np.rint(middle_column + right * half_columns - item.width / 2).astype(np.int64)
    return (
        np.clip(tops, 0, max(0, shape[0] - item.height)),
        np.clip(lefts, 0, max(0, shape[1] - item.width)),
        distances,
    )
