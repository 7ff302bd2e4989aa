from __future__ import annotations

import numpy as np
import pytest

from pipelines.flair.intensity import BACKGROUND, brain_mode, normalise


def head(lesion_share: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    cube = rng.normal(300, 15, (40, 40, 40)).astype(np.float32)
    mask = np.zeros(cube.shape, bool)
    mask[5:35, 5:35, 5:35] = True
    lesions = mask & (rng.random(cube.shape) < lesion_share)
    cube[lesions] *= 1.4
    return cube, mask


def test_background_is_cut_off() -> None:
    cube, mask = head()
    assert (normalise(cube, mask)[~mask] == BACKGROUND).all()


def test_tissue_is_near_zero_and_lesions_near_two() -> None:
    cube, mask = head()
    cube[20, 20, 20] = 300 * 1.4
    result = normalise(cube, mask)
    assert abs(np.median(result[mask])) < 0.1
    assert abs(result[20, 20, 20] - 2.0) < 0.15


def test_scale_of_the_scanner_does_not_matter() -> None:
    cube, mask = head()
    np.testing.assert_allclose(normalise(cube, mask), normalise(cube * 7.5, mask), atol=1e-3)


def test_high_lesion_load_does_not_move_the_scale() -> None:
    healthy, loaded = head(), head(0.25)
    assert abs(brain_mode(healthy[0][healthy[1]]) - brain_mode(loaded[0][loaded[1]])) < 6


def test_empty_mask_gives_background() -> None:
    cube, mask = head()
    assert (normalise(cube, np.zeros_like(mask)) == BACKGROUND).all()


def test_values_are_limited() -> None:
    cube, mask = head()
    cube[20, 20, 20] = 1e6
    assert normalise(cube, mask).max() == 10.0


def test_mode_of_a_brain_of_one_value_but_for_rounding_is_that_value() -> None:
    values = np.float32(100.0) + np.random.default_rng(0).choice([0.0, 7.6e-6], 500).astype(np.float32)
    assert brain_mode(values) == pytest.approx(100.0)
