import math

import pytest

from pipelines.errors import WeightsError
from pipelines.training.flair.recipes import NAMES, check_name, recipe
from pipelines.training.phase import Phase


def test_every_network_has_a_recipe_for_both_devices() -> None:
    assert len(NAMES) == 1 + 10 + 5 + 6 + 1
    for name in NAMES:
        for device in ("cpu", "cuda:0"):
            assert all(phase.steps >= 1 for phase in recipe(name, device))
        assert sum(phase.minutes for phase in recipe(name, "cpu")) <= 120


def test_gpu_recipes_are_the_papers() -> None:
    (joint,) = recipe("joint", "cuda:0", cases=400)
    assert (joint.edge, joint.batch, joint.rate, joint.schedule, joint.patience) == (
        160,
        2,
        1e-4,
        "halve",
        10,
    )
    assert joint.steps == 200 * 200
    assert not joint.decay
    (slices,) = recipe("five-slices", "cuda:0", cases=400)
    assert (slices.batch, slices.rate, slices.steps) == (10, 5e-4, 25 * 40)


def test_joint_network_learns_masks_first_on_a_cpu() -> None:
    assert [(phase.edge, phase.joint) for phase in recipe("joint", "cpu")] == [(80, False), (160, True)]
    assert [phase.joint for phase in recipe("joint:only-classification", "cpu")] == [True]


def test_steps_and_minutes_are_shared_among_the_phases() -> None:
    counted = recipe("joint", "cpu", steps=89)
    assert [phase.steps for phase in counted] == [80, 9]
    assert all(math.isinf(phase.minutes) for phase in counted)
    timed = recipe("joint", "cpu", minutes=8.2)
    assert [phase.minutes for phase in timed] == pytest.approx([5.5, 2.7])
    assert recipe("joint", "cuda:0", minutes=10)[0].minutes == pytest.approx(10)


def test_phase_survives_a_file() -> None:
    for phase in (*recipe("joint", "cuda:0"), *recipe("nnunet", "cpu")):
        assert Phase.from_dict(phase.as_dict()) == phase


@pytest.mark.parametrize("name", ["unet", "joint:no-brain", "", "resnet18"])
def test_unknown_network_is_named_with_those_that_there_are(name: str) -> None:
    with pytest.raises(WeightsError, match=r"no network '.*'; there is joint, .*five-slices"):
        check_name(name)
