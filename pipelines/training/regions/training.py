"""Training loop of the network of structures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.device import computes_in_bfloat16
from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.intensity import BACKGROUND
from pipelines.memory import keep_freed_memory
from pipelines.regions.network import CLASSES, RegionsNetwork, unshuffled
from pipelines.training.regions.cases import Known, read, varied

CHECKPOINT = "checkpoint.pt"
RATE, DECAY, WARM_STEPS, CLIP_NORM = 2e-3, 1e-4, 30, 1.0
AVERAGE_DECAY = 0.99
SAMPLED = 50_000
"""Coarse voxels of a brain that the loss looks at in one step."""
SAVE_EVERY_S = 60.0


def loss_of(network: RegionsNetwork, case: Known, draw: torch.Generator) -> Tensor:
    """Return cross-entropy plus Dice over the structures that are there, inside the brain mask."""
    volume = torch.from_numpy(case.image)[None, None]
    truth = unshuffled(torch.from_numpy(case.structures)[None, None])[0].permute(1, 2, 3, 0)
    inside = unshuffled(volume > BACKGROUND)[0].permute(1, 2, 3, 0)
    coarse = inside.any(-1).nonzero()
    chosen = coarse[torch.randperm(len(coarse), generator=draw)[:SAMPLED]].unbind(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16("cpu")):
        features = network.features(volume.contiguous(memory_format=torch.channels_last_3d))[0]
        said = network.told(features[chosen])
    logit = said.float().permute(0, 2, 1).reshape(-1, CLASSES)
    seen = inside[chosen].flatten()
    logit, target = logit[seen], truth[chosen].flatten()[seen].long()
    told = logit.log_softmax(-1)
    entropy = functional.nll_loss(told, target)
    share, size = told.exp(), torch.bincount(target, minlength=CLASSES)
    hit = torch.zeros(CLASSES).index_add(0, target, share.gather(1, target[:, None])[:, 0])
    dice = (2 * hit + 1) / (share.sum(0) + size + 1)
    return entropy + 1 - dice[size > 0].mean()


class RegionsTrainer:
    """Training that can be stopped at any time and goes on where it stopped.

    Parameters
    ----------
    folder : Path
        For ``checkpoint.pt``.
    minutes : float
        Of all runs together; the learning rate falls to zero over them.
    """

    def __init__(
        self, folder: Path, minutes: float, *, seed: int = 0, report: Callable[[str], None] = print
    ) -> None:
        torch.manual_seed(seed)
        keep_freed_memory()
        self.network = RegionsNetwork().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.average = RegionsNetwork()
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(self.network.parameters(), RATE, weight_decay=DECAY)
        self.folder, self.minutes, self.seed, self.report = folder, minutes, seed, report
        self.step, self.used_s = 0, 0.0
        self.history: list[dict[str, float]] = []

    def save(self) -> None:
        """Write a checkpoint; it appears whole or not at all."""
        stored = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "used_s": self.used_s,
            "history": self.history,
        }
        part = self.folder / "checkpoint.part"
        torch.save(stored, part)
        part.replace(self.folder / CHECKPOINT)

    def resume(self) -> None:
        """Load the checkpoint if there is one.

        Raises
        ------
        WeightsError
            It is of another network.
        """
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        stored = torch.load(path, weights_only=True)
        try:
            self.network.load_state_dict(stored["network"])
        except RuntimeError as error:
            raise WeightsError(f"{path} is of another network; give another folder") from error
        self.average.load_state_dict(stored["average"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.step, self.used_s, self.history = stored["step"], stored["used_s"], stored["history"]

    def _rate(self) -> float:
        done = min(1.0, self.used_s / (60 * self.minutes))
        return RATE * min(1.0, (self.step + 1) / WARM_STEPS) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))

    def learn(self, case: Known, draw: torch.Generator) -> float:
        """Take one step, and return the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.network, case, draw)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), CLIP_NORM)
        if bool(torch.isfinite(norm)):
            self.optimizer.step()
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        self.step += 1
        return float(loss.detach())

    def run(
        self, pool: Path, steps: int | None = None, watch: Callable[[int, float], None] | None = None
    ) -> None:
        """Learn until the time is over, or the steps are done; ``watch`` is told of each step and its loss."""
        rng = np.random.default_rng((self.seed, self.step))
        draw = torch.Generator().manual_seed(self.seed + self.step)

        def load() -> Known:
            files = sorted(pool.glob("*.npz"))
            return varied(read(files[int(rng.integers(len(files)))]), rng)

        begun, before, saved = time.monotonic(), self.used_s, time.monotonic()
        losses: list[float] = []
        with ThreadPoolExecutor(1) as loader:
            coming = loader.submit(load)
            while self.used_s < 60 * self.minutes and (steps is None or self.step < steps):
                case = coming.result()
                coming = loader.submit(load)
                losses.append(self.learn(case, draw))
                self.used_s = before + time.monotonic() - begun
                if watch is not None:
                    watch(self.step, losses[-1])
                if len(losses) == 20:
                    self.history.append(
                        {"step": self.step, "loss": float(np.mean(losses)), "used_s": self.used_s}
                    )
                    self.report(f"step {self.step}  loss {np.mean(losses):.3f}  {self.used_s / 60:.1f} min")
                    losses = []
                if time.monotonic() - saved > SAVE_EVERY_S:
                    self.save()
                    saved = time.monotonic()
        self.save()


def wait_for(pool: Path, count: int, report: Callable[[str], None], alive: Callable[[], bool]) -> None:
    """Return when the pool holds ``count`` cases.

    Raises
    ------
    DataSetError
        The process that makes them has ended.
    """
    report(f"making the first {count} cases")
    while len(list(pool.glob("*.npz"))) < count:
        if not alive():
            raise DataSetError(f"the process that fills {pool} has ended, its reason stands above")
        time.sleep(0.5)
