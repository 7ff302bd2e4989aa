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
SMOOTHING_MM = 1.2
"""Sigma of the smoothed difference, along all axes: about as thick as the rim by which a lesion grows."""
LESION = 0.5
"""Both probabilities from which a voxel is lesion in both scans."""
LEAST_LESION_MM3 = 300.0
"""With less lesion in both, the contrast of lesions can't be told from their changes."""
MOST_CONTRAST = 0.4
"""Greatest logarithm of both scans' ratio of lesion contrast that is taken out."""
MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Difference:
    """Difference of two scans.

    Parameters
    ----------
    first, second : float32 array, shape (k, j, i)
        Intensities over those of normal white matter, without what shading they do not share.
        What lesions of both are brighter than white matter is the same in both: echo time and sequence change it.
    smooth : float32 array, shape (k, j, i)
        Second less first, 0 outside what both show of the brain, smoothed.
    brain : bool array, shape (k, j, i)
        What both show of it.
    noise : float
        SD of it in normal tissue, by their median absolute deviation.
    """

    first: FloatArray
    second: FloatArray
    smooth: FloatArray
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


def _alike_in_contrast(
    first: FloatArray, second: FloatArray, both: BoolArray, voxel_mm3: float
) -> tuple[FloatArray, FloatArray]:
    """Return both images with the contrast of what is lesion in both brought half way.

    Without it every lesion of a scan of stronger contrast seems to have grown brighter.
    """
    bright = both & (first > 1) & (second > 1)
    if np.count_nonzero(bright) * voxel_mm3 < LEAST_LESION_MM3:
        return first, second
    one, other = (float(np.log(np.median(of[bright] - 1))) for of in (first, second))
    half = np.float32(np.exp(np.clip(other - one, -MOST_CONTRAST, MOST_CONTRAST) / 2))
    one_image = np.where(first > 1, 1 + (first - 1) * half, first)
    other_image = np.where(second > 1, 1 + (second - 1) / half, second)
    return one_image, other_image


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
    lesion = brain & (first.probability >= LESION) & (second.probability >= LESION)
    one, other = _alike_in_contrast(one, other, lesion, grid.voxel_volume_mm3)
    values = np.where(brain, other - one, np.float32(0)).astype(np.float32)
    smooth = ndimage.gaussian_filter(values, [SMOOTHING_MM / mm for mm in grid.spacing_mm], truncate=3.0)
    noise = 0.0
    if normal.any():
        inside = smooth[normal]
        noise = MAD_TO_SD * float(np.median(np.abs(inside - np.median(inside))))
    return Difference(one, other, smooth, brain, noise)
