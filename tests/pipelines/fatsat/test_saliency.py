import numpy as np
import pytest
import torch
from torch import nn

from pipelines.fatsat.ensemble import Ensemble
from pipelines.fatsat.network import OpticNerveCNN
from pipelines.fatsat.saliency import gradient_map, integrated_gradients, share_inside
from tests.kept import kept

SPOT = (slice(5, 9), slice(10, 18), slice(12, 22))


def crops(count, seed):
    """Noise; every second one with a bright spot, which is the lesion."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, 13, 31, 40)).astype(np.float32)
    values[1::2][:, *SPOT] += 3
    return values, np.arange(count) % 2


@pytest.fixture(scope="module")
def trained():
    """Two members that have learnt the spot."""
    return Ensemble.of_networks(kept(train), crop="published", threshold=0.5)


def train():
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = OpticNerveCNN().to(memory_format=torch.channels_last_3d)
        optimizer = torch.optim.Adam(network.parameters(), 2e-3)
        for step in range(20):
            values, labels = crops(8, 100 * seed + step)
            loss = nn.functional.cross_entropy(
                network(torch.from_numpy(values)[:, None]), torch.from_numpy(labels)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        members.append(network)
    return members


@pytest.fixture(scope="module")
def positive(trained):
    values, _ = crops(2, 9)
    assert trained(values).probability[1] > 0.7
    return values[1]


def spot():
    mask = np.zeros((13, 31, 40), bool)
    mask[SPOT] = True
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient_saliency", "integrated_gradients"])
def test_maps_point_at_what_decided(trained, positive, method):
    found = getattr(trained, method)(positive, 1)
    assert found.shape == (13, 31, 40)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (pytest.approx(0, abs=0.2), 1.0)
    chance = spot().mean()
    assert share_inside(found, spot()) > 2 * chance


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient_saliency", "integrated_gradients"])
def test_map_of_untrained_networks_is_another(trained, positive, method):
    """Adebayo et al. 2018: a map that survives random weights does not explain the network."""
    torch.manual_seed(77)
    random = Ensemble.of_networks([OpticNerveCNN(), OpticNerveCNN()], crop="published", threshold=0.5)
    one, other = (getattr(e, method)(positive, 1) for e in (trained, random))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.8
    assert share_inside(one, spot()) > 1.5 * share_inside(other, spot())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradient_saliency", "integrated_gradients"])
def test_deleting_what_is_salient_lowers_the_probability_faster_than_chance(trained, positive, method):
    order = np.argsort(-getattr(trained, method)(positive, 1).ravel(), kind="stable")
    chance = np.random.default_rng(0).permutation(order)

    def curve(ranks):
        steps = []
        for share in (0.02, 0.05, 0.1):
            cut = positive.copy().ravel()
            cut[ranks[: int(share * cut.size)]] = 0
            steps.append(cut.reshape(positive.shape))
        return trained(np.stack(steps)).probability.mean()

    assert curve(order) < curve(chance) - 0.05


def test_gradient_is_that_of_the_mean_probability():
    def member(slope):
        return lambda x: torch.stack([1 - slope * x.sum((1, 2, 3, 4)), slope * x.sum((1, 2, 3, 4))], 1)

    values = np.ones((13, 31, 40), np.float32)
    assert np.allclose(gradient_map([member(2.0), member(1.0)], values, 1), 1)
    # Where members pull to opposite sides nothing is left.
    assert not gradient_map([member(1.0), member(-1.0)], values, 1).any()


def test_integrated_gradients_of_a_linear_answer_are_its_input():
    weight = torch.zeros(13, 31, 40)
    weight[6, 15, 20], weight[6, 15, 5] = 1.0, -1.0
    values = np.ones((13, 31, 40), np.float32)
    found = integrated_gradients(
        [lambda x: torch.stack([-(x[:, 0] * weight).sum((1, 2, 3)), (x[:, 0] * weight).sum((1, 2, 3))], 1)],
        values,
        1,
    )
    assert np.unravel_index(found.argmax(), found.shape) == (6, 15, 20)
    assert found[6, 15, 5] < 1e-6, "what speaks against the class is left out"


def test_share_inside():
    values = np.zeros((13, 31, 40), np.float32)
    assert share_inside(values, spot()) == 0
    values[6, 12, 15], values[0, 0, 0] = 3, 1
    assert share_inside(values, spot()) == 0.75
