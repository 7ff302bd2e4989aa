"""The network that tells the structures of a whole brain in one pass.

It reads voxels of 1.2 mm, thinks in voxels of 2.4 mm, and gives each of these eight answers, one for each voxel of 1.2 mm
inside it: the borders are as fine as the image at the price of a coarse network.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.regions.structures import Structure

REGIONS = "regions"
"""Its name on model cards."""
STEP = 16
"""The edges of what it is given are multiples of it."""
WIDTHS = (16, 32, 64, 96)
"""Channels at 2.4, 4.8, 9.6 and 19.2 mm."""
LAST, HIDDEN = 24, 64
"""Channels that the answer is told from, and between them and it."""
SUBVOXELS = 8
CLASSES = len(Structure)


def _block(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        # Of one brain at a time this is an instance norm, without its copies into another memory layout.
        nn.BatchNorm3d(outputs, track_running_stats=False),
        nn.LeakyReLU(0.01, inplace=True),
    ]


def unshuffled(volume: Tensor) -> Tensor:
    """Return the eight voxels of each coarse one as channels: (B, C, K, J, I) to (B, 8 C, K / 2, J / 2, I / 2)."""
    b, c, k, j, i = volume.shape
    parts = volume.reshape(b, c, k // 2, 2, j // 2, 2, i // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return parts.reshape(b, c * SUBVOXELS, k // 2, j // 2, i // 2)


def shuffled(coarse: Tensor) -> Tensor:
    """Undo `unshuffled`."""
    b, c, k, j, i = coarse.shape
    parts = coarse.reshape(b, c // SUBVOXELS, 2, 2, 2, k, j, i).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return parts.reshape(b, c // SUBVOXELS, 2 * k, 2 * j, 2 * i)


class RegionsNetwork(nn.Module):
    """U-Net of four levels on coarse voxels, (B, 1, K, J, I) normalised to logits (B, 9, K, J, I); 1.2 M parameters.

    It takes one brain at a time, B = 1: its norms take their statistics from that brain, so that contrast and scanner matter
    less.

    References
    ----------
    Cicek et al., 3D U-Net, MICCAI 2016; the answer in sub-voxels: Shi et al., Real-time single image and video
    super-resolution using an efficient sub-pixel convolutional neural network, CVPR 2016.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Conv3d(1, first, 4, stride=2, padding=1)
        self.start = nn.Sequential(*_block(first, first), *_block(first, first))
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Sequential(*_block(a, b, 2), *_block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(
            nn.Sequential(
                *_block(a + b, LAST if n == 0 else a), *_block(LAST if n == 0 else a, LAST if n == 0 else a)
            )
            for n, (a, b) in enumerate(pairs)
        )
        self.hidden = nn.Linear(LAST + first + SUBVOXELS, HIDDEN)
        self.answer = nn.Linear(HIDDEN, CLASSES * SUBVOXELS)

    def features(self, volume: Tensor) -> Tensor:
        """Return what the answer is told from, (B, K / 2, J / 2, I / 2, channels)."""
        stem = self.stem(volume)
        levels = [self.start(stem)]
        for down in self.down:
            levels.append(down(levels[-1]))
        deep = levels.pop()
        for up in reversed(self.up):
            wide = functional.interpolate(deep, scale_factor=2, mode="nearest")
            deep = up(torch.cat([wide, levels.pop()], 1))
        return torch.cat([deep, stem, unshuffled(volume).to(deep.dtype)], 1).permute(0, 2, 3, 4, 1)

    def told(self, features: Tensor) -> Tensor:
        """Return logits, (..., 9, 8), of features, (..., channels)."""
        said: Tensor = self.answer(functional.leaky_relu(self.hidden(features), 0.01))
        return said.view(*said.shape[:-1], CLASSES, SUBVOXELS)

    def forward(self, volume: Tensor) -> Tensor:
        """Run on normalised volumes (`pipelines.flair.intensity`); axes (k, j, i), 1.2 mm, edges multiples of `STEP`."""
        said = self.told(self.features(volume)).flatten(-2)
        return shuffled(said.permute(0, 4, 1, 2, 3))
