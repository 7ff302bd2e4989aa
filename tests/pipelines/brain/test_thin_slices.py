"""Thick slices made thin: what they keep, and where what they show lies."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid, resample
from pipelines.brain.thin_slices import mean_weights, thinned

SHAPE = (12, 20, 18)


def grid_of(spacing_mm: tuple[float, float, float]) -> Grid:
    """Slices of so many mm along k, rows and columns, turned a little in the patient's frame."""
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing_mm)[::-1]
    affine[:3, 3] = (-20.0, 30.0, 4.0)
    return Grid(SHAPE, affine)


def test_each_slice_keeps_its_mean() -> None:
    array = np.random.default_rng(0).uniform(1.0, 2.0, SHAPE).astype(np.float32)
    array[:, 0] = 0.0  # nothing is made less than the least value
    thin, grid = thinned(array, grid_of((4.8, 1.0, 1.0)), 1.2)
    assert thin.shape == grid.shape_kji == (48, 20, 18)
    assert thin.reshape(12, 4, 20, 18).mean(axis=1) == pytest.approx(array, abs=1e-4)


def test_thin_slices_are_left_as_they_are() -> None:
    array = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    source = grid_of((1.7, 1.0, 1.0))
    thin, grid = thinned(array, source, 1.2)
    assert thin is array
    assert np.array_equal(grid.affine, source.affine)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_extent_stays_along_every_axis(axis: int) -> None:
    spacing = [1.2, 1.2, 1.2]
    spacing[axis] = 3.6
    source = grid_of((spacing[0], spacing[1], spacing[2]))
    _, grid = thinned(np.ones(SHAPE, np.float32), source, 1.2)
    corner, end = np.full(3, -0.5), np.array(SHAPE) - 0.5
    assert grid.positions_lps(corner) == pytest.approx(source.positions_lps(corner))
    assert grid.positions_lps(np.array(grid.shape_kji) - 0.5) == pytest.approx(source.positions_lps(end))
    assert grid.spacing_mm == pytest.approx((1.2, 1.2, 1.2))


def test_a_steady_slope_stays_where_it_is() -> None:
    array = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], SHAPE).copy()
    source = grid_of((4.8, 1.0, 1.0))
    thin, grid = thinned(array, source, 1.2)
    back = resample(thin, grid, source)
    assert back[2:-2] == pytest.approx(array[2:-2], abs=0.02)
    assert np.diff(thin[12:-12, 5, 5]) == pytest.approx(0.25, abs=0.005)


def test_a_small_lesion_keeps_more_of_its_contrast_than_between_straight_lines() -> None:
    fine = np.exp(-((np.arange(240) - 118) ** 2) / (2 * 12.0**2)).astype(np.float32)  # 0.25 mm, 7 mm wide
    thick = fine.reshape(12, 20).mean(axis=1)
    source = Grid((12, 2, 2), np.diag([1.0, 1.0, 5.0, 1.0]))
    array = np.broadcast_to(thick[:, None, None], (12, 2, 2)).copy()
    thin, grid = thinned(array, source, 1.25)
    truth = fine.reshape(48, 5).mean(axis=1)
    straight = resample(array, source, grid)[:, 0, 0]
    error = np.abs(thin[:, 0, 0] - truth)[4:-4].max()
    assert error < 0.5 * np.abs(straight - truth)[4:-4].max()


def test_places_beyond_the_slices_get_nothing() -> None:
    weights = mean_weights(4, [-2.0, -1.0, 0.0, 1.0, 4.0, 5.0])
    assert weights[[0, 1, 4]] == pytest.approx(0.0)
    assert weights[[2, 3]].sum(axis=1) == pytest.approx(1.0)
    assert weights[2] == pytest.approx([1.0, 0.0, 0.0, 0.0], abs=1e-6)


def test_what_lies_around_does_not_ring_into_what_is_of_interest() -> None:
    inside = np.zeros(SHAPE, bool)
    inside[3:9] = True
    array = np.where(inside, np.float32(100.0), np.float32(900.0))
    thin, grid = thinned(array, grid_of((4.8, 1.0, 1.0)), 1.2, inside)
    assert thin.shape == grid.shape_kji
    assert thin == pytest.approx(100.0, abs=1e-3)
