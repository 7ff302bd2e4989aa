"""Lesion guidance, the classification branch, and the localisation maps of its decision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.joint.blocks import BrainNorm, BrainWeights, Residual


class LesionGuidance(nn.Module):
    """Let the lesion map steer what the classification sees.

    The map, halved by a 3x3x3 convolution of stride 2, opens a gate on the classification's features; both, convolved,
    are joined by a 1x1x1 convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.halve = nn.Conv3d(1, channels, 3, stride=2, padding=1)
        # [ours] Stride 1 for these two, so that the result keeps D/2.
        self.of_map = nn.Conv3d(channels, channels, 3, padding=1)
        self.of_features = nn.Conv3d(channels, channels, 3, padding=1)
        self.join = nn.Conv3d(2 * channels, channels, 1)
        self.norm = BrainNorm(channels)

    def forward(self, probability: Tensor, features: Tensor, brain: BrainWeights) -> Tensor:
        """Take (B, 1, D, D, D) and (B, C, D/2, D/2, D/2); return (B, C, D/2, D/2, D/2)."""
        halved = self.halve(probability)
        # [ours] A sigmoid, as the text says; the softmax of equation 8 over 512,000 voxels would vanish.
        gated = torch.sigmoid(halved) * features
        joined = self.join(torch.cat([self.of_map(halved), self.of_features(gated)], 1))
        return self.norm(joined, brain)  # type: ignore[no-any-return]


class PlainGuidance(nn.Module):
    """Guidance that the paper compares its `LesionGuidance` with: the lesion map joined to the features by one operation.

    [ours] The paper names the operations alone. Here the map is halved by averaging and stands for itself in every channel,
    with no convolution or gate of its own; the result is normalised as that of `LesionGuidance`, so that the classification
    sees the same range.

    Parameters
    ----------
    channels : int
    operation : str
        "product" multiplies the features by the map; "concatenation" adds it as a channel, brought back to ``channels`` by a
        1x1x1 convolution; "addition" adds it to each channel.
    """

    def __init__(self, channels: int, operation: str) -> None:
        super().__init__()
        self.operation = operation
        if operation == "concatenation":
            self.join = nn.Conv3d(channels + 1, channels, 1)
        self.norm = BrainNorm(channels)

    def combine(self, probability: Tensor, features: Tensor) -> Tensor:
        """Return the map and the features joined, before the norm."""
        halved = functional.avg_pool3d(probability, 2).to(features.dtype)
        if self.operation == "product":
            return halved * features
        if self.operation == "addition":
            return halved + features
        return self.join(torch.cat([features, halved], 1))  # type: ignore[no-any-return]

    def forward(self, probability: Tensor, features: Tensor, brain: BrainWeights) -> Tensor:
        """Take (B, 1, D, D, D) and (B, C, D/2, D/2, D/2); return (B, C, D/2, D/2, D/2)."""
        return self.norm(self.combine(probability, features), brain)  # type: ignore[no-any-return]


class ClassificationBranch(nn.Module):
    """Residual blocks at D/2, D/4 and D/8, each pooled to a vector, one linear layer on all of them."""

    def __init__(self, inputs: int, channels: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        a, b, c = channels
        self.at_half = Residual(inputs, a)
        self.at_quarter = Residual(a, b, stride=2)
        self.at_eighth = Residual(b, c, stride=2)
        self.linear = nn.Linear(a + b + c, classes)

    def forward(self, x: Tensor, brain: BrainWeights) -> tuple[Tensor, list[Tensor]]:
        """Return class logits (B, classes) and the features at D/8, D/4, D/2."""
        half = self.at_half(x, brain)
        quarter = self.at_quarter(half, brain)
        eighth = self.at_eighth(quarter, brain)
        pooled = torch.cat([f.float().mean((2, 3, 4)) for f in (half, quarter, eighth)], 1)
        # Both logits are far from 0 and close to each other: half precision would round their difference away.
        with torch.autocast(x.device.type, enabled=False) if x.device.type != "meta" else nullcontext():
            logits = self.linear(pooled)
        return logits, [eighth, quarter, half]

    def localise(self, features: Sequence[Tensor], classes: Tensor) -> list[Tensor]:
        """Return the maps of the linear layer's weights for a class (B,), equation 10; see `weighted_maps`."""
        return weighted_maps(features, self.linear.weight[classes])


def weighted_maps(features: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """Return V = sum over channels of features times weights, equation 10.

    Parameters
    ----------
    features : sequence of Tensor, shapes (B, C, n, n, n)
        At D/8, D/4, D/2.
    weights : Tensor, shape (B, sum of the C)
        In the order in which the features are pooled: that at D/2 first.

    Returns
    -------
    list of Tensor, shapes (B, 1, n, n, n)
        In the order of ``features``.
    """
    widths = [f.shape[1] for f in reversed(features)]
    parts = torch.split(weights, widths, dim=1)
    return [
        (f.permute(0, 2, 3, 4, 1) @ w.to(f.dtype)[:, None, None, :, None]).permute(0, 4, 1, 2, 3)
        for f, w in zip(features, reversed(parts), strict=True)
    ]
