"""The joint network put together, its shape as data, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.errors import PipelineError
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.blocks import BrainWeights
from pipelines.flair.joint.classification import ClassificationBranch, LesionGuidance, PlainGuidance
from pipelines.flair.joint.segmentation import SegmentationBranch, mix_scales
from pipelines.flair.joint.sharing import CrossUnit, GlobalBranch, LocalBranch, VolumeNorm

CLASSES = ("MS", "NMOSD")
ABLATIONS = (
    "only-segmentation",
    "only-classification",
    "no-sharing",
    "only-local",
    "only-global",
    "no-guidance",
    "guidance-product",
    "guidance-concatenation",
    "guidance-addition",
    "no-cross-loss",
)
"""What the paper leaves out or exchanges, one at a time. [ours] It names these and defines none; what each means here:

- only-segmentation, only-classification: the other branch is not there, nor what joins the two (guidance, cross-task loss)
- no-sharing: no cross unit; the segmentation sees the local branch alone, the classification the global one alone
- only-local, only-global: one branch, and both tasks see it as it is
- no-guidance: the classification sees its shared features as they are
- guidance-product, -concatenation, -addition: `PlainGuidance`
- no-cross-loss: the whole network, trained without the cross-task loss
"""


@dataclass(frozen=True)
class JointConfig:
    """The published shape by default; the edge of the input is any multiple of 16 * ``window``.

    Parameters
    ----------
    ablation : str
        One of `ABLATIONS`, or "" for the whole network.

    Raises
    ------
    PipelineError
        There is no such ablation.
    """

    shared: int = 32
    segmentation: tuple[int, int, int] = (32, 64, 128)
    last: int = 16
    classification: tuple[int, int, int] = (64, 128, 256)
    embedding: int = 96
    heads: int = 3
    window: int = 5
    ablation: str = ""

    def __post_init__(self) -> None:
        if self.ablation and self.ablation not in ABLATIONS:
            raise PipelineError(
                f"the joint network has no ablation '{self.ablation}'; there are {', '.join(ABLATIONS)}"
            )

    @property
    def segments(self) -> bool:
        """True when the network draws a lesion map."""
        return self.ablation != "only-classification"

    @property
    def classifies(self) -> bool:
        """True when the network tells the classes apart."""
        return self.ablation != "only-segmentation"

    @property
    def cross_loss(self) -> bool:
        """True when the cross-task loss belongs to its training."""
        return self.segments and self.classifies and self.ablation != "no-cross-loss"


@dataclass(frozen=True)
class JointOutput:
    """Output of the network for a batch of volumes.

    Parameters
    ----------
    logit : Tensor, shape (B, 1, D, D, D), or None
        Of the lesion map; None from a network that does not segment.
    scales : list of Tensor, shapes (B, 1, n, n, n), n = D/8, D/4, D/2, D
        The projections (logits) that the lesion map is mixed from; empty without a lesion map.
    classes : Tensor, shape (B, 2), or None
        Logits of MS and NMOSD; None where only the segmentation was asked for, or the network does not classify.
    localisation : list of Tensor, shapes (B, 1, n, n, n), n = D/8, D/4, D/2
        For the class that was asked for, or the more probable one; empty without classes.
    """

    logit: Tensor | None
    scales: list[Tensor]
    classes: Tensor | None
    localisation: list[Tensor]

    @property
    def probability(self) -> Tensor:
        """Lesion probability, (B, 1, D, D, D), of a network that segments."""
        if self.logit is None:
            raise PipelineError("a joint network with the ablation only-classification draws no lesion map")
        return torch.sigmoid(self.logit)


def _guidance(config: JointConfig) -> LesionGuidance | PlainGuidance | None:
    if config.ablation in {"only-segmentation", "only-classification", "no-guidance"}:
        return None
    if config.ablation.startswith("guidance-"):
        return PlainGuidance(config.shared, config.ablation.removeprefix("guidance-"))
    return LesionGuidance(config.shared)


class JointNetwork(nn.Module):
    """Segmentation and classification with shared features, lesion guidance and localisation maps.

    Parameters
    ----------
    config : JointConfig, optional
        The published network by default. What its ablation leaves out is None here.
    """

    def __init__(self, config: JointConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or JointConfig()
        self.volume_norm = VolumeNorm()
        left_out = c.ablation
        self.local = None if left_out == "only-global" else LocalBranch(c.shared)
        self.wide = (
            None if left_out == "only-local" else GlobalBranch(c.shared, c.embedding, c.heads, c.window)
        )
        self.cross = None if left_out in {"no-sharing", "only-local", "only-global"} else CrossUnit()
        self.segmentation = SegmentationBranch(c.segmentation, c.last) if c.segments else None
        self.guidance = _guidance(c)
        self.classification = (
            ClassificationBranch(c.shared, c.classification, len(CLASSES)) if c.classifies else None
        )
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
            The volume is not a cube of a fitting size, or only the segmentation is asked of a network without it.
        """
        if segmentation_only and self.segmentation is None:
            raise ValueError(f"a joint network with the ablation {self.config.ablation} does not segment")
        step = 16 * self.config.window
        size = tuple(volume.shape[2:])
        if len(set(size)) != 1 or size[0] % step:
            raise ValueError(f"the joint network takes cubes whose edge is a multiple of {step}, not {size}")
        brain = BrainWeights(volume, BACKGROUND)
        for_mask, for_class = self._shared(self.volume_norm(volume), brain)
        scales = self.segmentation(for_mask, brain) if self.segmentation is not None else []
        logit = mix_scales(scales) if scales else None
        if segmentation_only or self.classification is None:
            return JointOutput(logit, scales, None, [])
        if self.guidance is not None and logit is not None:
            for_class = self.guidance(torch.sigmoid(logit), for_class, brain)
        logits, features = self.classification(for_class, brain)
        chosen = logits.argmax(1) if classes is None else classes
        return JointOutput(logit, scales, logits, self.classification.localise(features, chosen))

    def _shared(self, x: Tensor, brain: BrainWeights) -> tuple[Tensor, Tensor]:
        """Return the features for segmentation and for classification, each (B, C, D/2, D/2, D/2)."""
        features: list[Tensor] = [
            branch(x, brain) for branch in (self.local, self.wide) if branch is not None
        ]
        if len(features) == 1:
            return features[0], features[0]
        local, wide = features
        if self.cross is None:
            return local, wide
        mixed: tuple[Tensor, Tensor] = self.cross(local, wide)
        return mixed
