"""The training loop of every network: phases, checkpoints, a running mean of the weights, an early stop."""

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

from pipelines.errors import WeightsError
from pipelines.training.flair.case_pool import ready
from pipelines.training.flair.task import HALF_EDGE, Batch, Report, Task
from pipelines.training.phase import Phase

CHECKPOINT = "checkpoint.pt"
AVERAGE_DECAY = 0.995
CLIP_NORM = 1.0
WEIGHT_DECAY = 1e-4
WARM_STEPS = 40
GPU_LOADERS = 8
"""Threads that read batches ahead of a GPU; one beside a CPU."""
SAVE_EVERY_S = 60.0
MOST_SKIPPED = 20
"""Steps in a row without a finite gradient after which a training is given up."""
Watch = Callable[[Phase, int, dict[str, float]], None]
"""Told of every step: the phase, how many of its steps are done, the parts of the loss."""
_Tensors = tuple[Tensor, ...] | list[Tensor]
Validate = Callable[[nn.Module, Phase], float]
"""Scores the averaged network in eval mode; higher is better."""


@dataclass
class State:
    """Everything that a resumed training needs beside weights.

    Parameters
    ----------
    factor : float
        Of the learning rate, halved by the schedule "halve".
    best : float or None
        Best validation score of the phase.
    since_best, since_halved : int
        Epochs.
    """

    phase: int = 0
    step: int = 0
    used_s: float = 0.0
    factor: float = 1.0
    best: float | None = None
    since_best: int = 0
    since_halved: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def _averaged(averages: _Tensors, weights: _Tensors, number: Tensor | int) -> None:
    """Move a running mean of parameters and statistics towards the latest; the first steps are soon forgotten."""
    steps = float(number)
    decay = min(AVERAGE_DECAY, (1 + steps) / (10 + steps))
    for average, weight in zip(averages, weights, strict=True):
        if average.is_floating_point():
            average.lerp_(weight, 1 - decay)
        else:
            average.copy_(weight)


