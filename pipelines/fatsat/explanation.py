"""Explanation of the answer for one eye, on the series' own voxels: two maps, the nerve, and the salient part inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.fatsat.crop import Crop, outline, to_native
from pipelines.fatsat.ensemble import Ensemble
from pipelines.fatsat.saliency import share_inside
from pipelines.types import BoolArray, FloatArray, Heatmap, SiteFinding, Volume

CLASSES = ("no lesion", "lesion")
"""Of the network, by their index."""
GRADIENT, INTEGRATED = "saliency", "integrated gradients"
GRADIENT_METHOD = (
    "Size of the gradient of the predicted class's probability with respect to each voxel (NeuroImage Clin 2022, "
    "10.1016/j.nicl.2022.103187). The line is the edge of what the network saw."
)
INTEGRATED_METHOD = (
    "Smoothed integrated gradients of the predicted class's probability, from an even image to this one (Sundararajan et al., "
    "ICML 2017). The line is the edge of what the network saw."
)
KEY_SLICES = 5
CANDIDATE_SHARE = 0.5
"""The candidate region is where the map reaches this share of its maximum inside the nerve [ours]."""


@dataclass(frozen=True)
class Explanation:
    """Both maps of one crop.

    Parameters
    ----------
    cls : 0 or 1
        The class that they explain: the predicted one.
    saliency, evidence : float32 array, shape (13, 31, 40), in [0, 1]
        The gradient's size, and integrated gradients.
    share : float
        Share of the saliency that lies inside the nerve.
    crop : Crop
    """

    cls: int
    saliency: FloatArray
    evidence: FloatArray
    share: float
    crop: Crop

    def heatmaps(self, site: SiteFinding, volume: Volume, model: str) -> tuple[Heatmap, Heatmap]:
        """Return both maps on the native grid, with the crop's edge."""
        probability = site.probability or 0.0
        edge = outline(self.crop, volume)
        first, second = (
            Heatmap(
                name=name,
                method=method,
                class_name=CLASSES[self.cls],
                probability=probability if self.cls else 1.0 - probability,
                values=values,
                key_slices_k=key_slices(values, edge),
                model=model,
                outline=edge,
                laterality=site.laterality,
            )
            for name, method, values in (
                (GRADIENT, GRADIENT_METHOD, to_native(self.saliency, self.crop, volume)),
                (INTEGRATED, INTEGRATED_METHOD, to_native(self.evidence, self.crop, volume)),
            )
        )
        return first, second


def explained(
    ensemble: Ensemble, values: FloatArray, crop: Crop, cls: int, members: int | None
) -> Explanation:
    """Return both maps of one z-scored crop, shape (13, 31, 40), for a class."""
    saliency = ensemble.gradient_saliency(values, cls, members)
    evidence = ensemble.integrated_gradients(values, cls, members)
    return Explanation(cls, saliency, evidence, share_inside(saliency, crop.nerve), crop)


def key_slices(values: FloatArray, edge: BoolArray) -> tuple[int, ...]:
    """Return the slices of the crop that hold most of a map, at most five, ascending."""
    inside = np.flatnonzero(edge.any(axis=(1, 2)))
    sums = values.sum(axis=(1, 2), dtype=np.float64)[inside]
    most = inside[np.argsort(-sums, kind="stable")[:KEY_SLICES]]
    return tuple(sorted(int(k) for k in most))


def candidate_region(evidence: FloatArray, crop: Crop, volume: Volume, nerve: BoolArray) -> BoolArray:
    """Return the salient part inside the nerve, shape (k, j, i); empty where the map is empty there.

    Parameters
    ----------
    evidence : float32 array, shape (13, 31, 40)
        A map of the crop.
    nerve : bool array, shape (k, j, i)
    """
    native = np.where(nerve, to_native(evidence, crop, volume), 0.0)
    largest = float(native.max())
    if largest <= 0.0:
        return np.zeros(nerve.shape, dtype=np.bool_)
    return np.asarray(native >= CANDIDATE_SHARE * largest)
