"""A head around the MNI152 brain: fluid, skull, scalp, face, eyes and neck, as signal on FLAIR."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import template
from pipelines.types import BoolArray, FloatArray

PAD_MM = ((36, 24), (40, 30), (30, 30))
"""Room around the template: below and above, in front and behind, right and left."""

WHITE, GREY, FLUID = 1.0, 1.13, 0.14
BONE, MARROW, FAT, MUSCLE, SKIN = 0.06, 0.45, 1.45, 0.55, 1.0
FLUID_MM, BONE_MM, SCALP_MM = 3.0, 7.0, 7.0
"""Thickness of what lies around the brain, from inside out."""
EYES_LPS = ((-33.0, -58.0, -38.0), (33.0, -58.0, -38.0))
EYE_RADIUS_MM = 12.0


@dataclass(frozen=True, eq=False)
class Head:
    """A lesion-free head in MNI space at 1 mm.

    Parameters
    ----------
    signal : float32 array, shape (k, j, i)
        White matter is 1.
    brain : bool array, shape (k, j, i)
    white : float32 array, shape (k, j, i)
        Probability of white matter.
    grey : float32 array, shape (k, j, i)
        Probability of grey matter.
    ventricles : bool array, shape (k, j, i)
    grid : Grid
        MNI coordinates, mm, LPS.
    """

    signal: FloatArray
    brain: BoolArray
    white: FloatArray
    grey: FloatArray
    ventricles: BoolArray
    grid: Grid


def distance_mm(region: BoolArray) -> FloatArray:
    """Return how far each voxel of a 1 mm grid is from a region, 0 inside; float32, shape (k, j, i)."""
    image = sitk.GetImageFromArray(region.astype(np.uint8))
    signed = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False)
    return np.asarray(np.maximum(sitk.GetArrayFromImage(signed), 0.0), dtype=np.float32)


def _ellipsoid(
    grid: Grid, centre_lps: tuple[float, float, float], radii_mm: tuple[float, float, float]
) -> BoolArray:
    """Return the voxels of an upright ellipsoid on a grid with the axes of LPS."""
    square = np.zeros(grid.shape_kji, dtype=np.float32)
    for axis in range(3):
        step, origin = grid.affine[axis, axis], grid.affine[axis, 3]
        along = origin + step * np.arange(grid.shape_kji[2 - axis])
        shape = [1, 1, 1]
        shape[2 - axis] = along.size
        square += (((along - centre_lps[axis]) / radii_mm[axis]) ** 2).reshape(shape).astype(np.float32)
    return np.asarray(square <= 1.0)


def _paint_shells(signal: FloatArray, outside_mm: FloatArray) -> None:
    """Paint fluid, bone with marrow, and scalp by the distance from the brain's hull."""
    bone = FLUID_MM + BONE_MM
    scalp = bone + SCALP_MM
    signal[(outside_mm > 0) & (outside_mm <= FLUID_MM)] = FLUID
    signal[(outside_mm > FLUID_MM) & (outside_mm <= bone)] = BONE
    signal[(outside_mm > FLUID_MM + 2.5) & (outside_mm <= bone - 2.0)] = MARROW
    signal[(outside_mm > bone) & (outside_mm <= scalp)] = FAT
    signal[(outside_mm > scalp - 2.0) & (outside_mm <= scalp)] = SKIN


def _paint_face_and_neck(signal: FloatArray, grid: Grid, free: BoolArray) -> None:
    """Paint what hangs below and in front of the skull; only where nothing else lies."""
    face = _ellipsoid(grid, (0.0, -40.0, -62.0), (62.0, 62.0, 58.0))
    neck = _ellipsoid(grid, (0.0, 30.0, -110.0), (58.0, 60.0, 90.0))
    below = free & (face | neck)
    depth_mm = distance_mm(free & ~below)
    signal[below] = MUSCLE
    signal[below & (depth_mm <= 7.0)] = FAT
    signal[below & (depth_mm <= 2.0)] = SKIN
    signal[free & _ellipsoid(grid, (0.0, -60.0, -58.0), (14.0, 26.0, 22.0))] = BONE
    cord = _ellipsoid(grid, (0.0, 43.0, -110.0), (7.0, 6.0, 60.0))
    canal = _ellipsoid(grid, (0.0, 43.0, -110.0), (12.0, 11.0, 62.0))
    signal[free & canal] = FLUID
    signal[free & cord] = WHITE
    for centre in EYES_LPS:
        orbit = _ellipsoid(grid, centre, (19.0, 22.0, 17.0)) & free
        signal[orbit] = FAT
        signal[_ellipsoid(grid, centre, (EYE_RADIUS_MM + 1.0,) * 3) & free] = MUSCLE
        signal[_ellipsoid(grid, centre, (EYE_RADIUS_MM,) * 3) & free] = FLUID


@functools.lru_cache(maxsize=1)
def mni_head() -> Head:
    """Return the head; made once, from nilearn's template."""
    reference = template()

    def padded(array: npt.NDArray[np.float32]) -> FloatArray:
        return np.pad(np.asarray(array, dtype=np.float32), PAD_MM)

    affine = reference.grid.affine.copy()
    for axis in range(3):
        affine[axis, 3] -= affine[axis, axis] * PAD_MM[2 - axis][0]
    brain = padded(reference.brain.astype(np.float32)) > 0.5
    white, grey = padded(reference.white), padded(reference.grey)
    grid = Grid((brain.shape[0], brain.shape[1], brain.shape[2]), affine)

    tissue = np.clip(white + grey, 0.0, 1.0)
    signal = np.where(brain, WHITE * white + GREY * np.clip(grey, 0.0, 1.0 - white), 0.0).astype(np.float32)
    signal += np.where(brain, FLUID * (1.0 - tissue), 0.0).astype(np.float32)

    # closing by 12 mm bridges the fissures, as the skull does
    hull = brain | (distance_mm(distance_mm(brain) > 12.0) > 12.0)
    signal[hull & ~brain] = FLUID
    outside_mm = distance_mm(hull)
    _paint_shells(signal, outside_mm)
    _paint_face_and_neck(signal, grid, outside_mm > FLUID_MM + BONE_MM)

    fluid = (white < 0.2) & (grey < 0.3) & (distance_mm(~brain) > 25.0)
    labels, _ = ndimage.label(fluid)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    ventricles = np.isin(labels, np.flatnonzero(sizes >= 1500))
    return Head(signal, brain, white, grey, ventricles, grid)
