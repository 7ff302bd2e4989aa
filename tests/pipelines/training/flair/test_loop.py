import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipelines.errors import WeightsError
from pipelines.training.data_sets.sample import Sample, unpack
from pipelines.training.flair import loop
from pipelines.training.flair.case_pool import ready
from pipelines.training.flair.forecast import forecast
from pipelines.training.flair.loop import Trainer
from pipelines.training.flair.task import Prediction
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.phase import Phase

pytestmark = pytest.mark.slow

CROPS = Phase("crops", 32, 1, 16, 5.0, 5e-3, joint=False, schedule="constant", epoch=8)
VOLUMES = replace(CROPS, name="volumes", joint=True)
STEADY = replace(VOLUMES, batch=4, rate=1e-3, decay=False)


def trainer(name: str, folder: Path, phases: Sequence[Phase], lines: list[str] | None = None) -> Trainer:
    torch.manual_seed(0)
    said = [] if lines is None else lines
    return Trainer(make_task(name, small=True), phases, folder, seed=1, device="cpu", report=said.append)


def test_forecast_tries_each_phase_that_is_left_and_leaves_the_training_as_it_was(
    pool: Path, tmp_path: Path
) -> None:
    training = trainer(
        "nnunet", tmp_path / "out", [CROPS, replace(CROPS, name="more", steps=10**6, minutes=0.5)]
    )
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    drawn_next = torch.random.get_rng_state()
    said = forecast(training, pool)
    assert re.fullmatch(
        r"about .+ on this machine as it is now \(crops .+ at .+ s a step, more 30 s at .+ s a step\); "
        "validations come on top",
        said,
    )
    assert torch.equal(torch.random.get_rng_state(), drawn_next)
    torch.testing.assert_close(training.model.state_dict(), before)
    training.state.phase = 1
    assert "crops" not in forecast(training, pool)


@pytest.mark.parametrize(
    ("name", "phase", "part"),
    [
        ("nnunet", CROPS, "mask"),
        ("unet3d", CROPS, "mask"),
        ("joint", CROPS, "mask"),
        ("joint", VOLUMES, "mask"),
        ("joint:only-segmentation", VOLUMES, "mask"),
        ("joint:only-classification", replace(STEADY, steps=48, rate=3e-3), "class"),
        ("joint:no-cross-loss", VOLUMES, "mask"),
        ("five-slices", STEADY, "class"),
    ],
)
def test_loss_falls_in_a_few_steps(name: str, phase: Phase, part: str, pool: Path, tmp_path: Path) -> None:
    training = trainer(name, tmp_path / "out", [phase])
    training.run(pool, every=4)
    losses = [entry[part] for entry in training.state.history]
    assert losses[-1] < 0.9 * losses[0]


def test_classification_network_learns_from_pooled_volumes(large_pool: Path, tmp_path: Path) -> None:
    training = trainer("densenet121", tmp_path / "out", [replace(STEADY, rate=3e-3)])
    training.run(large_pool, every=4)
    losses = [entry["class"] for entry in training.state.history]
    assert losses[-1] < 0.9 * losses[0]


