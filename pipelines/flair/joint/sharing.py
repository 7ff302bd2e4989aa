"""The information sharing module: a local and a global branch, mixed for each of the two tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.joint.blocks import BrainNorm, BrainWeights, Chain, ConvNorm
from pipelines.flair.joint.swin import SwinLayer


class VolumeNorm(nn.Module):
    """A learnt gain and offset for the whole volume.

    [ours] The paper's layer norm over the single channel would be zero everywhere, and over the volume 8 M parameters; the
    volume comes in normalised (`pipelines.flair.intensity`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with gain and offset."""
        return x * self.gain + self.offset


class LocalBranch(Chain):
    """Three 3x3x3 convolutions, the first of stride 2: (B, 1, D, D, D) to (B, C, D/2, D/2, D/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            [ConvNorm(1, channels, stride=2), ConvNorm(channels, channels), ConvNorm(channels, channels)]
        )


class GlobalBranch(nn.Module):
    """Patches of 8, pooled by 2, through two Swin layers: (B, 1, D, D, D) to (B, C, D/2, D/2, D/2)."""

    def __init__(self, channels: int, embedding: int, heads: int, window: int) -> None:
        super().__init__()
        self.patches = nn.Conv3d(1, embedding, 8, stride=8)
        self.norm = nn.LayerNorm(embedding)
        # [ours] Embedding and heads; the paper gives the window alone.
        self.layers = nn.Sequential(
            SwinLayer(embedding, heads, window, shifted=False),
            SwinLayer(embedding, heads, window, shifted=True),
        )
        self.project = nn.Conv3d(embedding, channels, 1)
        self.out_norm = BrainNorm(channels)

    def forward(self, x: Tensor, brain: BrainWeights) -> Tensor:
        """Take the volume; return features at half its size."""
        tokens = functional.avg_pool3d(self.patches(x), 2).permute(0, 2, 3, 4, 1)
        y = self.layers(self.norm(tokens)).permute(0, 4, 1, 2, 3)
        # Projecting before enlarging is the same map, at a 512th of the work.
        y = self.out_norm(self.project(y), brain)
        half = [n // 2 for n in x.shape[2:]]
        return functional.interpolate(y, size=half, mode="trilinear", align_corners=False)


class CrossUnit(nn.Module):
    """A learnable 2x2 mix of two feature volumes (cross-stitch) into one for each task."""

    def __init__(self) -> None:
        super().__init__()
        # [ours] Start: each task mostly its own branch, segmentation the local one, classification the global one.
        self.mix = nn.Parameter(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))

    def forward(self, local: Tensor, wide: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features for segmentation and for classification."""
        m = self.mix.to(local.dtype)
        return m[0, 0] * local + m[0, 1] * wide, m[1, 0] * local + m[1, 1] * wide
