"""Two Swin layers over a small cube of tokens: window attention, then window attention on shifted windows.

Reference: Liu et al., ICCV 2021, as the paper's global branch uses it.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)  # kept for trainings, too, whoever asks first
def relative_index(window: int) -> Tensor:
    """Return for each pair of a window's tokens the number of their offset, (window^3, window^3)."""
    line = torch.arange(
        window, device="cpu"
    )  # kept for all networks, whatever device the first one is built on
    place = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).flatten(1)
    offset = place[:, :, None] - place[:, None, :] + window - 1
    width = 2 * window - 1
    return (offset[0] * width + offset[1]) * width + offset[2]


@lru_cache(maxsize=8)
@torch.inference_mode(mode=False)
def shift_mask(tokens: int, window: int, shift: int) -> Tensor:
    """Return 0 or -100 for each window and pair of tokens, (windows, window^3, window^3).

    After the cyclic shift a window may hold tokens from opposite faces of the cube; these must not see each other.
    """
    zone = torch.zeros(tokens, device="cpu")
    zone[tokens - window : tokens - shift] = 1
    zone[tokens - shift :] = 2
    zones = zone[:, None, None] * 9 + zone[None, :, None] * 3 + zone[None, None, :]
    parts = windows_of(zones[None, ..., None], window)[..., 0]
    return torch.where(parts[:, :, None] == parts[:, None, :], 0.0, -100.0)


def windows_of(x: Tensor, window: int) -> Tensor:
    """Cut (B, T, T, T, C) into (B * windows, window^3, C)."""
    b, t, _, _, c = x.shape
    n = t // window
    x = x.reshape(b, n, window, n, window, n, window, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b * n**3, window**3, c)


def from_windows(parts: Tensor, window: int, tokens: int) -> Tensor:
    """Put (B * windows, window^3, C) together to (B, T, T, T, C)."""
    n = tokens // window
    x = parts.reshape(-1, n, n, n, window, window, window, parts.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, tokens, tokens, tokens, parts.shape[-1])


class WindowAttention(nn.Module):
    """Multi-head attention inside windows with a learnt relative position bias."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 3, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)

    def forward(self, parts: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within each of ``parts`` (windows, window^3, C), under a mask (windows of one volume, length, length)."""
        n, length, channels = parts.shape
        q, k, v = self.qkv(parts).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        index = relative_index(self.window).to(parts.device)
        added = self.bias[index].permute(2, 0, 1)[None]
        if mask is not None:
            added = added + mask.to(parts.device).repeat(n // mask.shape[0], 1, 1)[:, None]
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=added.to(q.dtype))
        return self.out(mixed.transpose(1, 2).reshape(n, length, channels))  # type: ignore[no-any-return]


class SwinLayer(nn.Module):
    """Norm, window attention, norm, two-layer perceptron of four times the width, each around a shortcut."""

    def __init__(self, channels: int, heads: int, window: int, *, shifted: bool) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, window)
        self.norm_perceptron = nn.LayerNorm(channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (B, T, T, T, C), T a multiple of the window."""
        tokens = x.shape[1]
        # One window is the whole cube of an 80-cubed crop: nothing to shift.
        shift = self.window // 2 if self.shifted and tokens > self.window else 0
        y = self.norm_attention(x)
        if shift:
            y = torch.roll(y, (-shift, -shift, -shift), (1, 2, 3))
        mask = shift_mask(tokens, self.window, shift) if shift else None
        y = from_windows(self.attention(windows_of(y, self.window), mask), self.window, tokens)
        if shift:
            y = torch.roll(y, (shift, shift, shift), (1, 2, 3))
        x = x + y
        return x + self.perceptron(self.norm_perceptron(x))  # type: ignore[no-any-return]
