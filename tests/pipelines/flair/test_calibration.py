"""Temperature scaling finds the temperature that made the logits too sure, and never changes who comes first."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from pipelines.errors import PipelineError
from pipelines.flair.calibration import (
    TEMPERATURE_RANGE,
    calibrated,
    expected_calibration_error,
    fit_temperature,
    temperature_of,
)


def drawn(n: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is exactly right, and classes drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 1.5, (n, 2))
    target = (rng.random(n) < softmax(logits, axis=1)[:, 1]).astype(int)
    return logits, target


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_fit_finds_the_factor_that_the_logits_were_stretched_by(factor: float) -> None:
    logits, target = drawn(20_000)
    assert fit_temperature(factor * logits, target) == pytest.approx(factor, rel=0.05)


def test_calibration_lowers_the_error_and_keeps_the_order() -> None:
    logits, target = drawn(4000)
    sure = calibrated(3.0 * logits, 1.0)
    fitted = calibrated(3.0 * logits, fit_temperature(3.0 * logits, target))
    assert expected_calibration_error(sure, target) > 0.1
    assert expected_calibration_error(fitted, target) < 0.03
    np.testing.assert_array_equal(sure.argmax(1), fitted.argmax(1))


def test_probabilities_are_those_of_the_softmax() -> None:
    # logits 2 and 0 at temperature 2: 1 / (1 + exp(-1))
    np.testing.assert_allclose(calibrated([2.0, 0.0], 2.0), [0.7310586, 0.2689414], rtol=1e-6)


def test_error_is_the_weighted_gap_of_each_bin() -> None:
    # Two bins of two: confidence 0.6, half right; confidence 0.9, all right.
    probabilities = [[0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.1, 0.9]]
    error = expected_calibration_error(probabilities, [0, 0, 0, 1], bins=5)
    assert error == pytest.approx(0.5 * abs(0.5 - 0.6) + 0.5 * abs(1.0 - 0.9))


def test_logits_that_separate_everything_stay_within_the_range() -> None:
    temperature = fit_temperature([[4.0, -4.0], [-4.0, 4.0]], [0, 1])
    assert TEMPERATURE_RANGE[0] <= temperature < 0.5


@pytest.mark.parametrize(
    ("logits", "target"),
    [([], []), ([[1.0, 2.0]], [0, 1]), ([1.0, 2.0], [0, 1]), ([[np.nan, 0.0]], [0])],
)
def test_cases_that_do_not_fit_are_refused(logits: list[object], target: list[int]) -> None:
    with pytest.raises(ValueError, match=r"\(n, classes\)|not numbers"):
        fit_temperature(logits, target)


def test_card_without_a_temperature_is_not_calibrated() -> None:
    assert temperature_of({"name": "joint", "calibrated": False}) == (1.0, False)
    assert temperature_of({"name": "joint", "temperature": 1.0, "calibrated": False}) == (1.0, False)
    assert temperature_of({"name": "joint", "temperature": 1.7}) == (1.7, True)


@pytest.mark.parametrize("stated", [0.0, -1, "2", True])
def test_card_with_a_bad_temperature_is_an_error_that_names_it(stated: object) -> None:
    with pytest.raises(PipelineError, match='model card of "joint" states the temperature'):
        temperature_of({"name": "joint", "temperature": stated})


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_that_is_not_above_zero_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        calibrated([1.0, 2.0], temperature)
