"""What counts as a lesion, and which slices show it."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.flair.lesions import find_lesions, key_slices, lesion_volume_mm3

SHAPE = (20, 30, 40)
GRID = Grid(SHAPE, np.array([[1.0, 0, 0, -20], [0, 1.0, 0, -15], [0, 0, 1.0, -10], [0, 0, 0, 1.0]]))


def probability(*boxes: tuple[slice, slice, slice], value: float = 0.9) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.float32)
    for box in boxes:
        array[box] = value
    return array


def test_what_does_not_count_is_left_out_and_told() -> None:
    two = (slice(2, 3), slice(2, 3), slice(2, 4))
    four = (slice(10, 11), slice(10, 11), slice(10, 14))
    faint = (slice(15, 18), slice(15, 18), slice(15, 18))
    array = probability(two, four)
    array[faint] = 0.55
    labels, lesions, counting = find_lesions(array, GRID, "Lesion")
    assert [lesion.volume_mm3 for lesion in lesions] == [4.0]
    assert np.count_nonzero(labels) == 4
    assert (counting.left_out, counting.left_out_mm3) == (2, 29.0)
    assert (counting.long_axis_mm, counting.volume_mm3) == (3.0, 4.0)
    assert counting.probability == pytest.approx(0.6)
    assert lesion_volume_mm3(probability(two, four) > 0.5, 1.0) == 4.0
    assert lesion_volume_mm3(probability() > 0.5, 1.0) == 0.0


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    a = (slice(2, 4), slice(2, 5), slice(2, 5))
    b = (slice(4, 6), slice(5, 8), slice(5, 8))
    _, lesions, _ = find_lesions(probability(a, b), GRID, "Lesion")
    assert len(lesions) == 1
    assert lesions[0].volume_mm3 == 36.0


def test_lesions_are_numbered_from_the_largest() -> None:
    small = (slice(2, 4), slice(2, 4), slice(2, 6))
    large = (slice(10, 14), slice(10, 14), slice(10, 14))
    labels, lesions, _ = find_lesions(probability(small, large), GRID, "Lesion")
    assert (labels[small] == 2).all()
    assert (labels[large] == 1).all()
    assert [(lesion.id, lesion.volume_mm3) for lesion in lesions] == [(1, 64.0), (2, 16.0)]
    assert [lesion.slices_k for lesion in lesions] == [(10, 13), (2, 3)]


def test_volume_and_centre_follow_the_grid() -> None:
    affine = np.array([[0.0, 0, 3.0, 7], [0.5, 0, 0, 8], [0, 0.5, 0, 9], [0, 0, 0, 1]])
    _, lesions, _ = find_lesions(
        probability((slice(4, 7), slice(10, 17), slice(20, 23))), Grid(SHAPE, affine), "Lesion"
    )
    assert lesions[0].volume_mm3 == pytest.approx(63 * 0.75)
    # voxel (k, j, i) = (5, 13, 21): x = 7 + 3 * 5, y = 8 + 0.5 * 21, z = 9 + 0.5 * 13
    assert lesions[0].centre_lps == pytest.approx((22.0, 18.5, 15.5))


def test_probability_of_a_lesion_is_the_mean_over_its_voxels() -> None:
    array = probability((slice(4, 6), slice(4, 6), slice(4, 7)), value=0.6)
    array[4] *= 1.5
    _, lesions, _ = find_lesions(array, GRID, "Lesion")
    assert lesions[0].probability == pytest.approx(0.75)


def test_threshold_decides_what_is_lesion() -> None:
    array = probability((slice(4, 6), slice(4, 6), slice(4, 7)), value=0.6)
    assert find_lesions(array, GRID, "Lesion", 0.6001)[1] == ()
    assert len(find_lesions(array, GRID, "Lesion", 0.3)[1]) == 1


def test_large_region_without_a_second_opinion_is_left_out() -> None:
    small, large = (slice(2, 5), slice(2, 5), slice(2, 5)), (slice(10, 16), slice(10, 16), slice(10, 16))
    asked = []

    def second(voxels: np.ndarray) -> np.ndarray:
        asked.append({tuple(voxel) for voxel in voxels})
        return np.full(len(voxels), 0.29, np.float32)

    _, lesions, counting = find_lesions(probability(small, large), GRID, "Lesion", second=second)
    assert [lesion.volume_mm3 for lesion in lesions] == [27.0]
    assert (counting.left_out, counting.left_out_mm3) == (1, 216.0)
    assert asked == [{tuple(voxel) for voxel in np.argwhere(probability(large) > 0)}]


def test_nothing_found_is_an_empty_mask() -> None:
    labels, lesions, counting = find_lesions(probability(), GRID, "Lesion")
    assert counting.left_out == 0
    assert labels.shape == SHAPE
    assert not labels.any()
    assert lesions == ()


def test_key_slices_show_the_largest_areas_apart_and_the_maximum_of_the_map() -> None:
    mask = np.zeros((40, 10, 10), dtype=bool)
    mask[10:13, :5, :5] = True
    mask[11, :6, :5] = True
    mask[30, :2, :2] = True
    heat = np.zeros(mask.shape, dtype=np.float32)
    heat[20, 5, 5] = 1.0
    assert key_slices(mask, heat, 3.0) == (11, 20, 30)


def test_key_slices_are_at_most_eight_and_the_maximum_of_the_map() -> None:
    mask = np.ones((60, 4, 4), dtype=bool)
    heat = np.zeros(mask.shape, dtype=np.float32)
    heat[59] = 1.0
    chosen = key_slices(mask, heat, 3.0)
    assert len(chosen) == 9
    assert 59 in chosen


def test_key_slices_without_lesions_are_those_of_the_map() -> None:
    heat = np.zeros((40, 4, 4), dtype=np.float32)
    heat[7], heat[8], heat[25] = 0.5, 0.4, 0.2
    assert key_slices(np.zeros(heat.shape, dtype=bool), heat, 3.0) == (7, 25)


def test_flat_map_without_lesions_has_no_key_slices() -> None:
    empty = np.zeros((5, 4, 4))
    assert key_slices(empty.astype(bool), empty.astype(np.float32), 3.0) == ()
