"""A small part of a picture is enlarged as far as there is room for it, or not shown again."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.results.inset import enlarged_part
from pipelines.types import BoolArray


def part(rows: slice, columns: slice) -> BoolArray:
    mask = np.zeros((512, 512), bool)
    mask[rows, columns] = True
    return mask


def test_part_is_enlarged_with_what_it_holds() -> None:
    picture = np.zeros((512, 512, 3), np.uint8)
    picture[104, 70] = (250, 0, 0)
    enlarged = enlarged_part(picture, part(slice(100, 110), slice(60, 80)))
    assert enlarged is not None
    assert enlarged.shape == (40, 80, 3), "10 x 20 pixels, four times"
    row, column = np.unravel_index(enlarged[..., 0].argmax(), enlarged.shape[:2])
    assert (16 <= row < 20) and (40 <= column < 44)


@pytest.mark.parametrize("box", [part(slice(0, 300), slice(0, 20)), part(slice(0, 0), slice(0, 0))])
def test_what_is_large_or_empty_is_not_shown_again(box: BoolArray) -> None:
    assert enlarged_part(np.zeros((512, 512, 3), np.uint8), box) is None
