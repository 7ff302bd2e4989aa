"""Lesion masks, and masks with classes, as tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.blocks import Residual
from pipelines.flair.joint.network import JointConfig, JointNetwork
from pipelines.flair.segmenter import probability_map
from pipelines.training.data_sets.sample import unpack
from pipelines.training.flair.batches import draw_batch
from pipelines.training.flair.cells import CHANNELS, KIND_BIAS, kinds_known, kinds_loss
from pipelines.training.flair.last_layer import fit_last_layer
from pipelines.training.flair.losses import (
    CLASS_WEIGHT,
    CROSS_WEIGHT,
    classification_loss,
    cross_task_loss,
    deep_supervision_loss,
    segmentation_loss,
)
from pipelines.training.flair.recipes import ablation_of
from pipelines.training.flair.task import Batch, Prediction, Report, Task, autocast, kept_maps, mean_logits
from pipelines.training.papers.networks import segmentation_network
from pipelines.training.phase import Phase
from pipelines.types import FloatArray

GUIDE_WEIGHT = 1.0
"""[ours] Of the loss of the kinds of lesions."""
SMALL_JOINT = {
    "shared": 4,
    "segmentation": (4, 6, 8),
    "last": 4,
    "classification": (4, 14, 16),
    "embedding": 6,
    "heads": 3,
    "window": 2,
}


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
        image, truth, weight, *_ = batch
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
    """Lesion masks and kinds of lesions from crops, masks and classes from whole volumes; or one of the two, in an ablation.

    [ours] The first `CHANNELS` maps of the blocks at D/4 and D/8 learn the kinds (see `cells`), as the logit that enters their
    ReLU: a cell that shows nothing of a kind then adds exactly 0 to it, and the mean over all cells, which the classification
    pools, tells how many there are of each. The network stays the paper's. Whole volumes are learnt from as published.
    """

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

    def prepare(
        self, networks: Sequence[nn.Module], phase: Phase, files: list[Path], device: str, report: Report
    ) -> None:
        """Begin with few cells that have a kind; fit the last layer of the classification, where the phase begins with that."""
        if self.classifies and not phase.joint:
            with torch.no_grad():
                for block in (block for network in networks for block in _of_kinds(network)):
                    bias = block.norm.bias[:CHANNELS]
                    if not bias.any():  # that of a network that has learnt something is no longer 0
                        bias.fill_(KIND_BIAS)
        if phase.refit and self.classifies:
            first, *others = networks
            assert isinstance(first, JointNetwork)
            samples = (unpack(path) for path in files)
            fit_last_layer(first.eval(), samples, device=device, report=report)
            for network in others:
                last = network.get_submodule("classification.linear")
                last.load_state_dict(first.get_submodule("classification.linear").state_dict())

    def loss(self, network: nn.Module, batch: Batch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the parts that phase, ablation and batch have, weighted and summed.

        1 Dice (with its cross-entropy) + 0.8 class + 1 cross-task; from crops, which tell no class, the mask and, where they
        are known, the kinds of lesions.
        """
        image, truth, weight, target, kinds = batch
        guided = self.classifies and not phase.joint and bool(kinds_known(kinds).any())
        parts: dict[str, Tensor] = {}
        blocks = [block.active for block in _of_kinds(network)] if guided else []
        with kept_maps(blocks, given=True) as maps:
            output = network(
                image, classes=target.clamp_min(0), segmentation_only=not (phase.joint or guided)
            )
        if self.config.segments:
            parts["mask"] = segmentation_loss(output.logit, truth, weight)
        if guided:
            parts["kinds"] = kinds_loss([features[:, :CHANNELS] for features in maps], kinds)
        if phase.joint and self.config.classifies:
            parts["class"] = classification_loss(output.classes, target, self._weight(image))
        known = target >= 0
        if phase.joint and self.config.cross_loss and bool(known.any()):
            pairs = ([x[known] for x in of] for of in (output.localisation, output.scales))
            parts["cross"] = cross_task_loss(*pairs)
        shares = {"mask": 1.0, "kinds": GUIDE_WEIGHT, "class": CLASS_WEIGHT, "cross": CROSS_WEIGHT}
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
            with torch.inference_mode(), autocast(device):
                output = network(volume.flip(4) if mirrored else volume, segmentation_only=only)
            if output.logit is not None:
                maps.append(torch.sigmoid(output.logit.float().flip(4) if mirrored else output.logit.float()))
            if output.classes is not None:
                logits.append(output.classes[0].double())
        probability = None
        if maps:
            mean = torch.stack(maps).mean(0)[0, 0].cpu().numpy()
            probability = np.where(cube > BACKGROUND, mean, np.float32(0)).astype(np.float32)
        return Prediction(probability, mean_logits(logits))


def _of_kinds(network: nn.Module) -> list[Residual]:
    """Return the blocks of the classification whose first maps learn which kinds of lesions lie where; see `cells`."""
    return [network.get_submodule(f"classification.{name}") for name in ("at_quarter", "at_eighth")]  # type: ignore[misc]


def _volume(cube: FloatArray, device: str) -> Tensor:
    volume = torch.from_numpy(np.ascontiguousarray(cube, dtype=np.float32))[None, None].to(device)
    return volume.contiguous(memory_format=torch.channels_last_3d)
