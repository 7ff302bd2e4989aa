"""Probabilities of lesions are as often right as they say, and move with the patients of the fit."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from pipelines.errors import PipelineError
from pipelines.flair.lesion_calibration import CARD_KEY, LesionCalibration, covariance, fit, inputs
from pipelines.flair.settings import MASK_WEIGHTS
from pipelines.flair.weighing import KINDS, Weighing
from pipelines.types import Lesion
from pipelines.weights import card, card_details

NO_SPREAD = ((0.0, 0.0, 0.0),) * 3
HAND = LesionCalibration((-1.0, 2.0, 0.5), NO_SPREAD, 40, 5, {"nnunet": "ab"}, 0.5, True)


def lesion(probability: float, volume_mm3: float) -> Lesion:
    return Lesion(1, "Lesion", volume_mm3, (0.0, 0.0, 0.0), probability, (0, 1))


def test_probability_by_hand() -> None:
    # -1 + 2 ln(0.75 / 0.25) + 0.5 log10(100) = 2 ln 3: odds of 9
    found = HAND.told(lesion(0.75, 100.0))
    assert found.probability == pytest.approx(0.9)
    assert found.probability_interval is not None
    assert found.probability_interval.low == found.probability_interval.high == found.probability
    assert found.probability_interval.basis == "by 40 lesions of 5 labelled patients"


def test_interval_is_as_wide_as_the_coefficients_are_uncertain() -> None:
    spread = LesionCalibration((0.0, 0.0, 0.0), ((1.0, 0, 0), (0, 0, 0), (0, 0, 0)), 40, 5, {}, 0.5, True)
    interval = spread.told(lesion(0.9, 50.0)).probability_interval
    assert interval is not None
    assert math.log(interval.high / (1 - interval.high)) == pytest.approx(1.2816)
    assert interval.low + interval.high == pytest.approx(1.0)


def test_fit_finds_what_the_cases_were_drawn_by() -> None:
    rng = np.random.default_rng(3)
    x = inputs(rng.uniform(0.5, 0.95, 4000), 10 ** rng.uniform(0.6, 3, 4000))
    truth = np.array([-2.0, 1.5, 0.5])
    was = rng.random(4000) < 1 / (1 + np.exp(-x @ truth))
    np.testing.assert_allclose(fit(x, was), truth, atol=0.35)


def test_patients_that_differ_widen_the_interval() -> None:
    x = inputs(np.full(40, 0.8), np.full(40, 50.0))
    patients = np.repeat(np.array(["a", "b", "c", "d"]), 10)
    alike, unlike = np.tile(np.arange(10) < 5, 4), np.repeat([True, True, False, False], 10)
    said = [float(x[0] @ covariance(x, was, patients) @ x[0]) for was in (alike, unlike)]
    assert said[0] < 0.05 < said[1]


def test_model_card_gives_back_what_was_written() -> None:
    written = json.loads(json.dumps({"name": "nnunet", CARD_KEY: [HAND.as_card()]}))
    assert LesionCalibration.all_of(written) == (HAND,)
    assert LesionCalibration.all_of({"name": "nnunet"}) == ()


@pytest.mark.parametrize(
    "change",
    [{"coefficients": [1.0]}, {"covariance": "wide"}, {"covariance": [[math.nan] * 3] * 3}, {"colour": 1}],
)
def test_card_that_states_something_else_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match='"nnunet" states a lesion_probability that is none'):
        LesionCalibration.all_of({"name": "nnunet", CARD_KEY: [HAND.as_card() | change]})


@pytest.mark.parametrize("kind", KINDS)
def test_what_ships_applies_by_default(kind: Any) -> None:
    details = card_details(MASK_WEIGHTS[0])
    digests = {name: card(name).digest for name in Weighing.of(details, kind).asked(MASK_WEIGHTS)}
    (found,) = (one for one in LesionCalibration.all_of(details) if one.applies(digests, 0.5, flips=True))
    sure, faint = (found.told(lesion(mean, 80.0)).probability for mean in (0.85, 0.62))
    assert faint < 0.6 < sure
    assert not found.applies(digests, 0.4, flips=True)
    assert not found.applies(digests, 0.5, flips=False)
