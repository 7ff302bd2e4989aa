"""A small part of a picture is shown enlarged in a corner that does not hide it."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.results.colours import RgbArray
from dicom_node.results.inset import FRAME, with_inset
from pipelines.types import BoolArray


def picture(height: int = 200, width: int = 240) -> RgbArray:
    return np.zeros((height, width, 3), np.uint8)


def part(rows: slice, columns: slice, height: int = 200, width: int = 240) -> BoolArray:
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


def framed(drawn: RgbArray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((drawn == np.array(FRAME, np.uint8)).all(axis=-1))
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def test_part_stands_enlarged_in_the_lower_right_corner() -> None:
    shown = picture()
    shown[100:110, 60:80] = (0, 0, 90)
    shown[104, 70] = (250, 0, 0)
    drawn = with_inset(picture(), shown, part(slice(100, 110), slice(60, 80)))
    assert framed(drawn) == (157, 198, 157, 238), "10 x 20 pixels, four times"
    row, column = np.unravel_index(drawn[..., 0].argmax(), drawn.shape[:2])
    assert (158 + 4 * 4 <= row < 158 + 4 * 5) and (158 + 4 * 10 <= column < 158 + 4 * 11)
    assert not drawn[:150].any()


def test_enlarged_part_does_not_cover_the_part_itself() -> None:
    drawn = with_inset(picture(), picture(), part(slice(185, 195), slice(200, 220)))
    top, bottom, *_ = framed(drawn)
    assert bottom < 60 and top < 3


@pytest.mark.parametrize(
    "box",
    [
        part(slice(0, 120), slice(0, 20)),
        part(slice(0, 0), slice(0, 0)),
        part(slice(3, 9), slice(3, 9), 64, 64),
    ],
    ids=["large", "empty", "small picture"],
)
def test_without_room_or_need_the_picture_stays_as_it_is(box: BoolArray) -> None:
    bare = picture(*box.shape)
    assert with_inset(bare, bare, box) is bare
