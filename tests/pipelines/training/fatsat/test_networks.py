import numpy as np
import pytest
import torch

from pipelines.training.fatsat import networks
from pipelines.training.fatsat.crops import centred
from pipelines.training.fatsat.networks import Member, probability, train_member
from pipelines.training.papers.optic_nerve_protocol import scores


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(networks, "RATE", 3e-3)


def test_recipe_is_the_papers():
    assert (networks.RATE, networks.BATCH, networks.EPOCHS, networks.PATIENCE) == (3e-4, 16, 200, 10)


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
def test_member_learns_what_can_be_learnt(made):
    told = []
    member = train_member(made(60, 10), "published", seed=1, epochs=5, watch=lambda *a: told.append(a))
    other = made(30, 10, seed=5)
    assert scores(other.labels, probability(member.network, centred(other, "published")))["AUC"] > 0.9
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4, 5]
    assert set(member.history[0]) == {"loss", "validation loss", "validation score"}
    assert member.eyes % 2 == 0
    assert not member.network.training


def test_training_ends_without_improvement_and_keeps_its_best_epoch(made, monkeypatch):
    monkeypatch.setattr(networks, "PATIENCE", 2)
    monkeypatch.setattr(networks, "RATE", 0.0)
    member = train_member(made(24, 8), "published", seed=1, epochs=9)
    assert len(member.history) == 3, "the loss of the first epoch stays the best"


@pytest.mark.usefixtures("fast")
def test_same_seed_gives_the_same_member_and_another_seed_another(made):
    eyes = made(24, 8)
    first, same, other = (train_member(eyes, "published", seed=seed, epochs=1) for seed in (3, 3, 4))
    parameters = [torch.cat([p.flatten() for p in m.network.parameters()]) for m in (first, same, other)]
    assert torch.equal(parameters[0], parameters[1])
    assert not torch.equal(parameters[0], parameters[2])


def test_member_comes_back_from_disk(tmp_path, made):
    member = train_member(made(24, 8), "along-nerve", seed=1, epochs=1)
    member.save(tmp_path / "member.pt")
    back = Member.load(tmp_path / "member.pt")
    crops = centred(made(4, 4), "along-nerve")
    assert np.allclose(probability(back.network, crops), probability(member.network, crops), atol=1e-6)
    assert back.history == member.history
