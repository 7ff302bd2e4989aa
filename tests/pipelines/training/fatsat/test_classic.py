import numpy as np
import pytest
from sklearn.svm import SVC

from pipelines.training.fatsat import classic
from pipelines.training.fatsat.classic import Baseline
from pipelines.training.fatsat.crops import centred
from pipelines.training.papers.optic_nerve_protocol import balanced, scores


@pytest.mark.parametrize("name", ["SVM", "RF"])
def test_baseline_learns_what_can_be_learnt(made, name):
    eyes, other = made(24, 8, bright=4.0), made(24, 8, seed=3, bright=4.0)
    chosen = balanced(eyes.labels, np.arange(24), np.random.default_rng(0))
    said = Baseline(name, 0).fit(eyes, "published", chosen).probability(other, "published")
    assert said.shape == (24,)
    assert scores(other.labels, said)["balanced accuracy"] > 0.9


def test_kernel_is_scikit_learns(made, monkeypatch):
    monkeypatch.setattr(classic, "LARGEST_SAMPLES", 1)
    eyes, other = made(24, 8, bright=0.4), made(24, 8, seed=3, bright=0.4)
    ours = Baseline("SVM", 0).fit(eyes, "published", np.arange(24)).probability(other, "published")
    theirs = SVC().fit(centred(eyes, "published").reshape(24, -1), eyes.labels)
    assert np.array_equal(ours, theirs.predict(centred(other, "published").reshape(24, -1)))


def test_shifted_crops_are_learnt_from_as_far_as_they_fit(made, monkeypatch):
    eyes = made(4, 4)
    seen = Baseline("SVM", 0).fit(eyes, "published", np.arange(4))
    assert seen._samples.shape == (4 * 9, 13 * 31 * 40)
    monkeypatch.setattr(classic, "LARGEST_SAMPLES", 13)
    fewer = Baseline("SVM", 0).fit(eyes, "published", np.arange(4))
    assert len(fewer._samples) == 4 * 3
    assert np.array_equal(fewer._samples[::3], centred(eyes, "published").reshape(4, -1))
