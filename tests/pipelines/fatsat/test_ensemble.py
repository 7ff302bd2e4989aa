import numpy as np
import pytest
import torch

from pipelines.errors import WeightsError
from pipelines.fatsat.ensemble import Ensemble, stacked
from pipelines.fatsat.network import OpticNerveCNN
from pipelines.weights import save_weights

DETAILS = {
    "version": "0.0.1",
    "device_uid": "2.25.7",
    "trained_on": "synthetic",
    "purpose": "test",
    "network": "optic-nerve-cnn",
    "crop": "published",
    "threshold": 0.4,
    "members": 3,
}


def networks(count=3):
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(OpticNerveCNN().eval())
    return made


@pytest.fixture
def folder(tmp_path):
    save_weights("fatsat", stacked(networks()), DETAILS, "# card", tmp_path)
    return tmp_path


@pytest.fixture
def batch():
    return np.random.default_rng(0).standard_normal((2, 13, 31, 40)).astype(np.float32)


def test_probability_is_the_mean_of_the_members(folder, batch):
    answer = Ensemble(folder=folder)(batch)
    with torch.no_grad():
        alone = [torch.softmax(n(torch.from_numpy(batch)[:, None]), 1)[:, 1].numpy() for n in networks()]
    assert answer.members.shape == (3, 2)
    assert np.allclose(answer.members, alone, atol=2e-3), "half precision"
    assert np.allclose(answer.probability, answer.members.mean(0))


def test_number_of_members_can_be_set(folder, batch):
    every = Ensemble(folder=folder)(batch).members
    assert np.allclose(Ensemble(folder=folder, members=2)(batch).members, every[:2], atol=1e-6)
    assert len(Ensemble(folder=folder, members=32)) == 3


def test_card_and_threshold_come_with_the_weights(folder):
    ensemble = Ensemble(folder=folder)
    assert (ensemble.threshold, ensemble.crop_kind, ensemble.card.name) == (0.4, "published", "fatsat")


@pytest.mark.parametrize("change", [{"crop": "along-nerve"}, {"network": "other"}, {"threshold": 0}])
def test_weights_of_another_kind_are_refused(tmp_path, change):
    save_weights("fatsat", stacked(networks(1)), {**DETAILS, **change}, "# card", tmp_path)
    with pytest.raises(WeightsError):
        Ensemble(folder=tmp_path)


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights("fatsat", {"a.weight": torch.zeros(2, 3)}, DETAILS, "# card", tmp_path)
    with pytest.raises(WeightsError, match="do not fit"):
        Ensemble(folder=tmp_path)


def test_missing_ensemble_says_what_to_do(folder):
    with pytest.raises(WeightsError, match="fatsat-along-nerve"):
        Ensemble(folder=folder, crop="along-nerve")