class Trainer:
    """Training loop through phases; `run` may be called again on the same folder to go on where it stopped.

    Parameters
    ----------
    task : Task
        With its network.
    phases : sequence of Phase
    folder : Path
        For ``checkpoint.pt`` and ``best.pt``; made if it is not there.
    seed : int
        Of the batches. The caller seeds torch before it makes the network.
    device : str
        "cpu", "cuda:0".
    report : callable
        Takes a line now and then.
    watch : callable, optional
        Told of every step.
    """

    def __init__(
        self,
        task: Task,
        phases: Sequence[Phase],
        folder: Path,
        *,
        seed: int,
        device: str,
        report: Report,
        watch: Watch | None = None,
    ) -> None:
        self.task = task
        flat = task.kind == "five-slices"
        self.model = task.network.to(device).to(  # type: ignore[call-overload]
            memory_format=torch.channels_last if flat else torch.channels_last_3d
        )
        self.auxiliary = task.auxiliary.to(device)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.model, multi_avg_fn=_averaged, use_buffers=True
        )
        self.phases, self.folder, self.seed, self.device = phases, folder, seed, device
        self.report, self.watch = report, watch
        self.state = State()
        self._optimizer = self._optimizer_of(phases[0])
        self._saved_at = time.monotonic()
        self._skipped = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        """File that the training is kept in."""
        return self.folder / CHECKPOINT

    @property
    def best(self) -> nn.Module:
        """The averaged network; behind a validated phase, that of its best epoch."""
        return self.average.module

    def _optimizer_of(self, phase: Phase) -> torch.optim.Optimizer:
        if phase.decay:
            return torch.optim.AdamW(self._learnt(), lr=phase.rate, weight_decay=WEIGHT_DECAY)
        return torch.optim.Adam(self._learnt(), lr=phase.rate)

    def _learnt(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.auxiliary.parameters()]

    def save(self) -> None:
        """Write a checkpoint; it appears whole or not at all."""
        stored: dict[str, Any] = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "auxiliary": self.auxiliary.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "state": asdict(self.state),
            "random": torch.get_rng_state(),
        }
        if self.device.startswith("cuda"):
            stored["random_gpu"] = torch.cuda.get_rng_state(self.device)
        _write(stored, self.checkpoint)
        self._saved_at = time.monotonic()

    def resume(self) -> bool:
        """Load the checkpoint if there is one.

        Raises
        ------
        WeightsError
            It is of another network, or of another version of the training.
        """
        if not self.checkpoint.exists():
            return False
        stored = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        try:
            self.model.load_state_dict(stored["model"])
            self.average.load_state_dict(stored["average"])
            self.auxiliary.load_state_dict(stored.get("auxiliary", {}))
        except RuntimeError as error:
            raise WeightsError(
                f"{self.checkpoint} was not written by this version for {self.task.name}: begin anew without --resume"
            ) from error
        self.state = State(**stored["state"])
        if self.state.phase < len(self.phases):
            self._optimizer = self._optimizer_of(self.phases[self.state.phase])
            self._optimizer.load_state_dict(stored["optimizer"])
        torch.set_rng_state(stored["random"].cpu())
        if self.device.startswith("cuda") and "random_gpu" in stored:
            torch.cuda.set_rng_state(stored["random_gpu"].cpu(), self.device)
        return True

    def run(self, pool: Path, *, every: int = 50, validate: Validate | None = None) -> None:
        """Train through the phases that are left.

        Parameters
        ----------
        pool : Path
            Folder with rings of packed cases; see `pipelines.training.flair.case_pool`.
        every : int
            Steps between two lines of report.
        validate : callable, optional
            Called at the end of each epoch; without it no phase stops early, and its last average counts.

        Raises
        ------
        WeightsError
            `MOST_SKIPPED` steps in a row could not be learnt from.
        """
        while self.state.phase < len(self.phases):
            phase = self.phases[self.state.phase]
            if not self.state.step:
                networks = (self.average.module, self.model)
                self.task.prepare(networks, phase, ready(pool), self.device, self.report)
            self._phase(phase, pool, every, validate)
            if self.state.best is not None:
                self._take_best()
            history = self.state.history
            self.state = State(phase=self.state.phase + 1, history=history)
            if self.state.phase < len(self.phases):
                self._optimizer = self._optimizer_of(self.phases[self.state.phase])
            self.save()

    def _take_best(self) -> None:
        kept = torch.load(self.folder / "best.pt", map_location=self.device, weights_only=True)
        self.average.module.load_state_dict(kept)
        self.model.load_state_dict(kept)

    def _rate(self, phase: Phase) -> float:
        if phase.schedule != "cosine":
            return phase.rate * self.state.factor
        done = max(self.state.step / phase.steps, self.state.used_s / (60 * phase.minutes))
        warm = min(1.0, (self.state.step + 1) / WARM_STEPS)
        return phase.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))

    def loss_of(self, phase: Phase, batch: Batch, network: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts, in the precision of the phase on this device."""
        given = tuple(t.to(self.device, non_blocking=True) for t in batch)
        kind = torch.device(self.device).type
        half = kind == "cuda" or (self.task.half_on_cpu and phase.edge >= HALF_EDGE)
        with torch.autocast(kind, torch.bfloat16, enabled=half):
            return self.task.loss(network, given, phase)

    def _step(self, phase: Phase, batch: Batch) -> dict[str, float]:
        optimizer = self._optimizer
        for group in optimizer.param_groups:
            group["lr"] = self._rate(phase)
        optimizer.zero_grad(set_to_none=True)
        loss, parts = self.loss_of(phase, batch, self.model)
        values = {name: part.item() for name, part in parts.items()}
        if not bool(torch.isfinite(loss)):
            return self._skip(phase, "loss")
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._learnt(), CLIP_NORM)
        if not bool(torch.isfinite(norm)):
            # One such step would end every later one.
            return self._skip(phase, "gradient")
        self._skipped = 0
        optimizer.step()
        self.average.update_parameters(self.model)
        return values

    def _skip(self, phase: Phase, what: str) -> dict[str, float]:
        self.report(f"step {self.state.step} of {phase.name} skipped: its {what} is not finite")
        self._skipped += 1
        if self._skipped == MOST_SKIPPED:
            raise WeightsError(
                f"training stopped: {MOST_SKIPPED} steps in a row had no finite {what}; look for cases with odd "
                "intensities, or start from other weights"
            )
        return {}

    def _batches(self, phase: Phase, pool: Path) -> Iterator[Batch]:
        """Draw the batches of a phase from the step that it stands at, some ahead; each step has its own seed."""
        index, first = self.state.phase, self.state.step

        def draw(step: int) -> Batch:
            return self.task.draw(ready(pool), phase, np.random.default_rng((self.seed, index, step)))

        threads = 1 if self.device == "cpu" else GPU_LOADERS
        with ThreadPoolExecutor(threads) as executor:
            ahead: deque[Future[Batch]] = deque()
            try:
                for step in range(first, phase.steps):
                    ahead.append(executor.submit(draw, step))
                    if len(ahead) > threads:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                executor.shutdown(wait=True, cancel_futures=True)

    def _phase(self, phase: Phase, pool: Path, every: int, validate: Validate | None) -> None:
        state = self.state
        sums: dict[str, list[float]] = {}
        batches = self._batches(phase, pool)
        stopped = self._out_of_patience(phase)
        while not stopped and state.step < phase.steps and state.used_s < 60 * phase.minutes:
            began = time.monotonic()
            self.model.train()
            parts = self._step(phase, next(batches))
            for name, value in parts.items():
                sums.setdefault(name, []).append(value)
            state.step += 1
            state.used_s += time.monotonic() - began
            if self.watch:
                self.watch(phase, state.step, parts)
            ended = state.step == phase.steps or state.used_s >= 60 * phase.minutes
            epoch = ended or state.step % phase.epoch == 0
            if epoch or state.step % every == 0:
                self._record(phase, sums)
                sums = {}
                if epoch and validate:
                    stopped = self._validated(phase, validate)
                if epoch or time.monotonic() - self._saved_at > SAVE_EVERY_S:
                    self.save()
        batches.close()  # type: ignore[attr-defined]

    def _record(self, phase: Phase, sums: dict[str, list[float]]) -> None:
        state = self.state
        means = {name: float(np.mean(values)) for name, values in sums.items()}
        state.history.append({"phase": state.phase, "step": state.step, **means})
        text = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        self.report(f"{phase.name} {state.step}/{phase.steps} {state.used_s:.0f} s: {text}")

    def _validated(self, phase: Phase, validate: Validate) -> bool:
        """Score the averaged network, keep the best, halve the learning rate; return whether the phase stops."""
        state = self.state
        began = time.monotonic()
        score = validate(self.best.eval(), phase)
        state.used_s += time.monotonic() - began
        state.history[-1]["score"] = score
        self.report(f"{phase.name} {state.step}/{phase.steps}: validation score {score:.3f}")
        if not math.isfinite(score):
            # Nothing is better than what cannot be compared: it would stay the best.
            return False
        if state.best is None or score > state.best:
            state.best, state.since_best, state.since_halved = score, 0, 0
            _write(self.best.state_dict(), self.folder / "best.pt")
            return False
        state.since_best += 1
        state.since_halved += 1
        if phase.schedule == "halve" and state.since_halved >= phase.patience:
            state.factor, state.since_halved = state.factor / 2, 0
            self.report(f"learning rate halved to {self._rate(phase):.2g}")
        if self._out_of_patience(phase):
            self.report(f"{phase.name} ends: {state.since_best} epochs without a better score")
            return True
        return False

    def _out_of_patience(self, phase: Phase) -> bool:
        return 0 < phase.stop <= self.state.since_best


def _write(stored: object, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(stored, part)
    part.replace(path)
