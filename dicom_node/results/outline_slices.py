"""Choice of the slices that get a picture with outlines, so that the series stays small enough for any archive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from dicom_node.results.picture_grid import PictureGrid

LARGEST_SERIES_BYTES: Final = 64_000_000
MARGIN_ROWS: Final = 90
"""At most, with what else an image holds beside its pixels."""


def grid_and_step(
    shape_kji: tuple[int, int, int], spacing_ji_mm: tuple[float, float]
) -> tuple[PictureGrid, int]:
    """Return the grid of a series' pictures and from which slice to which they step: 1 where each one gets its picture.

    Matrices above 512 are made smaller before slices are left out.
    """
    count = shape_kji[0]
    for shrink in (False, True):
        grid = PictureGrid.over(shape_kji[1:], spacing_ji_mm, shrink=shrink)
        room = most_pictures(grid)
        if count <= room:
            return grid, 1
    return grid, math.ceil(count / room)


def most_pictures(grid: PictureGrid) -> int:
    """Return how many pictures on a grid a series may have."""
    return max(1, LARGEST_SERIES_BYTES // (3 * (grid.rows + MARGIN_ROWS) * grid.columns))


def chosen_slices(count: int, step: int, lesions: Sequence[Sequence[int]], most: int) -> list[int]:
    """Return the slices k that get a picture, ascending: every ``step``-th, and what shows a lesion that these miss.

    Parameters
    ----------
    count : int
        Slices of the series.
    lesions : sequence of sequence of int
        Slices of each lesion, the one with most of it first; the largest lesion first.
    most : int
        Pictures that there may be.
    """
    if step == 1:
        return list(range(count))
    reached = [{k % step for k in slices} for slices in lesions]
    offset = max(range(step), key=lambda start: (sum(start in own for own in reached), -start))
    chosen = set(range(offset, count, step))
    for slices in lesions:
        if len(chosen) < most and slices and not chosen.intersection(slices):
            chosen.add(slices[0])
    return sorted(chosen)
