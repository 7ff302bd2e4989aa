import pytest
import torch

from pipelines.training.flair.losses import (
    CLASS_WEIGHT,
    CROSS_WEIGHT,
    DICE_WEIGHT,
    classification_loss,
    cross_task_loss,
    deep_supervision_loss,
    dice_loss,
    segmentation_loss,
    unit_range,
)


def test_weights_are_the_papers() -> None:
    assert (DICE_WEIGHT, CLASS_WEIGHT, CROSS_WEIGHT) == (1.0, 0.8, 1.0)


def test_dice_loss_by_hand() -> None:
    probability = torch.tensor([1.0, 0.5, 0.0, 0.5])
    truth = torch.tensor([1.0, 1.0, 0.0, 0.0])
    # both 1.5, sums 2 and 2: 1 - (3 + 1) / (4 + 1)
    assert dice_loss(probability, truth).item() == pytest.approx(0.2)


def test_dice_loss_of_nothing_found_where_nothing_is() -> None:
    assert dice_loss(torch.zeros(8), torch.zeros(8)).item() == 0


def test_cross_loss_by_hand() -> None:
    up = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    down = up.flip(2, 3, 4)
    # unit_range gives n/7 and (7 - n)/7: squares of (2n - 7)/7 over 8 voxels are (49+25+9+1)*2/49/8 = 3/7
    same, opposite = [up, up, up], [down, down, down]
    assert cross_task_loss(same, same).item() == 0
    assert cross_task_loss(same, opposite).item() == pytest.approx(3 / 7)
    assert cross_task_loss([up, up, down], same).item() == pytest.approx(0.5 * 3 / 7)
    assert cross_task_loss([down, up, up], same).item() == pytest.approx(0.25 * 3 / 7)


def test_scale_of_a_map_does_not_matter_to_the_cross_loss() -> None:
    up = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    assert cross_task_loss([up] * 3, [100 * up - 7] * 3).item() == pytest.approx(0, abs=1e-9)


def test_constant_map_has_no_range() -> None:
    assert unit_range(torch.full((1, 1, 2, 2, 2), 3.0)).abs().max().item() == 0


def test_cases_without_a_class_do_not_teach_one() -> None:
    logits = torch.tensor([[2.0, 0.0], [5.0, -5.0]])
    known = classification_loss(logits, torch.tensor([0, -1]))
    assert known.item() == pytest.approx(0.126928, abs=1e-5)  # log(1 + exp(-2))
    assert classification_loss(logits, torch.tensor([-1, -1])).item() == 0


def test_weight_of_a_class_counts_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    target = torch.tensor([0, 1])
    # log 2 for the first, log(1 + exp(2)) for the second, which counts three times
    expected = (0.693147 + 3 * 2.126928) / 4
    found = classification_loss(logits, target, torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_voxels_without_weight_have_no_part_in_the_mask_loss() -> None:
    logit, truth = torch.zeros(1, 1, 1, 1, 4), torch.tensor([1.0, 0, 1, 1]).reshape(1, 1, 1, 1, 4)
    weight = torch.tensor([1.0, 1, 0, 0]).reshape(1, 1, 1, 1, 4)
    # Dice of 0.5, 0.5 with 1, 0: 1 - (1 + 1) / (1 + 1 + 1); voxels: log 2, twice
    assert segmentation_loss(logit, truth, weight).item() == pytest.approx(1 / 3 + 2 * 0.693147, abs=1e-5)


def test_heads_count_as_in_deep_supervision() -> None:
    truth = torch.ones(1, 1, 2, 2, 2)
    heads = [torch.full_like(truth, value) for value in (1.0, 0.0, -1.0)]
    parts = [segmentation_loss(head, truth).item() for head in heads]
    expected = 4 / 7 * parts[0] + 2 / 7 * parts[1] + 1 / 7 * parts[2]
    assert deep_supervision_loss(heads, truth).item() == pytest.approx(expected, rel=1e-5)
    assert deep_supervision_loss(heads[:1], truth).item() == pytest.approx(parts[0], rel=1e-5)
