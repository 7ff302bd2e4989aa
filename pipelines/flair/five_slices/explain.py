"""Explanation of the ResNet18's choice: Grad-CAM, one coarse map for all slices, and integrated gradients for each slice.

Grad-CAM is the paper's. Its last maps are 4x4, a cell for each 48 mm, and all five slices are fused by the first
convolution, so that it cannot say which slice it speaks of. [ours] Integrated gradients stand beside it: they cost a few
batches where occluding patch by patch costs hundreds of images, and their sum over all pixels is the change of the score
(completeness), which can be checked. On lesions painted into noise they beat occlusion by patches of 12 to 24 mm, both in
deletion and in hitting a lesion with their maximum.

References
----------
Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017, eq. 1 and 2.
Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, eq. 1 and 3.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from pipelines.flair.five_slices.slices import SIDE, brain_of
from pipelines.types import FloatArray

STEPS = 16
"""Points on the way from baseline to image: with 16 the sum is within 3 % of the score's change, with 32 within 1 %."""
BATCH = 16
SMOOTHING_PIXELS = 2.0
"""SD of the Gaussian over the attributions, 3 mm: single pixels carry noise of the strided convolutions."""
BASELINE = 0.0
"""What stands for "nothing here": the brain's mode.

[ours] In place of black: a brain without signal is as far from tissue as a lesion is, on the other side, and would be explained
as a finding. Pixels outside the brain stay as they are.
"""


def grad_cam(network: nn.Module, images: FloatArray, class_index: int) -> FloatArray:
    """Return the Grad-CAM of the last convolution, before it is enlarged.

    ``relu(sum_k w_k A_k)`` with ``w_k`` the mean over the map of the gradient of the class's logit with respect to ``A_k``,
    divided by its maximum.

    Parameters
    ----------
    network : ResNet
        From `five_slice_network`, in evaluation mode.
    images : float32 array, shape (5, 128, 128)
        Normalised slices.
    class_index : int
        0 MS, 1 NMOSD.

    Returns
    -------
    float32 array, shape (4, 4)
        In [0, 1]; all 0 where nothing speaks for the class.
    """
    kept: list[Tensor] = []
    layer = network.get_submodule("layer4")
    hook = layer.register_forward_hook(lambda module, given, output: kept.append(output))
    try:
        with torch.enable_grad():
            logits = network(_batch(network, images).requires_grad_())
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logits[0, class_index], kept[0])
    cam = functional.relu((gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1))[0]
    return _up_to_one(cam.detach().float().cpu().numpy())


def enlarged(cam: FloatArray) -> FloatArray:
    """Return a Grad-CAM of any size on the pixels of a slice, (128, 128), bilinearly interpolated."""
    large = functional.interpolate(
        torch.from_numpy(cam)[None, None], size=(SIDE, SIDE), mode="bilinear", align_corners=False
    )
    return np.asarray(large[0, 0].numpy())


def attributions(network: nn.Module, images: FloatArray, class_index: int, steps: int = STEPS) -> FloatArray:
    """Return integrated gradients of the class's logit minus the other's, by the midpoint rule.

    Parameters
    ----------
    network : ResNet
        In evaluation mode.
    images : float32 array, shape (5, 128, 128)
    class_index : int
    steps : int

    Returns
    -------
    float32 array, shape (5, 128, 128)
        Signed; exactly 0 outside the brain; the sum is about ``score(images) - score(baseline)``.
    """
    image = _batch(network, images)
    brain = torch.from_numpy(brain_of(images))[None].to(image.device)
    baseline = torch.where(brain, BASELINE, image)
    sign = torch.tensor([-1.0, 1.0] if class_index == 1 else [1.0, -1.0], device=image.device)
    total = torch.zeros_like(image)
    points = (torch.arange(steps, device=image.device) + 0.5) / steps
    for shares in torch.split(points, BATCH):
        between = (baseline + shares[:, None, None, None] * (image - baseline)).requires_grad_()
        with torch.enable_grad():
            score = (network(between) * sign).sum()
        (gradient,) = torch.autograd.grad(score, between)
        total += gradient.sum(dim=0, keepdim=True)
    result = ((image - baseline) * total / steps)[0]
    return np.asarray(result.float().cpu().numpy())


def slice_maps(network: nn.Module, images: FloatArray, class_index: int) -> FloatArray:
    """Return what speaks for a class in each slice: smoothed attributions, the positive part, divided by the maximum.

    Returns
    -------
    float32 array, shape (5, 128, 128)
        In [0, 1], on one scale for all five slices, so that a slice that does not matter stays dark; 0 outside the brain.
    """
    raw = attributions(network, images, class_index)
    smooth = ndimage.gaussian_filter(raw, (0.0, SMOOTHING_PIXELS, SMOOTHING_PIXELS), mode="constant")
    return _up_to_one(np.where(brain_of(images), np.maximum(smooth, 0.0), 0.0).astype(np.float32))


def _batch(network: nn.Module, images: FloatArray) -> Tensor:
    """Return slices as a batch of one on the network's device, (1, 5, 128, 128)."""
    device = next(network.parameters()).device
    return torch.from_numpy(np.array(images, dtype=np.float32))[None].to(device)


def _up_to_one(values: FloatArray) -> FloatArray:
    """Return non-negative values divided by their maximum; all 0 stays so."""
    top = float(values.max())
    return np.asarray(values / np.float32(top) if top > 0 else values, dtype=np.float32)
