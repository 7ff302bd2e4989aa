"""MS against NMOSD as tasks: from whole volumes, or from five slices."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.five_slices.network import five_slice_network
from pipelines.flair.five_slices.slices import slices_from_cube, slices_of_mask
from pipelines.flair.intensity import BACKGROUND
from pipelines.training.data_sets.sample import Sample, kinds_in, unpack
from pipelines.training.flair.batches import vary
from pipelines.training.flair.cells import CHANNELS, KIND_BIAS, kinds_known, kinds_loss
from pipelines.training.flair.losses import classification_loss
from pipelines.training.flair.task import Batch, Prediction, Task, autocast, kept_maps, mean_logits
from pipelines.training.papers.networks import classification_network
from pipelines.training.phase import Phase
from pipelines.types import FloatArray

SLICE_NOISE = 0.3
"""Largest SD of the Gaussian noise on the five slices, on the normalised scale: 0.06 of white matter."""
TURN_DEGREES = 4.0
SCALE_SD = 0.05
SHIFT_PIXELS = 2.5
GUIDED = {
    "densenet121": ("features.denseblock1", "features.denseblock2"),
    "squeezenet": ("features.4", "features.7"),
    "five-slices": ("layer2",),
}
"""The layers of a network whose maps learn where lesions lie; those of the ResNets are `GUIDED_RESNET`."""
GUIDED_RESNET = ("layer1", "layer2")
GUIDE_WEIGHT = 1.0
"""[ours] Weight of that loss. From a few thousand cases the class alone teaches a network nothing about lesions."""
_LESION_SHARE = 0.3
"""Of a pixel that has one."""
_TRIES = 64


class Seen(NamedTuple):
    """Case as a network of classes sees it.

    Parameters
    ----------
    image : float32 Tensor, shape (C, ...)
    lesions : Tensor
        What its guided layers learn from; its last axis runs as the image's.
    known : bool
        Whether the lesions are all known.
    target : int
    """

    image: Tensor
    lesions: Tensor
    known: bool
    target: int


class _ClassTask(Task):
    """MS against NMOSD from something that is made of a cube; its last axis runs from one side of the head to the other.

    [ours] Some layers also learn which of their cells have lesions, through convolutions that the weights leave out: the
    network stays the paper's.
    """

    validated = (60, 120)
    half_on_cpu = True
    classifies = True
    _trial: ClassVar[tuple[int, ...]]
    """Shape of an input that tells how many maps the guided layers have."""
    _told: ClassVar[int]
    """Number of things that are learnt of each cell."""

    def __init__(self, name: str, *, small: bool = False) -> None:
        super().__init__(name, small=small)
        self._guided = GUIDED.get(name, GUIDED_RESNET)
        with torch.no_grad():
            maps = self._with_maps(self.network.eval(), torch.zeros(1, *self._trial))[1]
        convolution = nn.Conv3d if len(self._trial) == 4 else nn.Conv2d
        heads = [convolution(of.shape[1], self._told, 1) for of in maps]
        for head in heads:
            nn.init.constant_(head.bias, KIND_BIAS)  # type: ignore[arg-type]
        self.auxiliary: nn.ModuleList = nn.ModuleList(heads)

    def _with_maps(self, network: nn.Module, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits of an image, and the maps of the guided layers."""
        with kept_maps([network.get_submodule(name) for name in self._guided]) as maps:
            return network(image), maps

    @abstractmethod
    def _seen(self, cube: FloatArray) -> Tensor:
        """Return what the network sees of a cube, (C, ...)."""

    @abstractmethod
    def _varied(self, path: Path, rng: np.random.Generator) -> Seen:
        """Return what the network sees of a packed case, varied."""

    @abstractmethod
    def _guide(self, logits: list[Tensor], lesions: Tensor, known: Tensor) -> Tensor:
        """Return the loss of what the guided layers say of lesions."""

    def draw(self, files: list[Path], phase: Phase, rng: np.random.Generator) -> Batch:
        """Draw labelled cases, half of them mirrored."""
        images, lesions, known, targets = [], [], [], []
        for _ in range(phase.batch):
            for _ in range(_TRIES):
                seen = self._varied(files[int(rng.integers(len(files)))], rng)
                if seen.target >= 0:
                    break
            # The loss takes no part of a case without a class.
            mirrored = [-1] if rng.random() < 0.5 else []
            images.append(seen.image.flip(mirrored))
            lesions.append(seen.lesions.flip(mirrored))
            known.append(seen.known)
            targets.append(seen.target)
        return torch.stack(images), torch.stack(lesions), torch.tensor(known), torch.tensor(targets)

    def loss(self, network: nn.Module, batch: Batch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy, with the weights of the classes, plus that of the cells with lesions."""
        image, lesions, known, target = batch
        weight = None if self.class_weight is None else self.class_weight.to(image.device)
        logits, maps = self._with_maps(network, image)
        loss = classification_loss(logits, target, weight)
        parts = {"class": loss.detach()}
        if bool(known.any()):
            told = [head(of) for head, of in zip(self.auxiliary, maps, strict=True)]
            guide = self._guide(told, lesions, known)
            loss, parts["cells"] = loss + GUIDE_WEIGHT * guide, guide.detach()
        return loss, parts

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
                logits.append(network(image.flip(-1) if mirrored else image)[0].double())
        return Prediction(None, mean_logits(logits))


class VolumeClassTask(_ClassTask):
    """Classes from whole volumes, average-pooled by 2 [ours]: 80 cubed at 2.4 mm. Its layers learn kinds of lesions."""

    kind = "classification"
    _trial = (1, 64, 64, 64)
    _told = CHANNELS

    def _build(self) -> nn.Module:
        return classification_network(self.name, small=self.small)

    def _seen(self, cube: FloatArray) -> Tensor:
        return functional.avg_pool3d(torch.from_numpy(np.ascontiguousarray(cube))[None], 2)

    def _varied(self, path: Path, rng: np.random.Generator) -> Seen:
        sample = unpack(path)
        image = vary(sample.image, rng) if sample.target >= 0 else sample.image
        kinds = torch.from_numpy(kinds_in(sample))
        known = bool(kinds_known(kinds[None])) and sample.ignore is None
        return Seen(self._seen(image), kinds, known, sample.target)

    def _guide(self, logits: list[Tensor], lesions: Tensor, known: Tensor) -> Tensor:
        return kinds_loss([of[known] for of in logits], lesions[known])


class FiveSliceTask(_ClassTask):
    """Classes from five slices, as in paper 1: horizontal flips and Gaussian noise.

    [ours] The slices are also moved in their plane and their contrast is varied, lest a few thousand cases be learnt by heart.
    """

    kind = "five-slices"
    _trial = (5, 128, 128)
    _told = 5

    def _build(self) -> nn.Module:
        self._sliced: dict[Path, tuple[int, Seen]] = {}
        network: nn.Module = five_slice_network(small=self.small)
        return network

    def _seen(self, cube: FloatArray) -> Tensor:
        return torch.from_numpy(slices_from_cube(cube))

    def _varied(self, path: Path, rng: np.random.Generator) -> Seen:
        seen = moved(self._slices(path), rng)
        images = vary(seen.image.numpy(), rng)
        noise = np.float32(rng.uniform(0, SLICE_NOISE)) * rng.standard_normal(images.shape, np.float32)
        return seen._replace(image=torch.from_numpy(np.where(images > BACKGROUND, images + noise, images)))

    def _guide(self, logits: list[Tensor], lesions: Tensor, known: Tensor) -> Tensor:
        (said,) = logits
        cells = (functional.adaptive_max_pool2d(lesions, said.shape[2:]) > _LESION_SHARE).float()
        error = functional.binary_cross_entropy_with_logits(said.float(), cells, reduction="none")
        return error[known].mean()

    def _slices(self, path: Path) -> Seen:
        """Return slices and class of a packed case; kept, for slicing takes longer than learning from the slices.

        Their heights vary from case to case and not from epoch to epoch: the pool is refreshed anyway.
        """
        written = path.stat().st_mtime_ns
        kept = self._sliced.get(path)
        if kept is None or kept[0] != written:
            kept = self._sliced[path] = (written, _sliced(unpack(path), f"{path.parent.name}/{path.name}"))
        return kept[1]


def moved(seen: Seen, rng: np.random.Generator) -> Seen:
    """Return slices and lesions turned, scaled and shifted in their plane, all five alike.

    As registrations err, and heads differ: `TURN_DEGREES`, `SCALE_SD` along each axis, `SHIFT_PIXELS` are standard deviations.
    """
    turn = np.deg2rad(rng.normal(0, TURN_DEGREES))
    x, y = np.exp(rng.normal(0, SCALE_SD, 2))
    shift = 2 * rng.normal(0, SHIFT_PIXELS, 2) / seen.image.shape[-1]
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = torch.tensor([[x * cos, -y * sin, shift[0]], [x * sin, y * cos, shift[1]]])[None].float()
    brain = (seen.image > BACKGROUND).float()
    planes = torch.cat([seen.image * brain, brain, seen.lesions])[None]
    grid = functional.affine_grid(matrix, list(planes.shape), align_corners=False)
    total, share, lesions = functional.grid_sample(planes, grid, align_corners=False)[0].chunk(3)
    # The mean over the brain in each pixel: none of what lies around it bleeds into its edge.
    image = torch.where(share > 0.5, total / share.clamp_min(0.5), BACKGROUND)
    return seen._replace(image=image, lesions=lesions)


def _sliced(sample: Sample, name: str) -> Seen:
    """Return the slices of a case at heights that its name decides."""
    seed = zlib.crc32(name.encode())
    images = slices_from_cube(sample.image, np.random.default_rng(seed))
    lesions = slices_of_mask(sample.lesions, sample.image, np.random.default_rng(seed))
    known = sample.ignore is None
    return Seen(torch.from_numpy(images), torch.from_numpy(lesions), known, sample.target)