# Slices are moved from step to step, which takes longer to learn from.
@pytest.mark.parametrize(
    ("name", "cases", "steps"),
    [
        ("five-slices", "kinds_pool", 32),
        ("densenet121", "large_pool", 8),
        ("senet50", "kinds_pool", 8),
        ("squeezenet", "kinds_pool", 16),
    ],
)
def test_cells_with_lesions_are_learnt_beside_the_class_and_left_out_of_the_weights(
    name: str, cases: str, steps: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    before = set(make_task(name, small=True).network.state_dict())
    training = trainer(name, tmp_path / "out", [replace(STEADY, rate=3e-3, steps=steps)])
    training.run(request.getfixturevalue(cases), every=4)
    cells = [entry["cells"] for entry in training.state.history]
    assert cells[-1] < 0.9 * cells[0]
    assert set(training.best.state_dict()) == before
    again = trainer(name, tmp_path / "out", [replace(STEADY, rate=3e-3, steps=24)])
    assert again.resume()
    torch.testing.assert_close(again.auxiliary.state_dict(), training.auxiliary.state_dict())


def test_parts_of_the_joint_loss_follow_the_ablation(pool: Path, tmp_path: Path) -> None:
    parts = {}
    for name in ("joint", "joint:no-cross-loss", "joint:only-segmentation", "joint:only-classification"):
        training = trainer(name, tmp_path / name, [replace(VOLUMES, steps=1)])
        training.run(pool)
        parts[name] = set(training.state.history[0]) - {"phase", "step"}
    assert parts["joint"] == {"mask", "class", "cross"}
    assert parts["joint:no-cross-loss"] == {"mask", "class"}
    assert parts["joint:only-segmentation"] == {"mask"}
    assert parts["joint:only-classification"] == {"class"}


def shrinking(network: nn.Module, phase: Phase) -> float:
    return -float(sum(p.detach().abs().sum() for p in network.parameters()))


def test_checkpoint_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    training = trainer("squeezenet", tmp_path / "out", [STEADY])
    training.auxiliary = nn.Conv3d(2, 1, 1)
    training.save()
    with pytest.raises(
        WeightsError, match=r"checkpoint.pt was not .* squeezenet: begin anew without --resume"
    ):
        trainer("squeezenet", tmp_path / "out", [STEADY]).resume()


@pytest.mark.parametrize("name", ["nnunet", "squeezenet"])
def test_interrupted_training_ends_as_an_uninterrupted_one(name: str, pool: Path, tmp_path: Path) -> None:
    first = replace(CROPS if name == "nnunet" else STEADY, steps=6, epoch=2, minutes=float("inf"))
    phases = [first, replace(first, rate=1e-3, steps=4)]
    whole = trainer(name, tmp_path / "whole", phases)
    whole.run(pool, every=2, validate=shrinking)

    def killing(phase: Phase, step: int, parts: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    cut = trainer(name, tmp_path / "cut", phases)
    cut.watch = killing
    with pytest.raises(KeyboardInterrupt):
        cut.run(pool, every=2, validate=shrinking)
    torch.manual_seed(99)
    again = trainer(name, tmp_path / "cut", phases)
    assert again.resume()
    assert (again.state.phase, again.state.step) == (0, 4)
    again.run(pool, every=2, validate=shrinking)
    for a, b in zip(whole.best.state_dict().values(), again.best.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    # only the seconds that it took differ
    assert whole.state.history == again.state.history


def test_phase_stops_early_and_the_best_epoch_counts(pool: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    scores = iter([0.1, 0.7, 0.5, 0.6, 0.65])
    kept: list[dict[str, torch.Tensor]] = []

    def validate(network: nn.Module, phase: Phase) -> float:
        kept.append({key: value.clone() for key, value in network.state_dict().items()})
        return next(scores)

    training = trainer("nnunet", tmp_path / "out", [replace(CROPS, epoch=1, stop=2)], lines)
    training.run(pool, validate=validate)
    assert len(kept) == 4
    assert "2 epochs without a better score" in lines[-1]
    for key, value in training.best.state_dict().items():
        assert torch.equal(value, kept[1][key])


def test_learning_rate_is_halved_without_improvement(pool: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    phase = replace(CROPS, steps=7, epoch=1, schedule="halve", patience=2, rate=1e-3)
    training = trainer("nnunet", tmp_path / "out", [phase], lines)
    training.run(pool, validate=lambda network, phase: 0.5)
    halved = [line for line in lines if "halved" in line]
    assert halved == [f"learning rate halved to {rate}" for rate in ("0.0005", "0.00025", "0.00013")]


def test_ignored_voxels_teach_nothing(pool: Path, tmp_path: Path) -> None:
    task = make_task("nnunet", small=True)
    image, truth = torch.randn(1, 1, 32, 32, 32), torch.zeros(1, 1, 32, 32, 32)
    truth[..., :16] = torch.randint(0, 2, (16,))
    weight = torch.ones_like(truth)
    weight[..., :16] = 0
    none = torch.tensor([-1])
    one, _ = task.loss(task.network, (image, truth, weight, none), CROPS)
    other, _ = task.loss(task.network, (image, torch.zeros_like(truth), weight, none), CROPS)
    assert one.item() == other.item()


def test_score_falls_with_false_lesions(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = unpack(ready(pool)[0])
    task = make_task("nnunet", small=True)
    drawn = sample.lesions.copy()
    monkeypatch.setattr(task, "predict", lambda *_, **__: Prediction(drawn.astype(np.float32), None))

    def score(of: Sample) -> float:
        return task.score(task.network, [of], device="cpu")

    assert score(sample) == 1
    drawn[:4] = True
    n = sample.lesions.sum()
    assert score(sample) == pytest.approx(2 * n / (n + drawn.sum()), abs=1e-3)
    ignored = drawn & ~sample.lesions
    assert score(replace(sample, ignore=ignored)) == 1
    assert np.isnan(score(replace(sample, ignore=np.ones_like(ignored))))


def test_score_that_is_no_number_never_becomes_the_best(pool: Path, tmp_path: Path) -> None:
    scores = iter([float("nan"), 0.2, 0.1])
    training = trainer("nnunet", tmp_path / "out", [replace(CROPS, steps=3, epoch=1)])
    kept: list[torch.Tensor] = []

    def validate(network: nn.Module, phase: Phase) -> float:
        kept.append(torch.cat([value.flatten().float() for value in network.state_dict().values()]))
        return next(scores)

    training.run(pool, validate=validate)
    best = torch.cat([value.flatten().float() for value in training.best.state_dict().values()])
    assert torch.equal(best, kept[1])


def test_a_gradient_that_is_not_finite_changes_nothing(pool: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    training = trainer("nnunet", tmp_path / "out", [replace(CROPS, steps=1)], lines)
    weights = list(training.model.parameters())
    before = [weight.detach().clone() for weight in weights]
    weights[0].register_hook(lambda gradient: gradient * float("nan"))
    training.run(pool)
    assert any("its gradient is not finite" in line for line in lines)
    for weight, earlier in zip(weights, before, strict=True):
        torch.testing.assert_close(weight.detach(), earlier)


MOST_SKIPPED = 10


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a training end after fewer steps in a row that it cannot learn from."""
    monkeypatch.setattr(loop, "MOST_SKIPPED", MOST_SKIPPED)


@pytest.mark.usefixtures("impatient")
def test_training_that_learns_from_no_step_ends_with_one_clear_line(pool: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    training = trainer("nnunet", tmp_path / "out", [replace(CROPS, steps=MOST_SKIPPED + 5)], lines)
    next(iter(training.model.parameters())).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(WeightsError, match=f"{MOST_SKIPPED} steps in a row had no finite gradient"):
        training.run(pool)
    assert sum("skipped" in line for line in lines) == MOST_SKIPPED


@pytest.mark.usefixtures("impatient")
def test_steps_that_cannot_be_learnt_from_now_and_then_end_nothing(pool: Path, tmp_path: Path) -> None:
    steps = 2 * MOST_SKIPPED
    training = trainer("nnunet", tmp_path / "out", [replace(CROPS, steps=steps)])
    seen = iter(range(steps))
    next(iter(training.model.parameters())).register_hook(
        lambda gradient: gradient * float("nan") if next(seen) % 10 else gradient
    )
    training.run(pool)
    assert training.state.phase == 1
