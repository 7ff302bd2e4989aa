"""N4 takes the shading away and leaves the tissue."""

from __future__ import annotations

import numpy as np

from pipelines.brain.bias_field import correct_bias, shrink_factors

SPACING_MM = (3.0, 1.5, 1.5)


def shaded_ball() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a two-tissue ball under a field of plus and minus 30 %, its mask, and the ball without it."""
    k, j, i = np.indices((24, 60, 60)).astype(np.float32)
    radius = np.sqrt(((k - 12) * 3) ** 2 + ((j - 30) * 1.5) ** 2 + ((i - 30) * 1.5) ** 2)
    mask = radius < 34
    clean = np.where((i // 6 + j // 6) % 2 == 0, 100.0, 130.0) * mask
    return (clean * (1.0 + 0.3 * (i - 30) / 23)).astype(np.float32), mask, clean.astype(np.float32)


def spread(array: np.ndarray, clean: np.ndarray) -> float:
    values = array[clean == 100.0]
    return float(values.std() / values.mean())


def test_shading_is_removed_and_the_contrast_stays() -> None:
    shaded, mask, clean = shaded_ball()
    corrected = correct_bias(shaded, mask, SPACING_MM)
    assert spread(shaded, clean) > 0.12
    assert spread(corrected, clean) < 0.06
    ratio = np.median(corrected[clean == 130.0]) / np.median(corrected[clean == 100.0])
    assert 1.25 < ratio < 1.35


def test_same_input_gives_the_same_output() -> None:
    shaded, mask, _ = shaded_ball()
    first, second = (correct_bias(shaded, mask, SPACING_MM) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_negative_and_zero_intensities_stay_finite() -> None:
    shaded, mask, _ = shaded_ball()
    shaded[:, :20] -= 200.0
    assert np.isfinite(correct_bias(shaded, mask, SPACING_MM)).all()


def test_thick_slices_are_not_shrunk_like_fine_pixels() -> None:
    assert shrink_factors((48, 320, 320), (6.0, 0.7, 0.7)) == [7, 7, 1]
    assert shrink_factors((160, 256, 256), (1.0, 1.0, 1.0)) == [5, 5, 5]
    assert shrink_factors((6, 256, 256), (1.0, 1.0, 1.0)) == [5, 5, 1]
