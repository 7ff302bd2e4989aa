"""Losses of the joint network.

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
LESION_WEIGHT = 3.0
"""[ours] Weight of a lesion's voxel over any other in it."""
SMOOTH = 1.0


def dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Return 1 - (2 |P T| + 1) / (|P| + |T| + 1) over the whole batch; both (B, 1, D, D, D)."""
    both = (probability * truth).sum()
    return 1 - (2 * both + SMOOTH) / (probability.sum() + truth.sum() + SMOOTH)


def segmentation_loss(logit: Tensor, truth: Tensor) -> Tensor:
    """Return Dice plus the weighted voxel cross-entropy, in float32."""
    logit = logit.float()
    voxel = functional.binary_cross_entropy_with_logits(
        logit, truth, pos_weight=torch.tensor(LESION_WEIGHT, device=logit.device)
    )
    return DICE_WEIGHT * dice_loss(torch.sigmoid(logit), truth) + VOXEL_WEIGHT * voxel


def classification_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy over cases whose class is known (target >= 0); 0 without one.

    The paper's binary cross-entropy, over two outputs.
    """
    known = target >= 0
    if not bool(known.any()):
        return logits.sum() * 0
    return functional.cross_entropy(logits[known].float(), target[known])


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
