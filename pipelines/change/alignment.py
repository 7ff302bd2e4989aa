"""Registration of two scans of one head: rigid, by mutual information within the brain, the same for the same input.

No deformable step: it can swallow a lesion's growth.

References
----------
Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 2003.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from pipelines.brain.grid import Grid, bounding_box
from pipelines.brain.mni_space import one_thread
from pipelines.brain.thin_slices import thinned
from pipelines.comparison import Examined
from pipelines.types import Affine, BoolArray, FloatArray

BINS = 32
SEED = 20260301
MARGIN_MM = 12.0
"""Around the brain; what lies further out takes no part."""
THIN_MM = 1.5
"""Thick slices are divided into parts of about this, which keep their means: what is interpolated between the centres of slices
6 mm apart draws the registration off by 1 to 6 mm in moved copies of real scans, divided slices leave 0.1 mm."""
MOST_SCALE = 0.02
"""Scanners differ in size by less."""


@dataclass(frozen=True)
class _Level:
    """Level of the registration: voxels of about this size, how many of them the metric samples, and the optimiser's steps."""

    voxel_mm: float
    samples: int
    step_mm: float
    least_step_mm: float
    iterations: int
    masked: bool


_LEVELS = (
    _Level(4.0, 20_000, 2.0, 0.1, 80, masked=True),
    _Level(2.0, 40_000, 0.5, 0.02, 60, masked=False),
    _Level(1.0, 100_000, 0.1, 0.004, 40, masked=False),
)


@dataclass(frozen=True)
class _Part:
    """Part of a scan around its brain: intensities in [0, 1] and the mask."""

    values: FloatArray
    mask: BoolArray
    grid: Grid

    def image(self, level: _Level) -> sitk.Image:
        values = self.values
        if level.masked:
            values = np.where(ndimage.binary_dilation(self.mask, iterations=2), values, np.float32(0))
        return self._shrunk(values, level)

    def region(self, level: _Level) -> sitk.Image:
        """Return the brain, at the first level with its surroundings."""
        wide = ndimage.binary_dilation(self.mask, iterations=4) if level.masked else self.mask
        return sitk.Cast(self._shrunk(wide.astype(np.float32), level) > 0.5, sitk.sitkUInt8)

    def _shrunk(self, values: FloatArray, level: _Level) -> sitk.Image:
        image = sitk.GetImageFromArray(np.ascontiguousarray(values))
        spacing = np.linalg.norm(self.grid.affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((self.grid.affine[:3, :3] / spacing).ravel().tolist())
        image.SetOrigin(self.grid.affine[:3, 3].tolist())
        factors = [max(1, round(level.voxel_mm / mm)) for mm in spacing]
        shrunk = sitk.BinShrink(image, factors) if max(factors) > 1 else image
        return sitk.SmoothingRecursiveGaussian(shrunk, [0.5 * level.voxel_mm] * 3)


def _part(examined: Examined) -> _Part:
    k, j, i = examined.volume.array.shape
    grid = Grid((k, j, i), np.asarray(examined.volume.affine, dtype=np.float64))
    box = bounding_box(examined.brain, MARGIN_MM, grid.spacing_mm)
    array, mask = np.nan_to_num(examined.volume.array[box]), examined.brain[box]
    ceiling = max(float(np.percentile(array[mask], 99.5)), 1e-6)
    values, thin = thinned(
        np.clip(array / np.float32(ceiling), 0, 1).astype(np.float32), grid.crop(box), THIN_MM
    )
    inside, _ = thinned(mask.astype(np.float32), grid.crop(box), THIN_MM)
    return _Part(np.clip(values, 0, 1), inside > 0.5, thin)


def _centre(part: _Part) -> np.ndarray:
    return np.asarray(part.grid.positions_lps(np.argwhere(part.mask).mean(axis=0)))


def _registered(fixed: _Part, moving: _Part, level: _Level, transform: sitk.Transform) -> None:
    """Improve a transform in place."""
    image, region = fixed.image(level), fixed.region(level)
    inside = int(sitk.GetArrayViewFromImage(region).sum())
    if not inside:
        return
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=BINS)
    method.SetMetricFixedMask(region)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, level.samples / inside), SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level.step_mm,
        minStep=level.least_step_mm,
        numberOfIterations=level.iterations,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    with one_thread():
        method.Execute(image, moving.image(level))


def _matrix(transform: sitk.Euler3DTransform | sitk.AffineTransform) -> Affine:
    linear = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    result = np.eye(4)
    result[:3, :3] = linear
    result[:3, 3] = np.asarray(transform.GetTranslation()) + centre - linear @ centre
    return result


def register(first: Examined, second: Examined, *, scaled: bool = False) -> Affine:
    """Return where each point of the first scan, mm, LPS, lies in the second one.

    Parameters
    ----------
    first, second : Examined
    scaled : bool
        Let the size differ by 2 % at most, as it does between scanners.

    Returns
    -------
    float64 array, shape (4, 4)
        The same for the same input: the samples of the metric are drawn with a fixed seed, and summed on one thread.
    """
    fixed, moving = _part(first), _part(second)
    rigid = sitk.Euler3DTransform()
    centre = _centre(fixed)
    rigid.SetCenter(centre.tolist())
    rigid.SetTranslation((_centre(moving) - centre).tolist())
    for level in _LEVELS:
        _registered(fixed, moving, level, rigid)
    found = _matrix(rigid)
    if not scaled:
        return found
    affine = sitk.AffineTransform(3)
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    _registered(fixed, moving, _LEVELS[-1], affine)
    free = _matrix(affine)
    sizes = np.linalg.svd(free[:3, :3], compute_uv=False)
    return free if np.abs(sizes - 1).max() <= MOST_SCALE else found
