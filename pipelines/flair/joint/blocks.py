"""Convolutions with a normalisation over the brain alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

OUTSIDE_WEIGHT = 0.02
"""Weight in the statistics of a voxel outside the brain; more than nothing, for crops that hold no brain."""
PIECE = 2**19
"""Values that are normed at a time in inference: 2 MB."""


class BrainWeights:
    """The weight of each voxel in the statistics, at every scale of the network.

    Parameters
    ----------
    volume : Tensor, shape (B, 1, D, D, D)
        Normalised volume, whose background is its lowest possible value.
    background : float
    """

    def __init__(self, volume: Tensor, background: float) -> None:
        self._finest = (volume.detach() > background).float()
        self._at: dict[int, Tensor] = {}

    def at(self, edge: int) -> Tensor:
        """Return weights of sum 1, shape (B, 1, edge^3)."""
        if edge not in self._at:
            share = functional.adaptive_avg_pool3d(self._finest, edge).flatten(2)
            weights = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * share
            self._at[edge] = weights / weights.sum(2, keepdim=True)
        return self._at[edge]


class BrainNorm(nn.Module):
    """Instance norm whose mean and variance are those of the brain; (B, C, D, D, D) in and out.

    [ours] The paper names no normalisation. An ordinary instance norm would see a crop of brain and a whole cube, three
    quarters of it air, differently. (A layer norm over channels sees them alike, but in a chain of ReLUs without shortcuts
    the features collapse onto their common mean.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, brain: BrainWeights) -> Tensor:
        """Return float32 whatever the precision of ``x`` in training, and the precision of ``x`` in inference."""
        kind = x.device.type
        # Statistics in half precision lose small lesions; the meta device, where shapes are planned, has no autocast.
        with torch.autocast(kind, enabled=False) if kind != "meta" else nullcontext():
            last = x.permute(0, 2, 3, 4, 1)
            values = last.flatten(1, 3)
            weights = brain.at(x.shape[-1])
            if torch.is_inference_mode_enabled():
                normed = self._piecewise(values, weights)
            else:
                values = values.float()
                mean = weights @ values
                scale, shift = self._line(mean, weights @ (values * values))
                normed = torch.addcmul(shift, values, scale)
        return normed.reshape(last.shape).permute(0, 4, 1, 2, 3)

    def _line(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Return the factor and the offset, (B, 1, C), that the mean of values and of their squares ask for."""
        variance = (square - mean * mean).clamp_min(0)
        scale = self.weight * torch.rsqrt(variance + 1e-5)
        return scale, self.bias - mean * scale

    def _piecewise(self, values: Tensor, weights: Tensor) -> Tensor:
        """Return normed values, (B, n, C), by pieces that fit a processor's cache: no copy of all in float32 is made."""
        size = max(1, PIECE // values.shape[-1])
        parts = list(zip(torch.split(values, size, 1), torch.split(weights, size, 2), strict=True))
        mean = values.new_zeros(len(values), 1, values.shape[-1], dtype=torch.float32)
        square = mean.clone()
        for part, weight in parts:
            wide = part.float()
            mean += weight @ wide
            square += weight @ wide.square()
        scale, shift = self._line(mean, square)
        normed = torch.empty_like(values)
        for (part, _), out in zip(parts, torch.split(normed, size, 1), strict=True):
            out.copy_(torch.addcmul(shift, part.float(), scale))
        return normed


class ConvNorm(nn.Module):
    """A 3x3x3 convolution, norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm = BrainNorm(outputs)

    def forward(self, x: Tensor, brain: BrainWeights) -> Tensor:
        """Take (B, inputs, D, D, D); return (B, outputs, D / stride, ...)."""
        return functional.relu(self.norm(self.conv(x), brain), inplace=True)


class Chain(nn.Module):
    """Several `ConvNorm` one after another."""

    def __init__(self, layers: Sequence[ConvNorm]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, brain: BrainWeights) -> Tensor:
        """Run the layers in turn."""
        for layer in self.layers:
            x = layer(x, brain)
        return x


class Residual(nn.Module):
    """Two 3x3x3 convolutions around a shortcut; the shortcut is a 1x1x1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, stride)
        self.second = nn.Conv3d(outputs, outputs, 3, padding=1)
        self.norm = BrainNorm(outputs)
        self.shortcut: nn.Module = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Conv3d(inputs, outputs, 1, stride=stride)
        )
        self.active = nn.ReLU()

    def forward(self, x: Tensor, brain: BrainWeights) -> Tensor:
        """Take (B, inputs, D, D, D); return (B, outputs, D / stride, ...)."""
        changed = self.norm(self.second(self.first(x, brain)), brain)
        return self.active(changed + self.shortcut(x))  # type: ignore[no-any-return]
