"""Difference image of two scans on their common grid, in units of normal white matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipelines.brain.grid import Grid, resample
from pipelines.change.halfway import OnCommonGrid
from pipelines.flair.intensity import brain_mode
from pipelines.types import BoolArray, FloatArray

NORMAL_PROBABILITY = 0.1
"""Tissue is normal where both probabilities are below it."""
TISSUE = (0.6, 1.4)
"""Brightness over the mode of the tissue that shading is told by."""
FLUID = 0.5
"""Of the median of normal tissue: what is darker is fluid."""
SHADING_SIGMA_MM = 17.0
COARSE_MM = 4.0
"""Shading varies so slowly that voxels of this size do."""
IN_PLANE_SIGMA = 0.7
"""In pixels: noise goes, a lesion stays."""
LEAST_WEIGHT = 0.02
MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Difference:
    """Difference of two scans.

    Parameters
    ----------
    first, second : float32 array, shape (k, j, i)
        Intensities over those of normal white matter, without what shading they do not share.
    values : float32 array, shape (k, j, i)
        Second less first, 0 outside what both show of the brain.
    brain : bool array, shape (k, j, i)
        What both show of it.
    noise : float
        SD of the values in normal tissue, by their median absolute deviation.
    """

    first: FloatArray
    second: FloatArray
    values: FloatArray
    brain: BoolArray
    noise: float


def _shading(first: FloatArray, second: FloatArray, tissue: BoolArray, grid: Grid) -> FloatArray:
    """Return the second's shading over the first's, about 1."""
    factors = [max(1, round(COARSE_MM / mm)) for mm in grid.spacing_mm]
    pad = [(0, -n % factor) for n, factor in zip(tissue.shape, factors, strict=True)]

    def coarse(values: FloatArray) -> FloatArray:
        padded = np.pad(values, pad)
        blocks = [part for n, f in zip(padded.shape, factors, strict=True) for part in (n // f, f)]
        return np.asarray(padded.reshape(blocks).mean(axis=(1, 3, 5)), dtype=np.float32)

    sigma = [SHADING_SIGMA_MM / (f * mm) for f, mm in zip(factors, grid.spacing_mm, strict=True)]
    weight, one, other = (
        ndimage.gaussian_filter(coarse(np.where(tissue, values, np.float32(0))), sigma, truncate=2.5)
        for values in (np.ones(tissue.shape, np.float32), first, second)
    )
    known = weight > LEAST_WEIGHT
    ratio = np.where(known, other / np.maximum(one, 1e-6), np.float32(1)).astype(np.float32)
    if not known.all() and known.any():
        nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        ratio = ratio[tuple(nearest)]
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, :3] * np.array(factors[::-1])
    affine[:3, 3] += grid.affine[:3, :3] @ ((np.array(factors[::-1]) - 1) / 2)
    k, j, i = ratio.shape
    # Beyond the outer block centres the shading goes on as there.
    wide = np.pad(ratio, 1, mode="edge")
    affine[:3, 3] -= affine[:3, :3] @ np.ones(3)
    return resample(wide, Grid((k + 2, j + 2, i + 2), affine), grid, outside=1.0)


def _white(normal: FloatArray) -> np.float32:
    """Return the intensity of normal white matter; wide ventricles have more voxels of one value than it has."""
    if not normal.size:
        return np.float32(1)
    return np.float32(max(brain_mode(normal[normal > FLUID * np.median(normal)]), 1e-6))


def difference(first: OnCommonGrid, second: OnCommonGrid, grid: Grid) -> Difference:
    """Return the difference of two scans, 0 everywhere when both are the same."""
    brain = first.brain & second.brain
    normal = brain & (first.probability < NORMAL_PROBABILITY) & (second.probability < NORMAL_PROBABILITY)
    one, other = (of.image / _white(of.image[normal]) for of in (first, second))
    low, high = TISSUE
    tissue = normal & (one > low) & (one < high) & (other > low) & (other < high)
    if tissue.any():
        half = np.sqrt(_shading(one, other, tissue, grid))
        one, other = one * half, other / half
    sigma = (0.0, IN_PLANE_SIGMA, IN_PLANE_SIGMA)
    one, other = (ndimage.gaussian_filter(of, sigma, truncate=3.0) for of in (one, other))
    values = np.where(brain, other - one, np.float32(0)).astype(np.float32)
    noise = 0.0
    if normal.any():
        inside = values[normal]
        noise = MAD_TO_SD * float(np.median(np.abs(inside - np.median(inside))))
    return Difference(one, other, values, brain, noise)
