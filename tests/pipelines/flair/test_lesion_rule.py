"""What counts as a lesion: long axis in the plane, a volume that grows with the voxel, mean probability."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.long_axis import long_axis_mm
from pipelines.flair.lesion_rule import is_confirmed, is_lesion, least_probability, least_volume_mm3

CUBIC = (1.0, 1.0, 1.0)
THICK = (6.0, 0.9, 0.9)


def region(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=bool)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "counts"),
    [
        ((1, 1, 4), CUBIC, True),
        ((1, 1, 3), CUBIC, False),  # three voxels
        ((2, 2, 2), CUBIC, False),  # 2.4 mm in the plane
        ((9, 2, 2), CUBIC, False),  # and no longer in it for going through many slices
        ((2, 3, 2), CUBIC, True),
        ((1, 1, 1), THICK, False),  # one voxel of 4.9 mm3
        ((2, 1, 1), THICK, False),
        ((1, 1, 4), THICK, True),
        ((1, 2, 4), (5.0, 0.45, 0.45), False),  # 8 mm3, but 2.0 mm long
        ((1, 3, 7), (5.0, 0.45, 0.45), True),
        ((1, 2, 2), (6.0, 3.0, 3.0), True),
    ],
)
def test_size_counts_in_the_plane_and_in_voxels(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], *, counts: bool
) -> None:
    assert is_lesion(region(*shape), 0.9, spacing_mm, 0.5) == counts


def test_least_volume_grows_with_the_voxel() -> None:
    assert least_volume_mm3(0.2) == 3.0
    assert least_volume_mm3(1.0) == 4.0
    assert least_volume_mm3(5.0) == 20.0


@pytest.mark.parametrize(("threshold", "least"), [(0.5, 0.6), (0.3, 9 / 23), (0.8, 6 / 7), (0.9, 27 / 29)])
def test_mean_probability_must_have_one_and_a_half_times_the_odds_of_the_threshold(
    threshold: float, least: float
) -> None:
    assert least_probability(threshold) == pytest.approx(least)
    assert is_lesion(region(3, 3, 3), least + 0.001, CUBIC, threshold)
    assert not is_lesion(region(3, 3, 3), least - 0.001, CUBIC, threshold)


def test_long_axis_runs_from_edge_to_edge_in_the_slice_where_it_is_longest() -> None:
    assert long_axis_mm(region(1, 1, 1), CUBIC) == 1.0
    assert long_axis_mm(region(1, 4, 1), (5.0, 0.5, 0.5)) == 2.0
    slanting = np.eye(4, dtype=bool)[None]
    assert long_axis_mm(slanting, CUBIC) == pytest.approx(3 * np.sqrt(2) + 1)
    both = np.zeros((2, 6, 6), dtype=bool)
    both[0, 2, 2:4], both[1, 0, 0], both[1, 3, 4] = True, True, True
    assert long_axis_mm(both, CUBIC) == 6.0
    assert long_axis_mm(np.zeros((2, 3, 3), dtype=bool), CUBIC) == 0.0


def test_the_larger_a_region_the_more_a_second_opinion_must_say() -> None:
    least = {150.0: 0.0, 200.0: 0.0, 201.0: 0.3, 1000.0: 0.3, 1001.0: 0.65}
    for volume_mm3, asked in least.items():
        assert is_confirmed(volume_mm3, asked)
        assert asked == 0.0 or not is_confirmed(volume_mm3, asked - 0.01)
