"""The training loop of the joint network: phases, checkpoints, a running mean of the weights."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.flair.joint.network import JointNetwork
from pipelines.training.batches import draw_batch
from pipelines.training.losses import (
    CLASS_WEIGHT,
    CROSS_WEIGHT,
    classification_loss,
    cross_task_loss,
    segmentation_loss,
)
from pipelines.training.pool import ready

AVERAGE_DECAY = 0.99
CLIP_NORM = 1.0
GPU_LOADERS = 8
"""Threads that read batches ahead of a GPU; one beside a CPU."""
Report = Callable[[str], None]


@dataclass(frozen=True)
class Phase:
    """One part of a training.

    Parameters
    ----------
    name : str
    edge : int
        Of the crops, in voxels; 160: whole volumes.
    batch : int
    steps : int
    minutes : float
        The phase ends, with its learning rate annealed, when either is used up.
    rate : float
        Peak learning rate of AdamW; [ours] warmed up over 40 steps and annealed by a half cosine.
    joint : bool
        False trains the segmentation alone.
    """

    name: str
    edge: int
    batch: int
    steps: int
    minutes: float
    rate: float
    joint: bool


@dataclass
class State:
    """Everything that a resumed training needs."""

    phase: int = 0
    step: int = 0
    used_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def joint_loss(
    model: JointNetwork, batch: tuple[Tensor, Tensor, Tensor], *, joint: bool
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of a batch and its parts."""
    image, truth, target = batch
    if not joint:
        output = model(image, segmentation_only=True)
        loss = segmentation_loss(output.logit, truth)
        return loss, {"mask": loss.item()}
    true_class = target.clamp_min(0)
    output = model(image, classes=true_class)
    mask = segmentation_loss(output.logit, truth)
    label = classification_loss(output.classes, target)
    known = target >= 0
    cross = (
        cross_task_loss([v[known] for v in output.localisation], [u[known] for u in output.scales])
        if bool(known.any())
        else mask * 0
    )
    total = mask + CLASS_WEIGHT * label + CROSS_WEIGHT * cross
    return total, {"mask": mask.item(), "class": label.item(), "cross": cross.item()}


class Trainer:
    """Trains through phases; `run` may be called again on the same folder to go on where it stopped."""

    def __init__(
        self,
        model: JointNetwork,
        phases: Sequence[Phase],
        folder: Path,
        *,
        seed: int,
        device: str,
        report: Report,
    ) -> None:
        self.model = model.to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE_DECAY),  # type: ignore[no-untyped-call]
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=1e-4)
        self.phases, self.folder, self.seed, self.device, self.report = phases, folder, seed, device, report
        self.state = State()
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """Where the training is kept."""
        return self.folder / "checkpoint.pt"

    @property
    def best(self) -> nn.Module:
        """The averaged network."""
        return self.average.module

    def save(self) -> None:
        """Write a checkpoint; it appears whole or not at all."""
        part = self.checkpoint.with_suffix(".part")
        stored: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": asdict(self.state),
        }
        torch.save(stored, part)
        part.replace(self.checkpoint)

    def resume(self) -> bool:
        """Load the checkpoint if there is one."""
        if not self.checkpoint.exists():
            return False
        stored = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.model.load_state_dict(stored["model"])
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.state = State(**stored["state"])
        return True

    def _rate(self, phase: Phase) -> float:
        done = max(self.state.step / phase.steps, self.state.used_s / (60 * phase.minutes))
        warm = min(1.0, (self.state.step + 1) / 40)
        return phase.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def _step(self, phase: Phase, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
        image, truth, target = (t.to(self.device) for t in batch)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(phase)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16):
            loss, parts = joint_loss(self.model, (image, truth, target), joint=phase.joint)
        if not bool(torch.isfinite(loss)):
            self.report(f"step {self.state.step} of {phase.name} skipped: its loss is not finite")
            return parts
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return parts

    def run(self, pool: Path, *, every: int = 50, validate: Callable[[nn.Module], str] | None = None) -> None:
        """Train through the phases that are left, with a checkpoint and a line of report now and then."""
        while self.state.phase < len(self.phases):
            phase = self.phases[self.state.phase]
            self._phase(phase, pool, every, validate)
            self.state.phase, self.state.step, self.state.used_s = self.state.phase + 1, 0, 0.0
            self.save()

    def _batches(self, phase: Phase, pool: Path) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Draw the batches of a phase from the step that it stands at, some ahead; each step has its own seed."""
        index, first = self.state.phase, self.state.step

        def draw(step: int) -> tuple[Tensor, Tensor, Tensor]:
            rng = np.random.default_rng((self.seed, index, step))
            image, truth, _, target = draw_batch(
                ready(pool), phase.batch, phase.edge, rng, labelled=phase.joint
            )
            return image, truth, target

        threads = 1 if self.device == "cpu" else GPU_LOADERS
        with ThreadPoolExecutor(threads) as executor:
            ahead: deque[Future[tuple[Tensor, Tensor, Tensor]]] = deque()
            for step in range(first, phase.steps):
                ahead.append(executor.submit(draw, step))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _phase(
        self, phase: Phase, pool: Path, every: int, validate: Callable[[nn.Module], str] | None
    ) -> None:
        state = self.state
        sums: dict[str, list[float]] = {}
        batches = self._batches(phase, pool)
        while state.step < phase.steps and state.used_s < 60 * phase.minutes:
            began = time.monotonic()
            self.model.train()
            for name, value in self._step(phase, next(batches)).items():
                sums.setdefault(name, []).append(value)
            state.step += 1
            state.used_s += time.monotonic() - began
            if state.step % every == 0 or state.step == phase.steps:
                means = {name: float(np.mean(values)) for name, values in sums.items()}
                state.history.append({"phase": state.phase, "step": state.step, **means})
                text = " ".join(f"{name} {value:.3f}" for name, value in means.items())
                self.report(f"{phase.name} {state.step}/{phase.steps} {state.used_s:.0f} s: {text}")
                sums = {}
                if state.step % (2 * every) == 0:
                    self.save()
                    if validate:
                        self.report(validate(self.best.eval()))
