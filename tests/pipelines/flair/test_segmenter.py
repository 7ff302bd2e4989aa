import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipelines.errors import PipelineError, WeightsError
from pipelines.flair import segmenter
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.networks import nnunet
from pipelines.flair.segmenter import MaskModel, brain_box, probability_maps
from pipelines.flair.weighing import Weighing
from pipelines.types import FloatArray
from pipelines.weights import save_weights

DETAILS = {
    "version": "0.0.1",
    "device_uid": "2.25.1",
    "trained_on": "synthetic",
    "purpose": "tests",
    "network": "nnunet",
}


class Leftish(nn.Module):
    """Answers with its input, and with more on the left than on the right."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.linspace(0, 1, x.shape[4]).view(1, 1, 1, 1, -1)


@pytest.fixture
def cube() -> FloatArray:
    values = np.full((64, 64, 64), BACKGROUND, dtype=np.float32)
    values[20:40, 10:50, 16:44] = 0.25
    return values


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two members of a tiny network."""
    monkeypatch.setattr(segmenter, "nnunet", lambda: nnunet(small=True))
    for seed, name in enumerate(segmenter.MEMBERS):
        torch.manual_seed(seed)
        state = nnunet(small=True).state_dict()
        save_weights(name, state, DETAILS, "card {digest}", tmp_path)
    return tmp_path


def test_box_holds_the_brain_and_fits_the_strides(cube: FloatArray) -> None:
    box = brain_box(cube)
    assert [(s.stop - s.start) % segmenter.STEP for s in box] == [0, 0, 0]
    assert (cube[box] > BACKGROUND).sum() == (cube > BACKGROUND).sum()
    assert [s.stop - s.start for s in box] == [32, 48, 48]


def test_box_at_the_border_stays_in_the_cube() -> None:
    values = np.full((32, 32, 32), BACKGROUND, dtype=np.float32)
    values[28:, :2, 15:18] = 0
    assert brain_box(values) == (slice(16, 32), slice(0, 16), slice(11, 27))


def test_cube_without_a_brain_is_seen_whole_and_has_no_lesion() -> None:
    values = np.full((32, 32, 32), BACKGROUND, dtype=np.float32)
    assert brain_box(values) == (slice(0, 32),) * 3
    assert not probability_maps(Leftish(), values)[0].any()


def test_probability_is_that_of_the_logit_inside_the_brain_and_zero_outside(cube: FloatArray) -> None:
    (found,) = probability_maps(Leftish(), cube)
    low, high = brain_box(cube)[2].start, brain_box(cube)[2].stop
    at = 20
    expected = 1 / (1 + np.exp(-(0.25 + (at - low) / (high - low - 1))))
    assert found[30, 30, at] == pytest.approx(expected, abs=1e-5)
    assert not found[cube == BACKGROUND].any()


def test_flip_looks_at_the_mirrored_brain_and_turns_the_answer_back(cube: FloatArray) -> None:
    straight, mirrored = probability_maps(Leftish(), cube, flips=True)
    box = brain_box(cube)[2]
    one, other = 30, box.start + box.stop - 1 - 30
    assert mirrored[30, 30, one] == pytest.approx(straight[30, 30, other], abs=1e-5)


def test_values_that_are_not_numbers_are_an_error(cube: FloatArray) -> None:
    cube[30, 30, 30] = np.nan
    with pytest.raises(PipelineError, match="not numbers"):
        probability_maps(Leftish(), cube)


def test_ensemble_is_the_mean_of_the_logits_of_its_members(folder: Path, cube: FloatArray) -> None:
    model = MaskModel(folder=folder)
    answer = model(cube, flips=True)
    assert [card.name for card in model.cards] == list(segmenter.MEMBERS)
    assert answer.samples.shape == (4, 64, 64, 64)
    one, other = (pair.mean(0) for pair in np.split(answer.samples.astype(np.float32), 2))
    inside = one > 0
    odds = np.sqrt(one[inside] * other[inside] / (1 - one[inside]) / (1 - other[inside]))
    np.testing.assert_allclose(answer.probability[inside], odds / (1 + odds), atol=2e-3)
    assert not answer.probability[~inside].any()
    first = model(cube, members=1)
    assert first.samples.shape[0] == 1
    np.testing.assert_array_equal(first.samples[0], answer.samples[0])


def test_networks_are_asked_by_the_distance_of_the_slices(folder: Path, cube: FloatArray) -> None:
    fine, coarse = segmenter.MEMBERS
    weighing = {
        "thin": Weighing({fine: 0.7, coarse: 0.3}, flips=False, second=coarse).as_card(),
        "thick": Weighing({coarse: 1.0}, slope=0.5, offset=-1.0).as_card(),
    }
    path = folder / f"{fine}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"weighing": weighing}))
    model = MaskModel(folder=folder)
    thin, thick = (model(cube, slices_mm=mm, flips=True) for mm in (3.0, 7.0))
    assert [card.name for card in thin.cards] == [fine, coarse]
    assert [card.name for card in thick.cards] == [coarse]
    assert (len(thin.samples), len(thick.samples)) == (2, 2)  # the mirrored brain only where it pays
    plain = model(cube, slices_mm=3.0).samples[1].astype(np.float32)
    assert thin.second is not None
    np.testing.assert_allclose(thin.second, plain, atol=1e-3)
    assert thick.second is None
    assert model(cube, slices_mm=3.0, members=1).second is None
    inside = plain > 0
    expected = 1 / (1 + np.exp(1.0) * np.sqrt(1 / plain[inside] - 1))
    np.testing.assert_allclose(thick.samples[0].astype(np.float32)[inside], expected, atol=2e-3)


def test_single_member_is_enough(folder: Path, cube: FloatArray) -> None:
    (folder / f"{segmenter.MEMBERS[1]}.json").unlink()
    assert MaskModel(folder=folder)(cube).samples.shape[0] == 1


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="models train nnunet"):
        MaskModel(folder=tmp_path)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    save_weights(segmenter.MEMBERS[0], {"other": torch.zeros(3)}, DETAILS, "card {digest}", folder)
    with pytest.raises(WeightsError, match="do not fit"):
        MaskModel(folder=folder)


def test_weights_of_another_network_are_refused_by_name(folder: Path) -> None:
    save_weights(
        "nnunet", nnunet(small=True).state_dict(), {**DETAILS, "network": "vnet"}, "card {digest}", folder
    )
    with pytest.raises(
        WeightsError, match='"nnunet" are of the network vnet; the lesion mask is drawn by nnunet'
    ):
        MaskModel("cpu", folder)
