"""The last layer of the joint network's classification, fitted at once to what the layers before it have learnt.

[ours] Whole volumes are slow to learn from on a CPU: a few hundred steps teach the network no class. Its pooled features are
linear in its maps, and so is what the training's own layers read from these: how many cells have lesions of which kind. On
that a logistic regression is fitted to a few hundred volumes, each seen once. It tells the classes as far as the kinds are read
right: from the true ones very well, from those read after an hour of crops not yet; see the model card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch import Tensor, nn

from pipelines.flair.joint.network import JointNetwork
from pipelines.training.sample import Sample
from pipelines.types import FloatArray

CASES = 400
"""Volumes that it is fitted on."""
LEAST_CASES = 20
"""Of each class; with fewer the layer is left as it is."""
_FOLDS = 5
_STRENGTHS = np.logspace(-4, 1, 11)


def pooled_features(network: JointNetwork, cube: FloatArray, device: str) -> Tensor:
    """Return what the last layer sees of a normalised cube, float32, shape (448,) on the CPU."""
    seen: list[Tensor] = []
    assert network.classification is not None
    hook = network.classification.linear.register_forward_pre_hook(lambda *given: seen.append(given[1][0]))
    volume = torch.from_numpy(np.ascontiguousarray(cube))[None, None].to(device)
    try:
        # As in training; on a CPU in half the time.
        with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16):
            network(volume.contiguous(memory_format=torch.channels_last_3d))
    finally:
        hook.remove()
    return seen[0][0].float().cpu()


def reading(auxiliary: nn.ModuleList, width: int) -> Tensor:
    """Return the layers that read kinds of lesions from the pooled features as one matrix, (rows, width).

    Parameters
    ----------
    auxiliary : ModuleList of Conv3d 1x1x1 without bias
        For the features at D/4 and D/8, which stand last among the pooled ones.
    width : int
        Of the pooled features.
    """
    kernels = [layer.weight.detach().flatten(1).cpu() for layer in auxiliary]  # type: ignore[operator]
    matrix = torch.zeros(sum(len(kernel) for kernel in kernels), width)
    row, column = 0, width - sum(kernel.shape[1] for kernel in kernels)
    for kernel in kernels:
        matrix[row : row + len(kernel), column : column + kernel.shape[1]] = kernel
        row, column = row + kernel.shape[0], column + kernel.shape[1]
    return matrix


def regression(features: Tensor, targets: list[int], read: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (2, width) and bias (2,) of a linear layer: a logistic regression on what is read from features.

    Parameters
    ----------
    features : Tensor, shape (n, width)
    targets : list of int
        0 or 1 of each.
    read : Tensor, shape (rows, width)
    """
    figures = (features @ read.T).double().numpy()
    mean, spread = figures.mean(0), figures.std(0) + 1e-9
    fitted = LogisticRegressionCV(
        Cs=_STRENGTHS,
        cv=_FOLDS,
        scoring="neg_log_loss",
        class_weight="balanced",
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
        max_iter=1000,
    ).fit((figures - mean) / spread, targets)
    slope = fitted.coef_[0] / spread
    offset = float(fitted.intercept_[0]) - float(slope @ mean)
    towards = torch.from_numpy(slope).float() @ read
    return torch.stack([-towards, towards]) / 2, torch.tensor([-offset, offset]) / 2


def fit_last_layer(
    network: JointNetwork,
    auxiliary: nn.ModuleList,
    samples: Iterable[Sample],
    *,
    device: str,
    report: Callable[[str], None],
) -> bool:
    """Fit the linear layer of the classification to cases with a class, `CASES` of them at most.

    Returns
    -------
    bool
        Whether there were enough of both classes; otherwise nothing is changed.
    """
    assert network.classification is not None
    features, targets = [], []
    for sample in samples:
        if sample.target >= 0:
            features.append(pooled_features(network, sample.image, device))
            targets.append(sample.target)
        if len(targets) == CASES:
            break
    if min(targets.count(0), targets.count(1)) < LEAST_CASES:
        report("the last layer is left as it is: too few cases have a class")
        return False
    linear = network.classification.linear
    weight, bias = regression(torch.stack(features), targets, reading(auxiliary, linear.in_features))
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    report(f"the last layer is fitted to {len(targets)} cases")
    return True
