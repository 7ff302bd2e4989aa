import json

import numpy as np
import pytest

from pipelines.errors import DataSetError, WeightsError
from pipelines.fatsat.ensemble import Ensemble
from pipelines.training.fatsat import networks, phantoms
from pipelines.training.fatsat import training as training_module
from pipelines.training.fatsat.crops import centred
from pipelines.training.fatsat.export import add_figures
from pipelines.training.fatsat.networks import Member, probability
from pipelines.training.fatsat.training import is_data_set, train


@pytest.fixture(autouse=True)
def quick(monkeypatch, made):
    """Two eyes of noise for each series, six patients; a spot is the lesion."""

    def eyes_of(plan, number):
        eyes = made(6, 6, seed=7)
        return eyes.take(np.array([number % 6, (number + 1) % 6]))

    monkeypatch.setattr(phantoms, "_eyes_of", eyes_of)
    monkeypatch.setattr(networks, "RATE", 3e-3)


def run(out, **changes):
    asked = {"members": 2, "series": 6, "epochs": 1, "device": "cpu", "report": lambda line: None}
    return train(None, out, **{**asked, **changes})


def test_training_leaves_weights_that_the_ensemble_takes(tmp_path):
    card = run(tmp_path / "out")
    told = json.loads(card.read_text())
    assert told["crop"] == "published"
    assert told["members"] == 2
    assert told["trained_on"] == "synthetic"
    assert told["threshold"] == 0.5
    ensemble = Ensemble(folder=card.parent)
    eyes, _ = training_module.learning_eyes(None, tmp_path / "out", series=6, seed=0, report=print)
    crops = centred(eyes, "published")
    members = [Member.load(path).network for path in sorted((tmp_path / "out/members").glob("*.pt"))]
    assert np.allclose(ensemble(crops).members, [probability(member, crops) for member in members], atol=5e-3)
    assert {"config.json", "history.json", "curves.png", "metrics.json", "fatsat.md"} <= {
        path.name for path in card.parent.iterdir()
    }
    assert len(json.loads((card.parent / "history.json").read_text())["members"]) == 2


def test_card_says_that_no_patient_was_seen(tmp_path):
    card = run(tmp_path / "out", members=1, epochs=1, crop="along-nerve")
    assert card.name == "fatsat-along-nerve.json"
    text = card.with_suffix(".md").read_text()
    assert "No real FAT-SAT image was seen" in text
    assert "has no known accuracy" in text
    assert "**Trained on synthetic data; no clinical accuracy known.**" in text
    assert json.loads(card.read_text())["digest"] in text
    add_figures(card.parent, "along-nerve", {"synthetic phantoms": {"balanced accuracy": 0.5}})
    assert "## Figures: synthetic phantoms\n\n- balanced accuracy: 0.5" in card.with_suffix(".md").read_text()
    assert Ensemble(folder=card.parent, crop="along-nerve").card.digest in text


@pytest.mark.slow
def test_training_goes_on_from_weights(tmp_path, monkeypatch):
    first = Ensemble(folder=run(tmp_path / "first").parent)
    monkeypatch.setattr(networks, "RATE", 0.0)
    card = run(tmp_path / "second", members=3, init=tmp_path / "first")
    second = Ensemble(folder=card.parent)
    states = [[p.tolist() for p in network.parameters()] for network in (*first.networks, *second.networks)]
    assert states[2:] == [states[0], states[1], states[0]], "each from the next of those that were there"
    told = json.loads(card.read_text())
    assert f"went on from those of weights {first.card.digest[:12]}" in " ".join(told["limitations"])
    assert told["trained_on"] == "synthetic"
    with pytest.raises(WeightsError, match="fatsat-along-nerve"):
        run(tmp_path / "third", crop="along-nerve", init=tmp_path / "first")


@pytest.mark.slow
def test_training_goes_on_where_it_was_cut_off(tmp_path, monkeypatch):
    run(tmp_path / "whole")
    trained = []
    real = training_module.train_member

    def cut_off(eyes, kind, *, seed, **more):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(seed)
        return real(eyes, kind, seed=seed, **more)

    monkeypatch.setattr(training_module, "train_member", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.setattr(training_module, "train_member", real)
    with pytest.raises(WeightsError, match="holds a training; resume it"):
        run(tmp_path / "cut")
    lines = []
    card = run(tmp_path / "cut", resume=True, report=lines.append)
    assert sum("member" in line for line in lines) == 1, "the first member is not trained again"
    digests = [
        json.loads((tmp_path / name / "fatsat.json").read_text())["digest"] for name in ("whole", "cut")
    ]
    assert digests[0] == digests[1]
    assert card.exists()


@pytest.mark.slow
def test_resuming_with_something_else_is_refused_but_more_members_are_not(tmp_path):
    run(tmp_path / "out", members=1, epochs=1)
    with pytest.raises(WeightsError, match="holds a training with seed 0, not 1"):
        run(tmp_path / "out", members=1, epochs=1, seed=1, resume=True)
    card = run(tmp_path / "out", members=2, epochs=1, resume=True)
    assert json.loads(card.read_text())["members"] == 2


def test_resuming_with_other_labels_is_refused(tmp_path, monkeypatch, made):
    run(tmp_path / "out", members=1)
    mended = made(12, 6, seed=7)
    monkeypatch.setattr(training_module, "learning_eyes", lambda *a, **k: (mended, "synthetic"))
    with pytest.raises(WeightsError, match="other eyes or labels than"):
        run(tmp_path / "out", members=2, resume=True)


@pytest.mark.slow
def test_members_differ_in_their_sub_samples(tmp_path):
    run(tmp_path / "out", epochs=1)
    states = [
        Member.load(path).network.state_dict() for path in sorted((tmp_path / "out/members").glob("*.pt"))
    ]
    assert not np.array_equal(states[0]["classes.3.weight"], states[1]["classes.3.weight"])


def test_folder_that_is_neither_data_set_nor_label_maps_is_named(tmp_path):
    with pytest.raises(DataSetError, match=r"holds neither index\.csv"):
        is_data_set(tmp_path)
    with pytest.raises(DataSetError, match="no folder"):
        is_data_set(tmp_path / "nothing")
    with pytest.raises(WeightsError, match="1 to 32 members"):
        run(tmp_path, members=33)
