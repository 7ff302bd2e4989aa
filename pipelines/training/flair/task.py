"""Task of a training: batches, loss, prediction and score of one kind of network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.training.data_sets.sample import Sample
from pipelines.training.flair.losses import CLASS_WEIGHT, dice_loss
from pipelines.training.flair.recipes import Kind
from pipelines.training.phase import Phase
from pipelines.types import FloatArray

Batch = tuple[Tensor, ...]
"""Tensors that a task draws and its loss takes; the image first."""
Report = Callable[[str], None]
HALF_EDGE = 64
"""Smaller crops are learnt in float32 on a CPU.

The gradient of a 3x3x3 convolution's weights in bfloat16 reads memory that was never written where its maps are 2 cubed
(torch 2.13 on CPUs with avx512_bf16: differences of 1e30 between runs); maps of 3 cubed and more are right. Crops of 64 end
at 4 cubed.
"""


@dataclass(frozen=True)
class Prediction:
    """Answer of a network to one cube.

    Parameters
    ----------
    probability : float32 array, shape (k, j, i), or None
        Of lesion, 0 outside the brain; None from a network that does not segment.
    logits : float64 array, shape (2,), or None
        Of MS and NMOSD; None from a network that does not classify.
    """

    probability: FloatArray | None
    logits: npt.NDArray[np.float64] | None


class Task(ABC):
    """Task that one kind of network learns from a pool of cases.

    Parameters
    ----------
    name : str
        Of the network; see `recipes.NAMES`.
    small : bool
        The tiny variant of the network, for tests.
    """

    kind: ClassVar[Kind]
    validated: ClassVar[tuple[int, int]]
    """Cases at each validation, and in all: a temperature is fitted on all of them."""
    half_on_cpu: ClassVar[bool]
    """Use of bfloat16 on a CPU, on crops of `HALF_EDGE` and more; see there."""
    segments: bool = False
    classifies: bool = False

    def __init__(self, name: str, *, small: bool = False) -> None:
        self.name = name
        self.small = small
        self.network = self._build()
        self.class_weight: Tensor | None = None
        self.auxiliary: nn.Module = nn.Identity()
        """Layers that the training needs and the weights leave out."""

    @abstractmethod
    def _build(self) -> nn.Module: ...

    def prepare(  # noqa: B027  most tasks have nothing to prepare
        self, networks: Sequence[nn.Module], phase: Phase, files: list[Path], device: str, report: Report
    ) -> None:
        """Do what a phase begins with, to the running mean of the network and to the network."""

    @abstractmethod
    def draw(self, files: list[Path], phase: Phase, rng: np.random.Generator) -> Batch:
        """Draw a batch for a phase."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its parts by name; the parts are detached."""

    @abstractmethod
    def predict(
        self,
        network: nn.Module,
        cube: FloatArray,
        *,
        device: str,
        flips: bool = False,
        mask_only: bool = False,
    ) -> Prediction:
        """Analyse a normalised cube with a network in eval mode on ``device``.

        Parameters
        ----------
        cube : float32 array, shape (k, j, i)
        flips : bool
            Take the mean with the left-right mirrored cube.
        mask_only : bool
            Leave the class out where that saves time.
        """

    def score(
        self, network: nn.Module, samples: Sequence[Sample], *, device: str, mask_only: bool = False
    ) -> float:
        """Return how good a network is on cases; higher is better.

        [ours] The papers do not say by what they stop. The mean over cases of Dice at 0.5, less 0.8 times the mean
        cross-entropy of the class, as in the loss; each where the network gives it.
        """
        dice, entropy = [], []
        for sample in samples:
            said = self.predict(network, sample.image, device=device, mask_only=mask_only)
            if said.probability is not None:
                known = np.ones_like(sample.lesions) if sample.ignore is None else ~sample.ignore
                mask, truth = (
                    (x & known).astype(np.float32) for x in (said.probability > 0.5, sample.lesions)
                )
                if known.any():
                    dice.append(1 - dice_loss(torch.from_numpy(mask), torch.from_numpy(truth)).item())
            if said.logits is not None and sample.target >= 0:
                logits = torch.from_numpy(said.logits)[None]
                entropy.append(functional.cross_entropy(logits, torch.tensor([sample.target])).item())
        parts = [float(np.mean(dice))] if dice else []
        parts += [-CLASS_WEIGHT * float(np.mean(entropy))] if entropy else []
        return sum(parts) if parts else float("nan")


@contextmanager
def kept_maps(blocks: Sequence[nn.Module], *, given: bool = False) -> Iterator[list[Tensor]]:
    """Keep what each of some blocks of a network returns while the with-block runs, in the order in which they run.

    With ``given`` what each is given instead.
    """
    maps: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        maps.append(inputs[0] if given else output)

    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def autocast(device: str) -> torch.autocast:
    """Return bfloat16 on a GPU, nothing elsewhere."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def mean_logits(logits: list[Tensor]) -> npt.NDArray[np.float64] | None:
    """Return the mean of some passes, shape (2,); None without any."""
    return torch.stack(logits).mean(0).cpu().numpy() if logits else None
