"""Normal structures that are bright on FLAIR and no lesion: beside the ventricles, on the midline, and where fluid flows.

Experts leave them out of a lesion mask, so they are painted and never labelled. Figures without a source were measured on
ten real 1.5 T FLAIR scans [ours]: within 2 mm of the lateral ventricles normal tissue is 1.10 to 1.69 times the brain's mode
(median 1.34), at 2 to 5 mm 1.09 to 1.54; septum and fornix 1.10 to 1.66, the optic radiation 1.14 to 1.57,
fluid that flows up to 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipelines.training.synthetic.anatomy import Labels, Tissue
from pipelines.training.synthetic.artefacts import smooth_field
from pipelines.types import BoolArray, FloatArray

RIM_SHARE, RADIATION_SHARE, MIDLINE_SHARE, HAZE_SHARE, FLOW_SHARE = 0.85, 0.5, 0.6, 0.3, 0.35
"""Share of heads with each of them; of the flow, for each of its places."""
REACH_MM = 35.0
"""Farther from the ventricles nothing is brightened."""


@dataclass(frozen=True)
class Position:
    """Position of each voxel of a head.

    Parameters
    ----------
    ventricle_mm : float32 array, shape (k, j, i)
        Distance to the ventricles, 0 in them.
    superior, posterior, left : float32 arrays, shape (k, j, i)
        MNI152 position in mm, LPS.
    """

    ventricle_mm: FloatArray
    superior: FloatArray
    posterior: FloatArray
    left: FloatArray


def _slowly(shape: tuple[int, ...], spread: float, rng: np.random.Generator) -> FloatArray:
    """Return a factor of about 1 that varies slowly over the head, from 0.4 to 1.6."""
    return np.asarray(
        np.clip(1 + np.float32(spread) * smooth_field(shape, 7, rng), 0.4, 1.6), dtype=np.float32
    )


def rim(at: Position, rng: np.random.Generator) -> FloatArray:
    """Return the added brightness of the ventricles' rim and caps: unbroken, smooth, thicker at the horns, on both sides.

    Caps before the frontal horns are a normal finding: Sze et al., AJNR 1986;7:381-387.
    """
    width = rng.uniform(0.8, 2.6)
    horns = np.maximum(np.clip((-8 - at.posterior) / 15, 0, 1), np.clip((at.posterior - 45) / 20, 0, 1))
    broad = np.float32(width) * (1 + np.float32(rng.uniform(0.1, 1.3)) * horns.astype(np.float32))
    strength = min(rng.gamma(3.0, 0.11), 0.75)
    left, right = np.exp(rng.normal(0, 0.2, 2))
    side = np.where(at.left > 0, np.float32(left), np.float32(right))
    # The fourth ventricle has hardly a rim.
    side = side * np.where(at.superior < -20, np.float32(0.3), np.float32(1))
    edge = np.exp(-((at.ventricle_mm / broad) ** 2)) * _slowly(at.left.shape, 0.25, rng)
    return np.asarray(np.float32(strength) * side * edge, dtype=np.float32)


def haze(at: Position, rng: np.random.Generator) -> FloatArray:
    """Return the added brightness of white matter that is hazy with age: smooth, widest at the horns."""
    reach = rng.uniform(5, 12)
    patchy = np.clip(_slowly(at.left.shape, 0.5, rng) - np.float32(0.5), 0, 1)
    return np.asarray(
        np.float32(rng.uniform(0.05, 0.25)) * np.exp(-at.ventricle_mm / np.float32(reach)) * patchy,
        dtype=np.float32,
    )


def optic_radiation(at: Position, rng: np.random.Generator) -> FloatArray:
    """Return the added brightness of the band beside trigone and occipital horn, on both sides."""
    place = (np.abs(at.left) > 16) & (np.abs(at.left) < 44) & (at.posterior > 22) & (at.posterior < 95)
    place &= (at.superior > -18) & (at.superior < 28)
    centre, thick = rng.uniform(3.5, 9.0), rng.uniform(1.5, 3.0)
    band = np.exp(-(((at.ventricle_mm - np.float32(centre)) / np.float32(thick)) ** 2)) * place
    soft = ndimage.gaussian_filter(band.astype(np.float32), 1.0)
    return np.asarray(
        np.float32(rng.uniform(0.05, 0.45)) * soft * _slowly(at.left.shape, 0.25, rng), dtype=np.float32
    )


def midline(at: Position, rng: np.random.Generator) -> FloatArray:
    """Return the added brightness of septum, fornix and the callosum over the ventricles."""
    wide = np.float32(rng.uniform(2.0, 6.0))
    near = np.exp(-((at.left / wide) ** 2)) * (at.ventricle_mm < 6)
    near = near * ((at.superior > -6) & (at.posterior > -38) & (at.posterior < 48))
    soft = ndimage.gaussian_filter(near.astype(np.float32), 0.6)
    return np.asarray(
        np.float32(rng.uniform(0.1, 0.65)) * soft * _slowly(at.left.shape, 0.3, rng), dtype=np.float32
    )


def flowing_fluid(labels: Labels, at: Position, rng: np.random.Generator) -> FloatArray:
    """Return the added brightness of fluid that flows: inflow that the inversion pulse has missed.

    In the third ventricle with the foramina, aqueduct and fourth ventricle, before the pons, above the sella; each with its own
    chance, in blobs of some 3 to 10 mm.
    """
    ventricle, fluid = labels == Tissue.VENTRICLE, labels == Tissue.FLUID
    middle = np.abs(at.left) < 16
    places = (
        ventricle & (np.abs(at.left) < 8) & (at.superior < 14) & (at.superior > -18),
        ventricle & middle & (at.superior <= -14),
        fluid & middle & (at.posterior > 2) & (at.posterior < 30) & (at.superior < -12),
        fluid & middle & (at.posterior > -16) & (at.posterior <= 6) & (at.superior < -6),
    )
    added = np.zeros(labels.shape, np.float32)
    for place in places:
        if rng.random() < FLOW_SHARE and place.any():
            blobs = smooth_field(labels.shape, int(rng.integers(20, 45)), rng) > rng.uniform(-0.5, 1.0)
            soft = ndimage.gaussian_filter((blobs & place).astype(np.float32), rng.uniform(0.6, 1.2))
            added += np.float32(rng.uniform(0.3, 1.6)) * soft * ndimage.binary_dilation(place)
    return added


def brightness(labels: Labels, at: Position, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw what is bright and no lesion.

    Parameters
    ----------
    labels : uint8 array, shape (k, j, i)
        Values of `Tissue`.
    at : Position

    Returns
    -------
    factor : float32 array, shape (k, j, i)
        By which tissue is brighter, 1 for most of it.
    added : float32 array, shape (k, j, i)
        Added to fluid, white matter being 1.
    """
    more = np.zeros(labels.shape, np.float32)
    for share, draw in (
        (RIM_SHARE, rim),
        (HAZE_SHARE, haze),
        (RADIATION_SHARE, optic_radiation),
        (MIDLINE_SHARE, midline),
    ):
        if rng.random() < share:
            more = more + draw(at, rng)
    tissue: BoolArray = (labels >= Tissue.CORTEX) & (labels < Tissue.SOFT) & (at.ventricle_mm < REACH_MM)
    return np.where(tissue, 1 + np.minimum(more, np.float32(0.8)), 1).astype(np.float32), flowing_fluid(
        labels, at, rng
    )
