"""The interval of the volume follows what is seen and not believed, and only as it was fitted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.errors import PipelineError
from pipelines.flair.settings import MASK_WEIGHTS, default_settings
from pipelines.flair.volume_calibration import (
    CARD_KEY,
    VolumeCalibration,
    bounds,
    faint_volume_mm3,
    fit_lines,
    quantile_line,
)
from pipelines.flair.weighing import Weighing, kind_of
from pipelines.types import FloatArray
from pipelines.weights import card, card_details, installed

FITTED = VolumeCalibration(
    low=(-0.4, 1.0),
    high=(-0.1, 2.0),
    largest=0.5,
    level=0.8,
    held=0.79,
    cases=96,
    origins="synthetic",
    digests={"nnunet": "ab", "nnunet-thick": "cd"},
    threshold=0.5,
    flips=True,
)


def spot(sure: int, faint: int) -> FloatArray:
    """Rows of voxels: so many that are believed, then so many that are seen only."""
    array = np.zeros((4, 4, 40), np.float32)
    array[1, 1, :sure] = 0.9
    array[1, 1, sure : sure + faint] = 0.2
    return array


def test_quantile_line_through_points_that_lie_on_one() -> None:
    u = np.array([0.0, 0.2, 0.7, 1.0])
    assert quantile_line(u, 0.3 - 2.0 * u, 0.9) == pytest.approx((0.3, -2.0))


def test_quantile_of_a_constant_by_hand() -> None:
    # without a slope to use (all u are 0) the line is the quantile: 0.9 of 1..11 is the 10th
    intercept, _ = quantile_line(np.zeros(11), np.arange(1.0, 12.0), 0.9)
    assert intercept == pytest.approx(10.0)


def test_lines_hold_the_share_that_they_are_fitted_for() -> None:
    rng = np.random.default_rng(3)
    u = rng.uniform(0, 1, 400)
    y = 0.1 + u + (0.1 + 0.3 * u) * rng.normal(size=400)
    low, high = fit_lines(u, y, 0.8)
    within = (y >= low[0] + low[1] * u) & (y <= high[0] + high[1] * u)
    assert within.mean() == pytest.approx(0.8, abs=0.01)
    # wider where there is more that is seen and not believed: the normal's 10 % point is 1.28 SD away
    assert high[1] == pytest.approx(1 + 1.28 * 0.3, abs=0.2)
    assert low[1] == pytest.approx(1 - 1.28 * 0.3, abs=0.2)


def test_bounds_always_hold_the_report() -> None:
    assert bounds((0.2, 0.0), (0.5, 0.0), 1.0) == (0.0, 0.5)
    assert bounds((-0.5, 0.0), (-0.2, 0.0), 1.0) == (-0.5, 0.0)


def test_interval_by_hand() -> None:
    # 20 voxels of 2 mm3 are reported and 5 more are seen: u = ln(25 / 20)
    found = FITTED.interval(40.0, spot(20, 5), 2.0)
    assert found is not None
    assert found.low == pytest.approx(40 * math.exp(-0.4) * 1.25)
    assert found.high == pytest.approx(40 * math.exp(-0.1) * 1.25**2)
    assert found.basis == "that held the truth in 79 % of 96 synthetic cases"


def test_lines_are_not_followed_beyond_the_cases() -> None:
    found = FITTED.interval(10.0, spot(5, 30), 2.0)
    assert found is not None
    assert found.high == pytest.approx(10 * math.exp(-0.1 + 2.0 * 0.5))


def test_nothing_found_has_no_interval_of_this_kind() -> None:
    assert FITTED.interval(0.0, spot(0, 5), 2.0) is None


def test_seen_at_all_leaves_out_specks() -> None:
    array = spot(3, 2)
    array[3, 3, 39] = 0.3
    assert faint_volume_mm3(array, 2.0) == pytest.approx(10.0)


def test_it_applies_to_the_same_networks_asked_in_the_same_way() -> None:
    same = {"nnunet-thick": "cd", "nnunet": "ab"}
    assert FITTED.applies(same, 0.5, flips=True)
    assert not FITTED.applies(same, 0.4, flips=True)
    assert not FITTED.applies(same, 0.5, flips=False)
    assert not FITTED.applies({"nnunet": "ab"}, 0.5, flips=True)
    assert not FITTED.applies({**same, "nnunet-thick": "other"}, 0.5, flips=True)


def test_model_card_gives_back_what_was_written() -> None:
    written = json.loads(json.dumps({"name": "nnunet", CARD_KEY: [FITTED.as_card()]}))
    assert VolumeCalibration.all_of(written) == (FITTED,)
    assert VolumeCalibration.all_of({"name": "nnunet"}) == ()


@pytest.mark.parametrize(
    "change", [{"low": "wide"}, {"high": [0.1]}, {"held": math.nan}, {"largest": None}, {"colour": "red"}]
)
def test_card_that_states_something_else_is_named(change: dict[str, Any]) -> None:
    stated = FITTED.as_card() | change
    with pytest.raises(PipelineError, match='"nnunet" states a volume_interval that is none'):
        VolumeCalibration.all_of({"name": "nnunet", CARD_KEY: [stated]})


@pytest.mark.parametrize("slices_mm", [1.0, 6.4])
def test_what_ships_applies_by_default(slices_mm: float) -> None:
    settings = default_settings()
    there = [name for name in MASK_WEIGHTS if name in installed()]
    details = card_details(there[0])
    asked = Weighing.of(details, kind_of(slices_mm)).asked(there)
    digests = {name: card(name).digest for name in asked}
    found = [
        one
        for one in VolumeCalibration.all_of(details)
        if one.applies(digests, settings["threshold"], flips=settings["flips"])  # type: ignore[arg-type]
    ]
    assert len(found) == 1
    assert not replace(found[0], threshold=0.4).applies(digests, 0.5, flips=True)
