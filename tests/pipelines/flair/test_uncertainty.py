"""The intervals hold what single predictions say, and what is reported."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.flair.lesions import find_lesions
from pipelines.flair.native_voxels import Predictions, predictions
from pipelines.flair.preprocess import Brain, Cube
from pipelines.flair.uncertainty import lesions_with_intervals, volume_interval
from pipelines.types import FloatArray

SHAPE = (16, 16, 16)


def cube() -> Cube:
    affine = np.diag([1.2, 1.2, 1.2, 1.0])
    return Cube(np.zeros(SHAPE, np.float32), np.ones(SHAPE, dtype=bool), Grid(SHAPE, affine))


def brain(affine: np.ndarray | None = None, shape: tuple[int, int, int] = SHAPE) -> Brain:
    grid = Grid(shape, cube().grid.affine if affine is None else affine)
    box = (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    return Brain(grid, box, grid, np.zeros(shape, np.float32), np.ones(shape, dtype=bool))


def spot(value: float, edge: int) -> FloatArray:
    """A cube of that many voxels along each edge."""
    array = np.zeros(SHAPE, np.float32)
    array[4 : 4 + edge, 4 : 4 + edge, 4 : 4 + edge] = value
    return array


def said(samples: np.ndarray) -> Predictions:
    return predictions(samples, cube(), brain(), 0.5)


VOXEL = 1.2**3


def test_volume_interval_is_the_range_of_the_single_predictions() -> None:
    samples = np.stack([spot(0.9, 2), spot(0.9, 4), spot(0.6, 3)]).astype(np.float16)
    mean = samples.mean(axis=0, dtype=np.float32)
    found = volume_interval(27 * VOXEL, mean, said(samples), VOXEL, 0.5)
    assert (found.low, found.high) == pytest.approx((8 * VOXEL, 64 * VOXEL))
    assert found.basis == "over 3 predictions"


def test_volume_interval_always_holds_the_reported_volume() -> None:
    samples = np.stack([spot(0.9, 2), spot(0.9, 2)])
    assert volume_interval(500.0, samples[0], said(samples), VOXEL, 0.5).high == 500.0
    assert volume_interval(1.0, samples[0], said(samples), VOXEL, 0.5).low == 1.0


def test_specks_below_the_smallest_lesion_do_not_count() -> None:
    samples = np.stack([spot(0.9, 1), spot(0.9, 2)])
    assert volume_interval(8 * VOXEL, samples[1], said(samples), VOXEL, 0.5).low == 0.0


def test_one_prediction_moves_the_threshold_instead() -> None:
    array = spot(0.4, 4)
    array[4:6, 4:6, 4:6] = 0.9
    array[4:7, 4:6, 4:6] = np.maximum(array[4:7, 4:6, 4:6], 0.6)
    found = volume_interval(12 * VOXEL, array, said(array[None]), VOXEL, 0.5)
    assert (found.low, found.high) == pytest.approx((8 * VOXEL, 64 * VOXEL))
    assert found.basis == "at thresholds from 0.30 to 0.70"


def test_nothing_anywhere_is_an_interval_of_nothing() -> None:
    samples = np.zeros((2, *SHAPE), np.float16)
    found = volume_interval(0.0, samples[0].astype(np.float32), said(samples), VOXEL, 0.5)
    assert (found.low, found.high) == (0.0, 0.0)


def test_lesion_gets_the_range_of_its_mean_probability() -> None:
    samples = np.stack([spot(0.9, 3), spot(0.6, 3)])
    mean = samples.mean(axis=0)
    labels, lesions, _ = find_lesions(mean, brain().whole, "Lesion")
    (lesion,) = lesions_with_intervals(lesions, labels, said(samples))
    assert lesion.probability == pytest.approx(0.75)
    assert lesion.probability_interval is not None
    assert (lesion.probability_interval.low, lesion.probability_interval.high) == pytest.approx((0.6, 0.9))
    assert lesion.probability_interval.basis == "over 2 predictions"


def test_one_prediction_gives_a_lesion_no_interval() -> None:
    samples = spot(0.9, 3)[None]
    labels, lesions, _ = find_lesions(samples[0], brain().whole, "Lesion")
    assert lesions_with_intervals(lesions, labels, said(samples)) == lesions
    assert lesions[0].probability_interval is None
