import math

import numpy as np
import pytest

from pipelines.training.scoring.metrics import (
    class_scores,
    hausdorff_95,
    lesion_f1,
    mean_interval,
    mean_scores,
    score_mask,
)


def boxes(*corners: int) -> np.ndarray:
    mask = np.zeros((30, 8, 8), bool)
    for corner in corners:
        mask[corner : corner + 3, 2:5, 2:5] = True
    return mask


def test_scores_by_hand() -> None:
    truth, mask = boxes(0, 10), boxes(1, 20)
    scores = score_mask(mask, truth, (2, 1, 1))
    # 54 voxels each, 18 shared
    assert scores.dice == pytest.approx(1 / 3)
    assert scores.ppv == scores.tpr == pytest.approx(1 / 3)
    assert scores.volume_difference == 0
    assert scores.lesion_f1 == pytest.approx(0.5)
    assert scores.truth_ml == scores.volume_ml == pytest.approx(0.108)
    assert scores.false_ml == pytest.approx(0.072)
    assert scores.volume_ratio == 1
    # 54 mm3 each
    assert scores.f1_10_to_100 == pytest.approx(0.5)
    assert math.isnan(scores.f1_below_10)
    assert math.isnan(scores.f1_above_100)


def test_lesions_below_ten_cubic_millimetres_do_not_count() -> None:
    truth = boxes(0)
    mask = truth.copy()
    mask[20, 2, 2] = True
    assert score_mask(mask, truth, (1, 1, 1)).lesion_f1 == 1


def test_lesion_free_case_has_no_dice() -> None:
    assert math.isnan(score_mask(boxes(), boxes(), (1, 1, 1)).dice)


def test_false_lesions_of_a_lesion_free_case_are_a_volume_and_no_overlap() -> None:
    drawn = boxes()
    drawn[2:6, 2:6, 2:6] = True
    scores = score_mask(drawn, boxes(), (1, 1, 1))
    assert scores.false_ml == pytest.approx(0.064)
    assert all(math.isnan(value) for value in (scores.dice, scores.ppv, scores.lesion_f1))
    assert score_mask(boxes(3), boxes(), (1, 1, 1)).false_ml == pytest.approx(0.027)


def test_class_scores_by_hand() -> None:
    said = [("MS", 0.1), ("MS", 0.7), ("NMOSD", 0.6), ("NMOSD", 0.9), ("NMOSD", 0.2)]
    scores = class_scores(said)
    assert scores["n"] == 5
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["sensitivity"] == pytest.approx(2 / 3)
    assert scores["specificity"] == pytest.approx(1 / 2)
    assert scores["auc"] == pytest.approx(4 / 6)
    assert scores["ppv"] == pytest.approx(2 / 3)
    assert scores["npv"] == pytest.approx(1 / 2)


def test_classes_of_one_kind_only_have_no_auc() -> None:
    scores = class_scores([("MS", 0.1), ("MS", 0.7)])
    assert scores["specificity"] == 0.5
    assert math.isnan(scores["auc"])
    assert math.isnan(scores["sensitivity"])


def test_lesions_are_scored_by_size() -> None:
    truth = boxes(0, 10)
    truth[20, 2, 2] = True
    mask = boxes(0)
    assert lesion_f1(mask, truth, 1.0, 10, 100) == pytest.approx(2 / 3)
    assert lesion_f1(mask, truth, 1.0, 0, 10) == 0
    assert math.isnan(lesion_f1(mask, truth, 1.0, 100))


def test_hausdorff_distance_is_in_mm() -> None:
    truth, mask = np.zeros((20, 6, 6), bool), np.zeros((20, 6, 6), bool)
    truth[4, 3, 3] = True
    mask[9, 3, 3] = True
    assert hausdorff_95(mask, truth, (1.2, 2.0, 3.0)) == pytest.approx(6.0)
    assert math.isnan(hausdorff_95(mask, np.zeros_like(mask), (1.2, 1.2, 1.2)))


def test_means_leave_out_what_is_not_defined() -> None:
    def case(dice: float, volume: float, truth: float) -> dict[str, float]:
        return {"dice": dice, "volume_ml": volume, "truth_ml": truth}

    means = mean_scores([case(0.4, 1, 2), case(0.8, 2, 4), case(0.6, 3, 6), case(float("nan"), 5, 0)])
    assert means["dice"] == pytest.approx(0.6)
    assert means["volume_correlation"] == pytest.approx(1)
    assert math.isnan(mean_scores([case(0.4, 1, 2)])["volume_correlation"])
    assert mean_scores([]) == {}


def test_interval_by_hand() -> None:
    # SD 1, n 3: 4.3027 / sqrt(3)
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2, 2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert mean_interval([2.0, float("nan")]) == (2, 2, 2)
