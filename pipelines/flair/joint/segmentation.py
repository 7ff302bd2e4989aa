"""The segmentation branch: encoders at D/2, D/4 and D/8, decoders back to D, a projection at each scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.joint.blocks import BrainWeights, Chain, ConvNorm

SCALE_WEIGHTS = (0.25, 0.25, 0.5, 1.0)
"""Weights of the projections at D/8, D/4, D/2 and D in the lesion map (equation 5)."""
PRIOR_LOGIT = -4.0
"""Start of the bias at full size: lesions are rare."""


def mix_scales(projections: Sequence[Tensor]) -> Tensor:
    """Return the logit of the lesion map (equation 5) from the four projections, small to large, each (B, 1, n, n, n)."""
    size = projections[-1].shape[2:]
    total = SCALE_WEIGHTS[-1] * projections[-1]
    for weight, small in zip(SCALE_WEIGHTS[:-1], projections[:-1], strict=True):
        total = total + weight * functional.interpolate(small, size=size, mode="nearest")
    return total


class Up(nn.Module):
    """Double the size and halve the channels, join the skip connection, convolve."""

    def __init__(self, inputs: int, skip: int, outputs: int, convolutions: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose3d(inputs, outputs, 2, stride=2)
        layers = [ConvNorm(outputs + skip, outputs)]
        layers += [ConvNorm(outputs, outputs) for _ in range(convolutions - 1)]
        self.convolve = Chain(layers)

    def forward(self, x: Tensor, skip: Tensor | None, brain: BrainWeights) -> Tensor:
        """Take (B, inputs, n, n, n) and a skip of twice that size; return (B, outputs, 2n, 2n, 2n)."""
        y = self.enlarge(x)
        joined = y if skip is None else torch.cat([y, skip], 1)
        return self.convolve(joined, brain)  # type: ignore[no-any-return]


class SegmentationBranch(nn.Module):
    """U-shaped: (B, 32, D/2, D/2, D/2) to the projections at D/8, D/4, D/2 and D."""

    def __init__(self, channels: tuple[int, int, int], last: int) -> None:
        super().__init__()
        a, b, c = channels
        self.encode_half = Chain([ConvNorm(a, a), ConvNorm(a, a)])
        self.encode_quarter = Chain([ConvNorm(a, b, stride=2), ConvNorm(b, b)])
        self.encode_eighth = Chain([ConvNorm(b, c, stride=2), ConvNorm(c, c)])
        self.decode_quarter = Up(c, b, b, 2)
        self.decode_half = Up(b, a, a, 2)
        # [ours] No features of full size exist to skip from; one convolution of 16 channels keeps it affordable.
        self.decode_full = Up(a, 0, last, 1)
        self.project = nn.ModuleList(nn.Conv3d(n, 1, 1) for n in (c, b, a, last))
        nn.init.constant_(self.project[-1].bias, PRIOR_LOGIT)  # type: ignore[arg-type]

    def forward(self, shared: Tensor, brain: BrainWeights) -> list[Tensor]:
        """Return the projections, small to large, each (B, 1, n, n, n)."""
        half = self.encode_half(shared, brain)
        quarter = self.encode_quarter(half, brain)
        eighth = self.encode_eighth(quarter, brain)
        up_quarter = self.decode_quarter(eighth, quarter, brain)
        up_half = self.decode_half(up_quarter, half, brain)
        full = self.decode_full(up_half, None, brain)
        features = (eighth, up_quarter, up_half, full)
        return [project(x) for project, x in zip(self.project, features, strict=True)]
