"""The joint network put together, its shape as data, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.blocks import BrainWeights
from pipelines.flair.joint.classification import ClassificationBranch, LesionGuidance
from pipelines.flair.joint.segmentation import SegmentationBranch, mix_scales
from pipelines.flair.joint.sharing import CrossUnit, GlobalBranch, LocalBranch, VolumeNorm

CLASSES = ("MS", "NMOSD")


@dataclass(frozen=True)
class JointConfig:
    """The published shape by default; the edge of the input is any multiple of 16 * ``window``."""

    shared: int = 32
    segmentation: tuple[int, int, int] = (32, 64, 128)
    last: int = 16
    classification: tuple[int, int, int] = (64, 128, 256)
    embedding: int = 96
    heads: int = 3
    window: int = 5


@dataclass(frozen=True)
class JointOutput:
    """What the network says of a batch of volumes.

    Parameters
    ----------
    logit : Tensor, shape (B, 1, D, D, D)
        Of the lesion map.
    scales : list of Tensor, shapes (B, 1, n, n, n), n = D/8, D/4, D/2, D
        The projections (logits) that the lesion map is mixed from.
    classes : Tensor, shape (B, 2), or None
        Logits of MS and NMOSD; None where only the segmentation was asked for.
    localisation : list of Tensor, shapes (B, 1, n, n, n), n = D/8, D/4, D/2
        For the class that was asked for, or the more probable one.
    """

    logit: Tensor
    scales: list[Tensor]
    classes: Tensor | None
    localisation: list[Tensor]

    @property
    def probability(self) -> Tensor:
        """Lesion probability, (B, 1, D, D, D)."""
        return torch.sigmoid(self.logit)


class JointNetwork(nn.Module):
    """Segmentation and classification with shared features, lesion guidance and localisation maps."""

    def __init__(self, config: JointConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or JointConfig()
        self.volume_norm = VolumeNorm()
        self.local = LocalBranch(c.shared)
        self.wide = GlobalBranch(c.shared, c.embedding, c.heads, c.window)
        self.cross = CrossUnit()
        self.segmentation = SegmentationBranch(c.segmentation, c.last)
        self.guidance = LesionGuidance(c.shared)
        self.classification = ClassificationBranch(c.shared, c.classification, len(CLASSES))
        # Channels last in memory: three times faster on a CPU, 3 s instead of 10 for a cube on two cores.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(
        self, volume: Tensor, *, classes: Tensor | None = None, segmentation_only: bool = False
    ) -> JointOutput:
        """Run on normalised volumes.

        Parameters
        ----------
        volume : Tensor, shape (B, 1, D, D, D)
            From `pipelines.flair.intensity.normalise`; axes (k, j, i) towards Superior, Posterior and Left, 1.2 mm.
        classes : int64 Tensor, shape (B,), optional
            Classes to localise. [ours] The true ones in training; by default the predicted ones.
        segmentation_only : bool
            Leave the classification out.

        Raises
        ------
        ValueError
            The volume is not a cube of a fitting size.
        """
        step = 16 * self.config.window
        size = tuple(volume.shape[2:])
        if len(set(size)) != 1 or size[0] % step:
            raise ValueError(f"the joint network takes cubes whose edge is a multiple of {step}, not {size}")
        brain = BrainWeights(volume, BACKGROUND)
        x = self.volume_norm(volume)
        for_mask, for_class = self.cross(self.local(x, brain), self.wide(x, brain))
        scales = self.segmentation(for_mask, brain)
        logit = mix_scales(scales)
        if segmentation_only:
            return JointOutput(logit, scales, None, [])
        guided = self.guidance(torch.sigmoid(logit), for_class, brain)
        logits, features = self.classification(guided, brain)
        chosen = logits.argmax(1) if classes is None else classes
        return JointOutput(logit, scales, logits, self.classification.localise(features, chosen))
