import math

import numpy as np
import pytest

from pipelines.training.metrics import class_scores, score_mask


def boxes(*corners: int) -> np.ndarray:
    mask = np.zeros((30, 8, 8), bool)
    for corner in corners:
        mask[corner : corner + 3, 2:5, 2:5] = True
    return mask


def test_scores_by_hand() -> None:
    truth, mask = boxes(0, 10), boxes(1, 20)
    scores = score_mask(mask, truth, 2.0)
    # 54 voxels each, 18 shared
    assert scores.dice == pytest.approx(1 / 3)
    assert scores.ppv == scores.tpr == pytest.approx(1 / 3)
    assert scores.volume_difference == 0
    assert scores.lesion_f1 == pytest.approx(0.5)
    assert scores.truth_ml == scores.volume_ml == pytest.approx(0.108)
    assert scores.false_ml == pytest.approx(0.072)


def test_lesions_below_ten_cubic_millimetres_do_not_count() -> None:
    truth = boxes(0)
    mask = truth.copy()
    mask[20, 2, 2] = True
    assert score_mask(mask, truth, 1.0).lesion_f1 == 1


def test_lesion_free_case_has_no_dice() -> None:
    assert math.isnan(score_mask(boxes(), boxes(), 1.0).dice)
    assert score_mask(boxes(3), boxes(), 1.0).false_ml == pytest.approx(0.027)


def test_class_scores_by_hand() -> None:
    said = [("MS", 0.1), ("MS", 0.7), ("NMOSD", 0.6), ("NMOSD", 0.9), ("NMOSD", 0.2)]
    scores = class_scores(said)
    assert scores["n"] == 5
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert scores["sensitivity"] == pytest.approx(2 / 3)
    assert scores["specificity"] == pytest.approx(1 / 2)
    assert scores["auc"] == pytest.approx(4 / 6)
