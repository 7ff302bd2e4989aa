"""Arrays keep their place in the patient on the way from one grid to another."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain import grid as grid_module
from pipelines.brain.grid import Grid, bounding_box, resample, smooth_for

AXIAL = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
SAGITTAL = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])
CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
LEFT_HANDED = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
FEET_FIRST = np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
_C, _S = np.cos(0.4), np.sin(0.4)
OBLIQUE = np.array([[_C, -_S, 0], [_S, _C, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, _C, _S], [0, -_S, _C]])


def grid_of(
    axes: np.ndarray, spacing_ijk: tuple[float, float, float], shape_kji: tuple[int, int, int]
) -> Grid:
    """Return a grid around the patient point (5, -7, 11)."""
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing_ijk)
    affine[:3, 3] = np.array([5.0, -7.0, 11.0]) - affine[:3, :3] @ ((np.array(shape_kji[::-1]) - 1) / 2)
    return Grid(shape_kji, affine)


def ramp(grid: Grid) -> np.ndarray:
    """Return 100 + x + 2y - 3z at each voxel centre: linear, so that linear interpolation is exact."""
    x, y, z = np.moveaxis(grid.positions_lps(np.moveaxis(np.indices(grid.shape_kji), 0, -1)), -1, 0)
    return (100 + x + 2 * y - 3 * z).astype(np.float32)


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, CORONAL, LEFT_HANDED, FEET_FIRST, OBLIQUE])
def test_points_keep_their_patient_position_through_another_grid(axes: np.ndarray) -> None:
    native = grid_of(axes, (0.7, 0.9, 3.0), (24, 70, 80))
    turned = grid_of(OBLIQUE.T, (1.2, 1.2, 1.2), (16, 16, 16))
    there = resample(ramp(native), native, turned)
    np.testing.assert_allclose(there, ramp(turned), atol=2e-3)
    inner = grid_of(axes, (0.7, 0.9, 3.0), (3, 7, 7))
    np.testing.assert_allclose(resample(there, turned, inner), ramp(inner), atol=5e-3)


def test_same_grid_returns_the_same_values_up_to_the_border() -> None:
    native = grid_of(OBLIQUE, (0.7, 0.9, 3.0), (5, 6, 7))
    np.testing.assert_allclose(resample(ramp(native), native, native), ramp(native), rtol=1e-5)


def test_spline_keeps_what_is_linear_inside_the_array() -> None:
    native = grid_of(AXIAL, (1.0, 1.0, 1.0), (40, 40, 40))
    inner = grid_of(OBLIQUE, (0.7, 0.7, 0.7), (6, 6, 6))
    np.testing.assert_allclose(resample(ramp(native), native, inner, order=3), ramp(inner), atol=0.05)


def test_transform_takes_target_points_to_the_source() -> None:
    native = grid_of(AXIAL, (1.0, 1.0, 1.0), (20, 20, 20))
    shift = np.eye(4)
    shift[:3, 3] = [2.0, 0.0, 1.0]
    target = grid_of(AXIAL, (1.0, 1.0, 1.0), (5, 5, 5))
    # 2 more in x and 1 more in z: 2 - 3 = -1
    moved = resample(ramp(native), native, target, transform=shift)
    np.testing.assert_allclose(moved, ramp(target) - 1.0, atol=1e-3)


def test_outside_value_fills_what_the_source_does_not_cover() -> None:
    small = grid_of(AXIAL, (1.0, 1.0, 1.0), (4, 4, 4))
    large = grid_of(AXIAL, (1.0, 1.0, 1.0), (10, 10, 10))
    values = resample(np.ones(small.shape_kji), small, large, outside=-5.0)
    assert values[0, 0, 0] == -5.0
    assert values[5, 5, 5] == 1.0


def test_crop_keeps_patient_positions() -> None:
    native = grid_of(OBLIQUE, (0.7, 0.9, 3.0), (12, 13, 14))
    part = native.crop((slice(2, 7), slice(3, 9), slice(4, 14)))
    assert part.shape_kji == (5, 6, 10)
    np.testing.assert_allclose(part.positions_lps([0, 0, 0]), native.positions_lps([2, 3, 4]))
    np.testing.assert_allclose(part.positions_lps([4, 5, 9]), native.positions_lps([6, 8, 13]))


def test_bounding_box_has_its_margin_in_mm_and_ends_at_the_array() -> None:
    mask = np.zeros((10, 40, 40), dtype=bool)
    mask[4:6, 20:30, 38] = True
    assert bounding_box(mask, 6.0, (3.0, 1.0, 0.5)) == (slice(2, 8), slice(14, 36), slice(26, 40))


def test_smoothing_averages_fine_pixels_and_leaves_thick_slices() -> None:
    native = grid_of(AXIAL, (0.5, 0.5, 3.0), (9, 31, 31))
    point = np.zeros(native.shape_kji, dtype=np.float32)
    point[4, 15, 15] = 1.0
    blurred = smooth_for(point, native, 1.2)
    assert blurred[3].max() == 0.0
    assert 0.05 < blurred[4, 15, 15] < 0.3
    assert blurred.sum() == pytest.approx(1.0, abs=1e-3)


def test_voxel_volume_of_a_left_handed_grid_is_positive() -> None:
    assert grid_of(LEFT_HANDED, (0.5, 0.5, 4.0), (3, 3, 3)).voxel_volume_mm3 == pytest.approx(1.0)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_number_of_threads_changes_no_voxel(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = grid_of(OBLIQUE, (1.0, 1.5, 3.0), (9, 14, 12))
    target = grid_of(AXIAL, (1.2, 1.2, 1.2), (20, 21, 22))
    array = np.random.default_rng(1).random(source.shape_kji, dtype=np.float32)
    found = []
    for number in (1, 3):
        monkeypatch.setattr(grid_module, "threads", lambda number=number: number)
        found.append(resample(array, source, target, order=order, outside=-5.0))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


def test_grid_that_the_source_does_not_reach_is_outside() -> None:
    source, target = grid_of(AXIAL, (1, 1, 1), (4, 5, 6)), grid_of(AXIAL, (1, 1, 1), (3, 3, 3))
    target.affine[:3, 3] += 500.0
    assert (resample(np.ones(source.shape_kji), source, target, outside=-5.0) == -5.0).all()


def test_voxels_along_a_direction_are_their_positions_on_it() -> None:
    grid = grid_of(OBLIQUE, (1.0, 1.5, 3.0), (4, 5, 6))
    mask = np.random.default_rng(2).random(grid.shape_kji) > 0.5
    direction = np.array([0.6, 0.0, 0.8])
    np.testing.assert_allclose(
        grid.along(direction, mask), grid.positions_lps(np.argwhere(mask)) @ direction, atol=1e-9
    )
