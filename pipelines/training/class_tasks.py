"""MS against NMOSD as tasks: from whole volumes, or from five slices."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.five_slices.network import five_slice_network
from pipelines.flair.five_slices.slices import slices_from_cube
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.networks import classification_network
from pipelines.training.batches import vary
from pipelines.training.losses import classification_loss
from pipelines.training.recipes import Phase
from pipelines.training.sample import unpack
from pipelines.training.task import Batch, Prediction, Task, autocast, mean_logits
from pipelines.types import FloatArray

SLICE_NOISE = 0.3
"""Largest SD of the Gaussian noise on the five slices, on the normalised scale: 0.06 of white matter."""
_TRIES = 64


class _ClassTask(Task):
    """MS against NMOSD from something that is made of a cube."""

    validated = (40, 40)
    half_on_cpu = False
    classifies = True
    _mirrored_axis: ClassVar[int]

    @abstractmethod
    def _seen(self, cube: FloatArray) -> Tensor:
        """Return what the network sees of a cube, (C, ...)."""

    @abstractmethod
    def _varied(self, path: Path, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Return what the network sees of a packed case, varied, and its class."""

    def draw(self, files: list[Path], phase: Phase, rng: np.random.Generator) -> Batch:
        """Draw labelled cases, half of them mirrored."""
        seen, targets = [], []
        for _ in range(phase.batch):
            for _ in range(_TRIES):
                image, target = self._varied(files[int(rng.integers(len(files)))], rng)
                if target >= 0:
                    break
            # The loss takes no part of a case without a class.
            seen.append(image.flip(self._mirrored_axis - 1) if rng.random() < 0.5 else image)
            targets.append(target)
        none = torch.empty(0)
        return torch.stack(seen), none, none, torch.tensor(targets)

    def loss(self, network: nn.Module, batch: Batch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy, with the weights of the classes."""
        image, _, _, target = batch
        weight = None if self.class_weight is None else self.class_weight.to(image.device)
        loss = classification_loss(network(image), target, weight)
        return loss, {"class": loss.detach()}

    def predict(
        self,
        network: nn.Module,
        cube: FloatArray,
        *,
        device: str,
        flips: bool = False,
        mask_only: bool = False,
    ) -> Prediction:
        """Return class logits."""
        image = self._seen(cube)[None].to(device)
        logits = []
        for mirrored in (False, True) if flips else (False,):
            with torch.inference_mode(), autocast(device):
                logits.append(network(image.flip(self._mirrored_axis) if mirrored else image)[0].double())
        return Prediction(None, mean_logits(logits))


class VolumeClassTask(_ClassTask):
    """Classes from whole volumes, average-pooled by 2 [ours]: 80 cubed at 2.4 mm."""

    kind = "classification"
    _mirrored_axis = 4

    def _build(self) -> nn.Module:
        return classification_network(self.name, small=self.small)

    def _seen(self, cube: FloatArray) -> Tensor:
        return functional.avg_pool3d(torch.from_numpy(np.ascontiguousarray(cube))[None], 2)

    def _varied(self, path: Path, rng: np.random.Generator) -> tuple[Tensor, int]:
        sample = unpack(path)
        return self._seen(vary(sample.image, rng) if sample.target >= 0 else sample.image), sample.target


class FiveSliceTask(_ClassTask):
    """Classes from five slices, as in paper 1: horizontal flips and Gaussian noise."""

    kind = "five-slices"
    _mirrored_axis = 3

    def _build(self) -> nn.Module:
        self._sliced: dict[Path, tuple[int, FloatArray, int]] = {}
        network: nn.Module = five_slice_network(small=self.small)
        return network

    def _seen(self, cube: FloatArray) -> Tensor:
        return torch.from_numpy(slices_from_cube(cube))

    def _varied(self, path: Path, rng: np.random.Generator) -> tuple[Tensor, int]:
        images, target = self._slices(path)
        noise = np.float32(rng.uniform(0, SLICE_NOISE)) * rng.standard_normal(images.shape, np.float32)
        return torch.from_numpy(np.where(images > BACKGROUND, images + noise, images)), target

    def _slices(self, path: Path) -> tuple[FloatArray, int]:
        """Return slices and class of a packed case; kept, for slicing takes longer than learning from the slices.

        Their heights vary from case to case and not from epoch to epoch: the pool is refreshed anyway.
        """
        written = path.stat().st_mtime_ns
        known = self._sliced.get(path)
        if known is None or known[0] != written:
            sample = unpack(path)
            name = zlib.crc32(f"{path.parent.name}/{path.name}".encode())
            images = slices_from_cube(sample.image, np.random.default_rng(name))
            known = self._sliced[path] = (written, images, sample.target)
        return known[1], known[2]
