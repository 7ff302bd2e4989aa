"""Which kinds of lesions lie in which cells of a network's maps: what the joint network's classification also learns.

[ours] From a few thousand cases the class alone teaches a network nothing about lesions. Where lesions lie, and of which
kind, is what tells the classes apart, and a generated case says so of each cell. The first `CHANNELS` maps of the blocks at
D/4 and D/8 learn it, as the logit that enters their ReLU: a cell that shows nothing of a kind then adds exactly 0 to it, and
the mean over all cells, which the classification pools, tells how many there are of each. The network stays the paper's. It is
learnt from crops alone: whole volumes are learnt from as published. Cases whose lesions have no known kind, all real ones, take
no part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.training.priors import KINDS
from pipelines.training.sample import UNKNOWN_KIND

CHANNELS = 1 + len(KINDS)
"""Of the cells, and the maps that learn them: any lesion, then each of `KINDS`."""


def cells_of(kinds: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return which cells hold a voxel of which kind.

    Parameters
    ----------
    kinds : uint8 Tensor, shape (B, D, D, D)
        0 without a lesion, 1 + the index in `KINDS`, or `UNKNOWN_KIND`.
    size : tuple of int
        (n, n, n).

    Returns
    -------
    float32 Tensor, shape (B, CHANNELS, n, n, n)
        0 or 1.
    """
    cells = torch.zeros(len(kinds), CHANNELS, *size, device=kinds.device)
    case, *place = kinds.nonzero(as_tuple=True)
    kind = kinds[(case, *place)].long()
    k, j, i = (at * n // edge for at, n, edge in zip(place, size, kinds.shape[1:], strict=True))
    cells[case, 0, k, j, i] = 1
    named = kind != UNKNOWN_KIND
    cells[case[named], kind[named], k[named], j[named], i[named]] = 1
    return cells


def kinds_known(kinds: Tensor) -> Tensor:
    """Return for each case of a batch whether the kinds of all its lesions are known, bool, shape (B,)."""
    return ~(kinds == UNKNOWN_KIND).flatten(1).any(1)
