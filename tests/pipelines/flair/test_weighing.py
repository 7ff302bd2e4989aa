import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import PipelineError
from pipelines.flair.settings import MASK_WEIGHTS
from pipelines.flair.weighing import CARD_KEY, MEDIUM_MM, THICK_MM, Weighing, kind_of
from pipelines.weights import card_details

TWO = Weighing({"fine": 0.75, "coarse": 0.25}, flips=False)


def spot(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_slices_are_medium_and_thick_from_the_limits_on() -> None:
    kinds = [kind_of(mm) for mm in (1.0, 3.9, MEDIUM_MM, 5.4, THICK_MM, 8.1)]
    assert kinds == ["thin", "thin", "medium", "medium", "thick", "thick"]


def test_mean_of_the_logits_by_hand() -> None:
    # logits of 0.8 and 0.5 are ln 4 and 0: sigmoid(0.75 ln 4) = 4^0.75 / (1 + 4^0.75)
    found = TWO.combined([spot(0.8, 0.0), spot(0.5, 0.0)], [0.75, 0.25])
    assert found[0] == pytest.approx(4**0.75 / (1 + 4**0.75), abs=1e-5)
    assert found[1] == 0.0


def test_calibration_by_hand() -> None:
    weighing = Weighing({"coarse": 1.0}, slope=0.5, offset=-np.log(2))
    # sigmoid(0.5 ln 4 - ln 2) = 0.5
    assert weighing.combined([spot(0.8)], [1.0])[0] == pytest.approx(0.5, abs=1e-5)
    assert weighing.calibrated(spot(0.0))[0] == 0.0


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2), st.floats(0.01, 0.99))
def test_mean_lies_between_its_parts(parts: list[float], share: float) -> None:
    found = TWO.combined([spot(parts[0]), spot(parts[1])], [share, 1 - share])[0]
    assert min(parts) - 2e-3 <= found <= max(parts) + 2e-3


def test_largest_share_is_asked_first_and_shares_add_up() -> None:
    names = ["coarse", "fine", "other"]
    assert TWO.asked(names) == {"fine": 0.75, "coarse": 0.25}
    assert TWO.asked(names, members=1) == {"fine": 1.0}
    assert TWO.asked(["coarse", "other"]) == {"coarse": 1.0}
    assert Weighing().asked(names) == dict.fromkeys(names, 1 / 3)
    assert TWO.asked(["other"]) == {"other": 1.0}


def test_model_card_gives_back_what_was_written() -> None:
    written = json.loads(json.dumps({CARD_KEY: {"thin": TWO.as_card()}}))
    assert Weighing.of(written, "thin") == TWO
    assert Weighing.of(written, "medium") == TWO
    assert Weighing.of({}, "thick") == Weighing()


@pytest.mark.parametrize(
    "change",
    [
        {"shares": {}},
        {"shares": {"a": -1.0}},
        {"slope": 0.0},
        {"flips": "yes"},
        {"second": 1},
        {"colour": "red"},
    ],
)
def test_card_that_states_something_else_is_named(change: dict[str, object]) -> None:
    details = {"name": "nnunet", CARD_KEY: {"thin": TWO.as_card() | change}}
    with pytest.raises(PipelineError, match='"nnunet" states a weighing that is none'):
        Weighing.of(details, "thin")


def test_thick_slices_are_left_to_the_network_that_learnt_from_them() -> None:
    details = card_details(MASK_WEIGHTS[0])
    assert set(Weighing.of(details, "thin").shares) == set(MASK_WEIGHTS)
    assert set(Weighing.of(details, "thick").shares) == {MASK_WEIGHTS[1]}
    assert Weighing.of(details, "thin").second == MASK_WEIGHTS[1]
