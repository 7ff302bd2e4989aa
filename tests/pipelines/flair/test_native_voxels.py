"""Lesions keep their place and volume on the way from the cube to native voxels."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.flair.native_voxels import at_voxels, lesion_probability, predictions
from pipelines.flair.preprocess import Brain, Cube, to_native
from pipelines.types import FloatArray

EDGE = 24
SHAPE = (EDGE, EDGE, EDGE)
STEP_MM = 1.2
CENTRE_LPS = np.array([13.0, 14.1, 12.3])


def cube() -> Cube:
    affine = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    return Cube(np.zeros(SHAPE, np.float32), np.ones(SHAPE, dtype=bool), Grid(SHAPE, affine))


def brain(affine: np.ndarray, shape: tuple[int, int, int]) -> Brain:
    grid = Grid(shape, affine)
    box = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    return Brain(grid, box, grid, np.zeros(shape, np.float32), np.ones(shape, dtype=bool))


def native() -> Brain:
    """Voxels of 1 mm whose centres lie between those of the cube."""
    affine = np.eye(4)
    affine[:3, 3] = 0.3
    return brain(affine, (27, 27, 27))


def ball(grid: Grid, radius_mm: float, softness_mm: float = 0.4) -> FloatArray:
    """The probability that a network gives a ball: 0.5 on its surface."""
    points = grid.positions_lps(np.moveaxis(np.indices(grid.shape_kji), 0, -1))
    inside_mm = radius_mm - np.linalg.norm(points - CENTRE_LPS, axis=-1)
    return (1.0 / (1.0 + np.exp(-inside_mm / softness_mm))).astype(np.float32)


@pytest.mark.parametrize("radius_mm", [1.2, 1.5, 2.0, 4.0])
def test_a_lesion_keeps_more_of_its_volume_than_by_linear_interpolation(radius_mm: float) -> None:
    fine = brain(np.diag([0.4, 0.4, 0.4, 1.0]), (66, 66, 66))
    seen = ball(cube().grid, radius_mm)
    truth = (ball(fine.grid, radius_mm) >= 0.5).sum()
    spline = (lesion_probability(seen, cube(), fine, 0.5) >= 0.5).sum()
    linear = (to_native(seen, cube(), fine) >= 0.5).sum()
    assert linear < spline
    assert spline == pytest.approx(truth, rel=0.1)


def test_a_voxel_has_the_same_value_whatever_else_is_asked_for() -> None:
    long = (150, 24, 24)
    seen = np.random.default_rng(2).uniform(0.0, 1.0, (2, *long)).astype(np.float16)
    grid = Grid(long, cube().grid.affine)
    of_long = Cube(np.zeros(long, np.float32), np.ones(long, dtype=bool), grid)
    fine = brain(np.diag([0.9, 0.9, 0.9, 1.0]), (199, 31, 31))
    at = np.random.default_rng(3).integers((90, 2, 2), (110, 28, 28), (200, 3))
    both_ends = np.array([[1, 1, 1], [198, 30, 30]])
    alone, among_others = (
        at_voxels(seen, at, of_long, fine),
        at_voxels(seen, np.concatenate([at, both_ends]), of_long, fine),
    )
    np.testing.assert_array_equal(alone, among_others[:, :-2])
    assert at_voxels(seen, at[:0], of_long, fine).shape == (2, 0)


def test_a_voxel_of_the_cube_keeps_its_probability() -> None:
    seen = np.random.default_rng(1).uniform(0.05, 0.95, SHAPE).astype(np.float32)
    same = brain(cube().grid.affine, SHAPE)
    np.testing.assert_allclose(lesion_probability(seen, cube(), same, 0.5), seen, atol=1e-3)


def test_a_turned_grid_finds_the_lesion_at_its_place() -> None:
    # i runs inferior, j left, k anterior; anisotropic
    affine = np.array([[0, 1.7, 0, 1.0], [0, 0, -2.5, 27.0], [-0.8, 0, 0, 26.0], [0, 0, 0, 1.0]])
    turned = brain(affine, (10, 15, 30))
    found = lesion_probability(ball(cube().grid, 4.0), cube(), turned, 0.5)
    truth = ball(turned.grid, 4.0)
    assert found.shape == turned.grid.shape_kji
    overlap = 2 * ((found >= 0.5) & (truth >= 0.5)).sum() / ((found >= 0.5).sum() + (truth >= 0.5).sum())
    assert overlap > 0.9


def test_where_nothing_is_near_nothing_is_found() -> None:
    far = lesion_probability(ball(cube().grid, 2.0), cube(), native(), 0.5)[:4]
    assert far.max() < 0.01
    nothing = predictions(np.zeros((2, *SHAPE), np.float16), cube(), native(), 0.5)
    assert nothing.values.shape == (2, 0)


def test_outside_the_brain_the_probability_is_zero() -> None:
    half = native()
    half.mask[:13] = False
    found = lesion_probability(ball(cube().grid, 4.0), cube(), half, 0.5)
    assert found[:13].max() == 0.0
    assert found[13:].max() > 0.9


def test_no_lesion_arises_where_the_cube_has_none() -> None:
    seen = np.full(SHAPE, 0.001, dtype=np.float32)
    seen[8:14, 8:14, 8:14] = 0.4
    found = lesion_probability(seen, cube(), native(), 0.5)
    assert 0.3 < found.max() <= 0.4 + 1e-6


def test_a_certain_prediction_is_no_infinite_one() -> None:
    seen = (ball(cube().grid, 3.0) >= 0.5).astype(np.float16)
    found = lesion_probability(seen.astype(np.float32), cube(), native(), 0.5)
    assert np.isfinite(found).all()
    assert found.max() > 0.95


def test_each_prediction_is_asked_at_every_voxel_that_one_of_them_calls_lesion() -> None:
    samples = np.stack([ball(cube().grid, 2.0), ball(cube().grid, 4.0)])
    found = predictions(samples, cube(), native(), 0.5)
    alone = [(lesion_probability(sample, cube(), native(), 0.5) >= 0.5).sum() for sample in samples]
    assert [(values >= 0.5).sum() for values in found.values] == alone
    np.testing.assert_array_equal(found.values, at_voxels(samples, found.voxels, cube(), native()))
