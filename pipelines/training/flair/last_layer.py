"""The last layer of the joint network's classification, fitted at once to what the layers before it have learnt.

[ours] Whole volumes are slow to learn from on a CPU: a few hundred steps teach the network no class. But some of its pooled
features say how many cells have lesions of which kind (see `cells`). On these a logistic regression is fitted to a few hundred
volumes, each seen once. It tells the classes as far as the kinds are read right; see the model card.

The classes are told by the difference of the layer's two rows. What both rows have in common changes no probability, but it
does change the localisation maps: it is fitted to the lesion maps, as the cross-task loss asks, on a few of these volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from torch import Tensor

from pipelines.flair.joint.network import JointConfig, JointNetwork
from pipelines.training.data_sets.sample import Sample
from pipelines.training.flair.cells import CHANNELS
from pipelines.training.flair.losses import unit_range
from pipelines.types import FloatArray

CASES = 400
"""Volumes that it is fitted on."""
LEAST_CASES = 20
"""Of each class; with fewer the layer is left as it is."""
MAPPED = 12
"""Of them, those that the localisation maps are fitted on."""
COMMON = 4.0
"""Ratio of how much their common part varies to how much that varies which tells the classes apart."""
LEAST_SPREAD = 0.01
"""Of the feature that varies most: one that varies less is not scaled up further, lest a case with more of it than any of the
fit be told by it alone."""
_FOLDS = 5
_STRENGTHS = np.logspace(-4, 1, 11)
_RIDGE = 1e-4
"""Of the mean variance of the features."""


@dataclass(frozen=True)
class Seen:
    """Features and maps that the network makes of a volume.

    Parameters
    ----------
    pooled : float32 Tensor, shape (448,)
        What the last layer sees.
    maps : list of Tensor, shapes (1, C, n, n, n), n = D/8, D/4, D/2
        What that is pooled from.
    scales : list of Tensor, shapes (1, 1, n, n, n), n = D/8, D/4, D/2, D
        The projections of the lesion map; empty from a network that does not segment.
    """

    pooled: Tensor
    maps: list[Tensor]
    scales: list[Tensor]


def see(network: JointNetwork, cube: FloatArray, device: str) -> Seen:
    """Return what a network in eval mode makes of a normalised cube (k, j, i), on ``device``."""
    kept: list[list[Tensor]] = []
    assert network.classification is not None
    hook = network.classification.register_forward_hook(lambda *given: kept.append(given[2][1]))
    volume = torch.from_numpy(np.ascontiguousarray(cube))[None, None].to(device)
    try:
        # As in training; on a CPU in half the time.
        with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16):
            output = network(volume.contiguous(memory_format=torch.channels_last_3d))
    finally:
        hook.remove()
    maps = kept[0]
    pooled = torch.cat([x.float().mean((0, 2, 3, 4)) for x in reversed(maps)])
    return Seen(pooled.cpu(), [x.bfloat16() for x in maps], output.scales)


def kind_columns(config: JointConfig) -> list[int]:
    """Return which of the pooled features say kinds of lesions: the first of those at D/8.

    Those at D/4 say them as well, but only help the layer behind: in cells of half the edge a kind is harder to tell, and what
    is told wrongly adds up.
    """
    first = sum(config.classification[:2])
    return list(range(first, first + CHANNELS))


def regression(features: Tensor, targets: list[int], read: list[int]) -> tuple[Tensor, Tensor]:
    """Return weight (2, width) and bias (2,) of a linear layer: a logistic regression on some of the features.

    Parameters
    ----------
    features : Tensor, shape (n, width)
    targets : list of int
        0 or 1 of each.
    read : list of int
        Which of the features it is fitted on; the others have no part.
    """
    figures = features[:, read].double().numpy()
    mean, spread = figures.mean(0), figures.std(0)
    spread = np.maximum(spread, LEAST_SPREAD * spread.max() + 1e-9)
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
    towards = torch.zeros(features.shape[1])
    towards[read] = torch.from_numpy(slope).float()
    return torch.stack([-towards, towards]) / 2, torch.tensor([-offset, offset]) / 2


def common_row(weight: Tensor, volumes: Sequence[Seen]) -> Tensor:
    """Return what to add to both rows of a linear layer so that the maps of both classes show the lesions.

    At each scale by itself the least squares of the lesion map, in [0, 1] as the cross-task loss has it, on the features, each
    volume about its own mean; as long as makes the map vary `COMMON` times as much as what tells the classes apart.

    Parameters
    ----------
    weight : Tensor, shape (2, width)
        Whose rows tell the classes apart.
    volumes : sequence of Seen
        With lesion maps.

    Returns
    -------
    Tensor, shape (width,)
    """
    apart = (weight[1] - weight[0]).double() / 2
    rows: list[Tensor] = []
    end = len(apart)
    for scale in range(len(volumes[0].maps)):
        width = volumes[0].maps[scale].shape[1]
        spread = torch.zeros(width, width, dtype=torch.float64)
        towards = torch.zeros(width, dtype=torch.float64)
        for volume in volumes:
            features = volume.maps[scale].flatten(2)[0].float()
            features = features - features.mean(1, keepdim=True)
            lesions = unit_range(volume.scales[scale]).flatten()
            spread += (features @ features.T).double().cpu() / len(lesions)
            towards += (features @ (lesions - lesions.mean())).double().cpu() / len(lesions)
        ridge = _RIDGE * spread.trace() / width * torch.eye(width, dtype=torch.float64)
        row = torch.linalg.solve(spread + ridge, towards)
        # The features are pooled in the other order: those at D/8 stand last.
        own = apart[end - width : end]
        end -= width
        varies = (own @ spread @ own).sqrt(), (row @ spread @ row).sqrt()
        rows.insert(0, row * COMMON * varies[0] / varies[1] if varies[0] > 0 else row)
    return torch.cat(rows).float()


def fit_last_layer(
    network: JointNetwork,
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
    mapped: list[Seen] = []
    for sample in samples:
        if sample.target >= 0:
            seen = see(network, sample.image, device)
            features.append(seen.pooled)
            targets.append(sample.target)
            if len(mapped) < MAPPED and network.config.cross_loss:
                mapped.append(seen)
        if len(targets) == CASES:
            break
    if min(targets.count(0), targets.count(1)) < LEAST_CASES:
        report("the last layer is left as it is: too few cases have a class")
        return False
    linear = network.classification.linear
    weight, bias = regression(torch.stack(features), targets, kind_columns(network.config))
    if mapped:
        weight = weight + common_row(weight, mapped)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    report(f"the last layer is fitted to {len(targets)} cases")
    return True
