"""Losses of the joint network and of those that it is compared with.

Reference: Front Neurosci 2024, 10.3389/fnins.2024.1351387: 1 Dice + 0.8 cross-entropy of the class + 1 cross-task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

DICE_WEIGHT = 1.0
CLASS_WEIGHT = 0.8
CROSS_WEIGHT = 1.0
VOXEL_WEIGHT = 2.0
"""[ours] Voxel-wise cross-entropy beside Dice: it keeps volumes without lesions quiet, where Dice says nothing."""
CROSS_SCALE_WEIGHTS = (0.25, 0.25, 0.5)
"""At D/8, D/4, D/2."""
SMOOTH = 1.0
HEAD_WEIGHTS = (4 / 7, 2 / 7, 1 / 7)
"""Of the full-size head and the deep-supervision heads below it: halved from one to the next (Isensee 2021)."""


def dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - (2 |P T| + 1) / (|P| + |T| + 1) over the whole batch; both (B, 1, D, D, D)."""
    both = (probability * truth).sum()
    return 1 - (2 * both + SMOOTH) / (probability.sum() + truth.sum() + SMOOTH)


def segmentation_loss(logit: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return Dice plus the weighted voxel cross-entropy, in float32.

    Parameters
    ----------
    logit, truth : Tensor, shape (B, 1, D, D, D)
    weight : float32 Tensor, shape (B, 1, D, D, D), optional
        0 where the truth is not known: those voxels have no part in either term.
    """
    logit = logit.float()
    weight = torch.ones_like(truth) if weight is None else weight
    voxel = functional.binary_cross_entropy_with_logits(
        logit, truth, weight, reduction="sum"
    ) / weight.sum().clamp_min(1)
    dice = dice_loss(torch.sigmoid(logit) * weight, truth * weight)
    return DICE_WEIGHT * dice + VOXEL_WEIGHT * voxel


def deep_supervision_loss(heads: Sequence[Tensor], truth: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the weighted sum of the `segmentation_loss` of each head, the full-size one first.

    [ours] Every head is compared at full size: a truth shrunk to an eighth would lose the small lesions. Heads beyond those of
    `HEAD_WEIGHTS` are left out; the weights of fewer are scaled to add up to 1.
    """
    shares = HEAD_WEIGHTS[: len(heads)]
    terms = [
        share * segmentation_loss(head, truth, weight) for share, head in zip(shares, heads, strict=False)
    ]
    return torch.stack(terms).sum() / sum(shares)


def classification_loss(logits: Tensor, target: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy over cases whose class is known (target >= 0); 0 without one.

    The binary cross-entropy of paper 3, over two outputs; with weights that of paper 1.

    Parameters
    ----------
    logits : Tensor, shape (B, 2)
    target : int64 Tensor, shape (B,)
    class_weight : float32 Tensor, shape (2,), optional
    """
    known = target >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    return functional.cross_entropy(logits[known].float(), target[known], class_weight)


def unit_range(x: Tensor) -> Tensor:
    """Scale each volume of a batch to [0, 1]; a constant one becomes 0."""
    flat = x.float().flatten(1)
    low = flat.min(1).values
    span = (flat.max(1).values - low).clamp_min(1e-6)
    shape = (-1, *([1] * (x.dim() - 1)))
    return (x.float() - low.view(shape)) / span.view(shape)


def cross_task_loss(localisation: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    """Return the weighted mean squared difference of localisation and segmentation maps at D/8, D/4 and D/2.

    Parameters
    ----------
    localisation, scales : sequences of Tensor, shapes (B, 1, n, n, n)
        Both normalised to [0, 1] here; further scales are ignored.
    """
    pairs = zip(CROSS_SCALE_WEIGHTS, localisation, scales, strict=False)
    terms = [w * functional.mse_loss(unit_range(v), unit_range(u)) for w, v, u in pairs]
    return torch.stack(terms).sum()
