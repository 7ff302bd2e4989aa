"""What is learnt, as small objects that the trainer drives: lesion masks, classes, both, or five slices."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.five_slices.network import five_slice_network
from pipelines.flair.five_slices.slices import slices_from_cube
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.network import JointConfig, JointNetwork
from pipelines.flair.networks import classification_network, segmentation_network
from pipelines.flair.segmenter import probability_map
from pipelines.training.batches import draw_batch, vary
from pipelines.training.losses import (
    CLASS_WEIGHT,
    CROSS_WEIGHT,
    classification_loss,
    cross_task_loss,
    deep_supervision_loss,
    dice_loss,
    segmentation_loss,
)
from pipelines.training.recipes import Kind, Phase, ablation_of, check_name
from pipelines.training.sample import Sample, unpack
from pipelines.types import FloatArray

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Image, lesions, weight, class; see `draw_batch`. Tasks of classes alone leave lesions and weight empty."""
SMALL_JOINT = {
    "shared": 4,
    "segmentation": (4, 6, 8),
    "last": 4,
    "classification": (4, 6, 8),
    "embedding": 6,
    "heads": 3,
    "window": 2,
}
SLICE_NOISE = 0.3
"""Largest SD of the Gaussian noise on the five slices, on the normalised scale: 0.06 of white matter."""
HALF_EDGE = 64
"""Smaller crops are learnt in float32 on a CPU.

The gradient of a 3x3x3 convolution's weights in bfloat16 reads memory that was never written where its maps are 2 cubed
(torch 2.13 on CPUs with avx512_bf16: differences of 1e30 between runs); maps of 3 cubed and more are right. Crops of 64 end
at 4 cubed, pooled volumes in DenseNet121 at 2 cubed.
"""
_TRIES = 64


@dataclass(frozen=True)
class Prediction:
    """What a network says of one cube.

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
    """What one kind of network learns from a pool of cases.

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
    """Whether bfloat16 is used on a CPU, on crops of `HALF_EDGE` and more; see there."""
    segments: bool = False
    classifies: bool = False

    def __init__(self, name: str, *, small: bool = False) -> None:
        self.name = name
        self.small = small
        self.network = self._build()
        self.class_weight: Tensor | None = None

    @abstractmethod
    def _build(self) -> nn.Module: ...

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


class SegmentationTask(Task):
    """Lesion masks, learnt from crops with deep supervision."""

    kind = "segmentation"
    validated = (8, 8)
    half_on_cpu = True
    segments = True

    def _build(self) -> nn.Module:
        return segmentation_network(self.name, small=self.small)

    def draw(self, files: list[Path], phase: Phase, rng: np.random.Generator) -> Batch:
        """Draw crops."""
        return draw_batch(files, phase.batch, phase.edge, rng)

    def loss(self, network: nn.Module, batch: Batch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum over the heads."""
        image, truth, weight, _ = batch
        loss = deep_supervision_loss(network(image), truth, weight)
        return loss, {"mask": loss.detach()}

    def predict(
        self,
        network: nn.Module,
        cube: FloatArray,
        *,
        device: str,
        flips: bool = False,
        mask_only: bool = False,
    ) -> Prediction:
        """Return the lesion probability."""
        return Prediction(probability_map(network, cube, device=device, flips=flips), None)


class JointTask(Task):
    """Lesion masks from crops first, then masks and classes from whole volumes; or one of the two, in an ablation."""

    kind = "joint"
    validated = (8, 32)
    half_on_cpu = True

    def _build(self) -> nn.Module:
        sizes = SMALL_JOINT if self.small else {}
        self.config = JointConfig(ablation=ablation_of(self.name), **sizes)  # type: ignore[arg-type]
        self.segments, self.classifies = self.config.segments, self.config.classifies
        return JointNetwork(self.config)

    def draw(self, files: list[Path], phase: Phase, rng: np.random.Generator) -> Batch:
        """Draw crops or whole volumes."""
        return draw_batch(files, phase.batch, phase.edge, rng, labelled=phase.joint)

    def loss(self, network: nn.Module, batch: Batch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        """Return 1 Dice (with its cross-entropy) + 0.8 class + 1 cross-task, as far as phase and ablation have them."""
        image, truth, weight, target = batch
        if not phase.joint:
            loss = segmentation_loss(network(image, segmentation_only=True).logit, truth, weight)
            return loss, {"mask": loss.detach()}
        output = network(image, classes=target.clamp_min(0))
        parts: dict[str, Tensor] = {}
        if self.config.segments:
            parts["mask"] = segmentation_loss(output.logit, truth, weight)
        if self.config.classifies:
            parts["class"] = classification_loss(output.classes, target, self._weight(image))
        known = target >= 0
        if self.config.cross_loss and bool(known.any()):
            maps = ([x[known] for x in of] for of in (output.localisation, output.scales))
            parts["cross"] = cross_task_loss(*maps)
        shares = {"mask": 1.0, "class": CLASS_WEIGHT, "cross": CROSS_WEIGHT}
        total = torch.stack([shares[name] * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}

    def _weight(self, image: Tensor) -> Tensor | None:
        return None if self.class_weight is None else self.class_weight.to(image.device)

    def predict(
        self,
        network: nn.Module,
        cube: FloatArray,
        *,
        device: str,
        flips: bool = False,
        mask_only: bool = False,
    ) -> Prediction:
        """Return lesion probability and class logits."""
        only = mask_only and self.config.segments
        volume = _volume(cube, device)
        maps, logits = [], []
        for mirrored in (False, True) if flips else (False,):
            with torch.inference_mode(), _autocast(device):
                output = network(volume.flip(4) if mirrored else volume, segmentation_only=only)
            if output.logit is not None:
                maps.append(torch.sigmoid(output.logit.float().flip(4) if mirrored else output.logit.float()))
            if output.classes is not None:
                logits.append(output.classes[0].double())
        probability = None
        if maps:
            mean = torch.stack(maps).mean(0)[0, 0].cpu().numpy()
            probability = np.where(cube > BACKGROUND, mean, np.float32(0)).astype(np.float32)
        return Prediction(probability, _mean(logits))


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
            with torch.inference_mode(), _autocast(device):
                logits.append(network(image.flip(self._mirrored_axis) if mirrored else image)[0].double())
        return Prediction(None, _mean(logits))


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


_TASKS: dict[Kind, Callable[..., Task]] = {
    "segmentation": SegmentationTask,
    "joint": JointTask,
    "classification": VolumeClassTask,
    "five-slices": FiveSliceTask,
}


def make_task(name: str, *, small: bool = False) -> Task:
    """Return the task of a network, with random weights.

    Raises
    ------
    WeightsError
        There is no network of that name.
    """
    return _TASKS[check_name(name)](name, small=small)


def _volume(cube: FloatArray, device: str) -> Tensor:
    volume = torch.from_numpy(np.ascontiguousarray(cube, dtype=np.float32))[None, None].to(device)
    return volume.contiguous(memory_format=torch.channels_last_3d)


def _autocast(device: str) -> torch.autocast:
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def _mean(logits: list[Tensor]) -> npt.NDArray[np.float64] | None:
    return torch.stack(logits).mean(0).cpu().numpy() if logits else None
