import numpy as np
import pytest

from pipelines.errors import DataSetError
from pipelines.training.papers.optic_nerve_protocol import balanced, curve_of_members, mean_of, scores, split


def test_patients_are_never_on_both_sides():
    patients = np.array([f"patient{number % 12:02d}" for number in range(48)])
    labels = (np.arange(48) % 3 == 0).astype(np.int64)
    sizes = set()
    for seed in range(20):
        learnt, tested = split(patients, labels, 0.25, np.random.default_rng(seed))
        assert not set(patients[learnt]) & set(patients[tested])
        assert len(learnt) + len(tested) == 48
        assert set(labels[tested]) == set(labels[learnt]) == {0, 1}
        sizes.add(len(set(patients[tested])))
    assert sizes == {3}


def test_patients_that_cannot_be_split_are_named():
    patients = np.array(["a", "a", "b"])
    with pytest.raises(DataSetError, match="2 patients cannot be split"):
        split(patients, np.array([1, 0, 0]), 0.25, np.random.default_rng(0))


def test_healthy_eyes_are_sub_sampled_anew():
    labels = np.array([1] * 5 + [0] * 15)
    drawn = [balanced(labels, np.arange(20), np.random.default_rng(seed)) for seed in range(30)]
    for chosen in drawn:
        assert labels[chosen].sum() == 5
        assert len(chosen) == 10
    assert set(np.concatenate(drawn)) == set(range(20)), "in the end every healthy eye is seen"
    assert len({tuple(chosen) for chosen in drawn}) > 20


def test_scores_are_the_papers():
    found = scores(np.array([1, 1, 1, 1, 0, 0]), [0.9, 0.8, 0.5, 0.2, 0.6, 0.1])
    assert found["sensitivity"] == 0.75
    assert found["specificity"] == 0.5
    assert found["balanced accuracy"] == 0.625
    assert found["AUC"] == pytest.approx(6 / 8)
    assert np.isnan(scores(np.array([1, 1]), [0.9, 0.1])["specificity"])


def test_mean_of_repeats():
    found = mean_of([scores(np.array([1, 0]), [0.9, 0.1]), scores(np.array([1, 0]), [0.1, 0.1])])
    assert found["balanced accuracy"] == 0.75
    assert found["SD of balanced accuracy"] == 0.25


@pytest.mark.slow
def test_curve_over_members_rises_with_members_that_err_by_chance():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    members = (labels + rng.normal(0, 1.5, (16, 200))).astype(np.float32)
    curve = curve_of_members(labels, members, 0.5, rng)
    assert [point["members"] for point in curve] == list(range(1, 17))
    assert curve[0]["mean"] < 0.68 < 0.85 < curve[-1]["mean"]
    assert curve[0]["lowest"] < curve[0]["highest"]
    assert curve[-1]["lowest"] == curve[-1]["highest"] == scores(labels, members.mean(0))["balanced accuracy"]
