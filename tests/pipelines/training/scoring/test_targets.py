import pytest

from pipelines.training.scoring.targets import targets_met


def test_targets_of_the_two_patients() -> None:
    scores = {"truth_ml": 50.0, "dice": 0.7, "lesion_f1": 0.5, "volume_ratio": 1.3}
    targets = targets_met("case19", "patient19", "real", scores, {5.0: {"dice": 0.58}})
    assert [target.met for target in targets] == [False, False, True, True]
    assert targets[0].text() == "case19 (real): Dice at least 0.75: 0.700, MISSED by 0.050"
    assert targets[1].margin == pytest.approx(-0.02)
    assert targets[2].margin == pytest.approx(0.1)
