"""Small lesions keep their contrast on the way to the cube, and nothing is made up."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.cube import on_cube
from pipelines.brain.grid import Grid, resample, smooth_for

CENTRE_LPS = np.array([15.2, 14.9, 15.6])
CUBE = Grid((24, 24, 24), np.diag([1.2, 1.2, 1.2, 1.0]))
TISSUE, LESION = 100.0, 150.0


def grid_of(spacing_ijk: tuple[float, float, float]) -> Grid:
    """Axial slices that cover 33 mm along each axis."""
    i, j, k = (int(33.0 / mm) for mm in spacing_ijk)
    affine = np.diag([*spacing_ijk, 1.0])
    affine[:3, 3] = (np.array(spacing_ijk) - 1.0) / 2 - 1.0
    return Grid((k, j, i), affine)


def spot(grid: Grid, fwhm_mm: float = 3.5) -> np.ndarray:
    """Tissue with a lesion that fades towards its border."""
    points = grid.positions_lps(np.moveaxis(np.indices(grid.shape_kji), 0, -1))
    distance_mm = np.linalg.norm(points - CENTRE_LPS, axis=-1)
    return (TISSUE + (LESION - TISSUE) * np.exp(-4 * np.log(2) * (distance_mm / fwhm_mm) ** 2)).astype(
        np.float32
    )


def everywhere(grid: Grid) -> np.ndarray:
    return np.ones(grid.shape_kji, dtype=bool)


def test_a_small_lesion_keeps_more_of_its_contrast_than_by_linear_interpolation() -> None:
    native = grid_of((1.0, 1.0, 1.0))
    truth = spot(CUBE)
    seen = on_cube(spot(native), native, CUBE, everywhere(native))
    linear = resample(smooth_for(spot(native), native, 1.2), native, CUBE)
    bright = truth > TISSUE + 0.5 * (LESION - TISSUE)
    error = np.abs(seen - truth)[bright].mean()
    assert error < 0.6 * np.abs(linear - truth)[bright].mean()
    assert error < 0.04 * LESION


def test_even_tissue_stays_even_up_to_the_border_of_the_image() -> None:
    native = grid_of((0.6, 0.6, 3.0))
    flat = np.full(native.shape_kji, TISSUE, dtype=np.float32)
    seen = on_cube(flat, native, CUBE, everywhere(native))
    np.testing.assert_allclose(seen, TISSUE, rtol=1e-4)


def test_fine_pixels_are_averaged() -> None:
    native = grid_of((0.4, 0.4, 1.2))
    noise = np.random.default_rng(0).normal(TISSUE, 10.0, native.shape_kji).astype(np.float32)
    seen = on_cube(noise, native, CUBE, everywhere(native))[4:-4, 4:-4, 4:-4]
    assert seen.std() < 0.6 * noise.std()
    assert seen.mean() == pytest.approx(TISSUE, rel=0.01)


def test_nothing_falls_below_the_darkest_voxel() -> None:
    native = grid_of((1.0, 1.0, 1.0))
    edge = np.where(np.arange(native.shape_kji[2]) < 16, np.float32(0), np.float32(TISSUE))
    array = np.broadcast_to(edge, native.shape_kji).astype(np.float32)
    seen = on_cube(array, native, CUBE, array > 0)
    assert seen.min() == 0.0


def test_thick_slices_are_divided() -> None:
    native = grid_of((1.0, 1.0, 4.8))
    sloping = np.broadcast_to(
        np.arange(native.shape_kji[0], dtype=np.float32)[:, None, None], native.shape_kji
    ).copy()
    seen = on_cube(sloping, native, CUBE, everywhere(native))[6:-6, 12, 12]
    steps = np.diff(seen)
    assert steps.min() > 0.2
    assert steps.max() < 0.3
