"""The maps that the FLAIR pipeline shows over the native slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional

from pipelines.flair.five_slices.model import (
    GRAD_CAM_METHOD,
    GRAD_CAM_MM,
    SLICE_MAP_METHOD,
    SLICE_MAP_MM,
    FiveSliceAnswer,
    map_to_native,
)
from pipelines.flair.five_slices.model import key_slices as planes_shown
from pipelines.flair.five_slices.slices import Slices
from pipelines.flair.lesions import key_slices
from pipelines.flair.preprocess import Brain
from pipelines.types import BoolArray, FloatArray, Heatmap

LOCALISATION_WEIGHTS = (0.25, 0.25, 0.5)
"""Of the maps at 20, 40 and 80 cubed: those that the network was trained with."""
LOCALISATION_MM = 2.4
"""Between values of the finest of them."""
LOCALISATION_METHOD = (
    "Class features weighted by the classifier's weights, at three scales (Front Neurosci 2024, "
    "10.3389/fnins.2024.1351387)."
)
PROBABILITY_METHOD = (
    "Probability of lesion at each voxel, mean over the predictions, as the mask is cut from it."
)
"""Shown where no class of disease is told: none has anything to explain there."""


def localisation(maps: Sequence[Tensor], mask: BoolArray) -> FloatArray:
    """Return the localisation maps of the joint network as one map of the cube.

    Each scale is enlarged linearly and stretched to [0, 1] in the brain; their weighted sum is stretched again.

    Parameters
    ----------
    maps : sequence of Tensor, shapes (1, 1, n, n, n)
        Coarsest first, as `JointOutput.localisation` has them.
    mask : bool array, shape (k, j, i)
        Brain, on the cube.

    Returns
    -------
    float32 array, shape (k, j, i)
        In [0, 1] in the brain, 0 outside.
    """
    heat = np.zeros(mask.shape, dtype=np.float32)
    for weight, small in zip(LOCALISATION_WEIGHTS, maps, strict=True):
        large = functional.interpolate(small.float(), size=mask.shape, mode="trilinear", align_corners=False)
        heat += np.float32(weight) * unit_range(large[0, 0].cpu().numpy(), mask)
    return unit_range(heat, mask)


def unit_range(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Return values stretched to [0, 1] inside the mask and 0 outside; a flat map becomes 0."""
    inside = values[mask]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    if high <= low:
        return np.zeros_like(values)
    return np.asarray(np.where(mask, (values - low) / (high - low), 0.0), dtype=np.float32)


def probability_heatmap(
    probability: FloatArray, lesions: BoolArray, model: str, spacing_k_mm: float
) -> Heatmap:
    """Return the lesion probability itself as a map; both arrays are on the native grid, (k, j, i)."""
    return Heatmap(
        name="probability map",
        method=PROBABILITY_METHOD,
        class_name="lesion",
        probability=None,
        values=probability,
        key_slices_k=key_slices(lesions, probability, spacing_k_mm),
        model=model,
    )


def joint_heatmap(
    heat: FloatArray, lesions: BoolArray, said: tuple[str, float, str], spacing_k_mm: float
) -> Heatmap:
    """Return the joint network's localisation map on the native grid; ``said`` is class, probability and model."""
    class_name, probability, model = said
    return Heatmap(
        name="localisation map",
        method=LOCALISATION_METHOD,
        class_name=class_name,
        probability=probability,
        values=heat,
        key_slices_k=key_slices(lesions, heat, spacing_k_mm),
        model=model,
        resolution_mm=LOCALISATION_MM,
    )


def five_slice_heatmaps(
    answer: FiveSliceAnswer, slices: Slices, brain: Brain, probability: float, model: str
) -> tuple[Heatmap, Heatmap]:
    """Return Grad-CAM and the map of each slice, on the native slices nearest to the five planes."""
    planes = planes_shown(slices, brain)
    shown = []
    for name, method, maps, resolution_mm in (
        ("Grad-CAM", GRAD_CAM_METHOD, answer.grad_cam, GRAD_CAM_MM),
        ("slice map", SLICE_MAP_METHOD, answer.per_slice, SLICE_MAP_MM),
    ):
        values = map_to_native(maps, slices, brain)
        shown.append(
            Heatmap(
                name=name,
                method=method,
                class_name=answer.class_name,
                probability=probability,
                values=values,
                # a sagittal series has no slice that shows a plane whole
                key_slices_k=planes
                or key_slices(np.zeros(values.shape, dtype=np.bool_), values, brain.whole.spacing_mm[0]),
                model=model,
                resolution_mm=resolution_mm,
            )
        )
    return shown[0], shown[1]
