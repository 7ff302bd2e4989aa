"""Saliency: the gradient of the class probability (paper 0), and integrated gradients beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pipelines.types import BoolArray, FloatArray

Probability = Callable[[Tensor], Tensor]
"""From z-scored crops (B, 1, 13, 31, 40) to the probability of each class (B, 2)."""
STEPS = 8
"""Points on the way from the baseline, for each member."""
PATH_MEMBERS = 8
"""Members whose paths are integrated: the mean changes little beyond these, and the time grows with each."""
SMOOTHING_VOXELS = (0.5, 1.0, 1.0)
"""Standard deviation along (k, j, i) of the Gaussian over the integrated gradients."""


def gradient_map(members: Sequence[Probability], values: FloatArray, cls: int) -> FloatArray:
    """Return |dP_c/dI| of the ensemble's probability P_c, scaled to a maximum of 1.

    Parameters
    ----------
    members : sequence of callables
    values : float32 array, shape (13, 31, 40)
        A z-scored crop.
    cls : 0 or 1
        The class c: the predicted one, as the paper serves it.

    Returns
    -------
    float32 array, shape (13, 31, 40), in [0, 1]

    References
    ----------
    NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187; Simonyan et al. 2014, arXiv:1312.6034
    """
    total = np.zeros(values.shape, dtype=np.float64)
    crop = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    for member in members:
        total += _gradient(member, crop, cls)[0]
    return _scaled(np.abs(total))


def integrated_gradients(members: Sequence[Probability], values: FloatArray, cls: int) -> FloatArray:
    """Return what raised the probability of a class on the way from an empty crop to this one, smoothed [ours].

    The path runs from zeros, the mean of every crop, in a straight line. Each member integrates it at other points, so that
    their mean sees it finely. What lowers the probability is left out.

    Parameters
    ----------
    members : sequence of callables
        The first eight are asked.
    values : float32 array, shape (13, 31, 40)
        A z-scored crop.
    cls : 0 or 1

    Returns
    -------
    float32 array, shape (13, 31, 40), in [0, 1]

    References
    ----------
    Sundararajan et al., ICML 2017, equation 1
    """
    asked = members[:PATH_MEMBERS]
    crop = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None, None]
    total = np.zeros(values.shape, dtype=np.float64)
    for number, member in enumerate(asked):
        points = (torch.arange(STEPS) + (number + 0.5) / len(asked)) / STEPS
        total += _gradient(member, points.reshape(-1, 1, 1, 1, 1) * crop, cls).mean(axis=0)
    evidence = np.clip(total * values, 0, None)
    return _scaled(gaussian_filter(evidence, SMOOTHING_VOXELS))


def share_inside(saliency: FloatArray, nerve: BoolArray) -> float:
    """Return the share of a map's sum that lies inside the nerve; 0 for an empty map.

    The paper's discussion proposes it as a check of whether the network looks at the nerve.
    """
    total = float(saliency.sum(dtype=np.float64))
    return float(saliency[nerve].sum(dtype=np.float64)) / total if total > 0 else 0.0


def _gradient(
    probability: Probability, crops: Tensor, cls: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return dP_c/dI of each crop, shape (B, 13, 31, 40)."""
    given = crops.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(probability(given)[:, cls].sum(), given)
    return np.asarray(found[:, 0].detach().cpu().numpy(), dtype=np.float64)


def _scaled(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> FloatArray:
    largest = float(values.max())
    return np.asarray(values / largest if largest > 0 else values, dtype=np.float32)
