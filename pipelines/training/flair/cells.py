"""Kinds of lesions in the cells of a network's maps, which networks that classify volumes learn beside the class.

[ours] From a few thousand cases the class alone teaches a network nothing about lesions. Where lesions lie, and of which
kind, is what tells the classes apart, and a generated case says so of each cell. Cases whose lesions have no known kind, all
real ones, take no part. Who learns it, and from which maps, is said in `mask_tasks` and `class_tasks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipelines.training.data_sets.sample import UNKNOWN_KIND
from pipelines.training.synthetic.priors import KINDS

CHANNELS = 1 + len(KINDS)
"""Of the cells, and the maps that learn them: any lesion, then each of `KINDS`."""
KIND_BIAS = -3.0
"""Start of the bias of the maps that learn kinds: few cells have one."""
PRESENT_WEIGHT = 5.0
"""Weight of a cell that has a kind over one that has not: few have. So a logit of 0 is a probability of 1 in 6."""
RARE = {"callosal": 2.0, "juxtacortical": 2.0, "extensive": 2.0} | dict.fromkeys(
    ("pons", "midbrain", "medulla", "cerebellum", "grey", "tract"), 3.0
)
"""Factor on that weight in cells of the rarer kinds, which are in 1 of 1000 cells, and in 1 of 10,000."""
_PRESENT = PRESENT_WEIGHT * torch.tensor([1.0, *(RARE.get(kind, 1.0) for kind in KINDS)]).view(-1, 1, 1, 1)


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


def kinds_loss(logits: Sequence[Tensor], kinds: Tensor) -> Tensor:
    """Return the cross-entropy of what maps say of kinds in cells: summed over kinds and maps, the mean over cells and cases.

    0 where no case of the batch has lesions of known kinds alone.

    Parameters
    ----------
    logits : sequence of Tensor, each of shape (B, CHANNELS, n, n, n)
    kinds : uint8 Tensor, shape (B, D, D, D)
        See `cells_of`.
    """
    known = kinds_known(kinds).float()
    terms = []
    for said in logits:
        error = functional.binary_cross_entropy_with_logits(
            said.float(),
            cells_of(kinds, said.shape[2:]),
            pos_weight=_PRESENT.to(said.device),
            reduction="none",
        )
        terms.append((error.flatten(2).mean(2).sum(1) * known).sum() / known.sum().clamp_min(1))
    return torch.stack(terms).sum()
