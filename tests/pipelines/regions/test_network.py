"""The network of structures and its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.errors import WeightsError
from pipelines.regions.model import RegionsModel
from pipelines.regions.network import REGIONS, RegionsNetwork, shuffled, unshuffled
from pipelines.regions.structures import Structure
from pipelines.weights import save_weights

CARD = {"version": "1", "device_uid": "2.25.1", "trained_on": "synthetic", "purpose": "Structures"}


def test_fine_voxels_come_back_in_their_places() -> None:
    volume = torch.arange(4 * 6 * 2, dtype=torch.float32).reshape(1, 1, 4, 6, 2)
    assert unshuffled(volume).shape == (1, 8, 2, 3, 1)
    assert torch.equal(shuffled(unshuffled(volume)), volume)


def test_model_answers_within_the_brain_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_weights(REGIONS, RegionsNetwork().state_dict(), CARD, "", tmp_path)
    model = RegionsModel(folder=tmp_path)
    brain = np.zeros((64, 64, 64), bool)
    brain[20:40, 22:44, 18:41] = True
    cube = np.where(brain, np.random.default_rng(0).normal(size=brain.shape), -5).astype(np.float32)
    found = model(cube, brain)
    assert found.shape == cube.shape
    assert found.dtype == np.uint8
    assert not found[~brain].any()
    each = [model.probability(cube, brain, (of,)) for of in Structure]
    assert np.allclose(np.sum(each, axis=0)[brain], 1, atol=1e-3)
    assert (np.argmax(each, axis=0)[brain] == found[brain]).mean() > 0.99


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights(REGIONS, torch.nn.Linear(2, 2).state_dict(), CARD, "", tmp_path)
    with pytest.raises(WeightsError, match='"regions" do not fit'):
        RegionsModel(folder=tmp_path)
