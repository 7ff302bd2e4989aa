"""Registration of a brain to MNI152 space, and the cube that is turned to its axes.

References
----------
Template 2009a: Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 2011.
Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 2003.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from pipelines.brain.grid import Grid, resample
from pipelines.types import Affine, BoolArray, FloatArray

CUBE_SIDE = 160
CUBE_SPACING_MM = 1.2


@dataclass(frozen=True)
class Level:
    """Level of the registration.

    Parameters
    ----------
    shrink : int
        The template's voxels of 1 mm are thinned by it along each axis.
    smoothing_mm : float
        SD of the Gaussian over both images.
    share : float
        Of the template's voxels that the metric samples.
    """

    shrink: int
    smoothing_mm: float
    share: float


COARSE = Level(4, 4.0, 0.2)
FINE = (Level(4, 3.0, 0.2), Level(2, 1.5, 0.05))
MOVING_SPACING_MM = 2.0
"""Finer pixels of a patient are averaged to about this before registration, which never looks closer than 2 mm."""
SAMPLED_MARGIN_MM = 8
"""Background around the template's brain that is sampled too."""
SEED = 20260101
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Template:
    """The MNI152 template (2009a, symmetric) at 1 mm, brain only.

    Parameters
    ----------
    t1, grey, white : float32 array, shape (k, j, i)
        T1 intensity and tissue probabilities, all in [0, 1].
    brain : bool array, shape (k, j, i)
    grid : Grid
        MNI coordinates, mm, LPS.
    """

    t1: FloatArray
    grey: FloatArray
    white: FloatArray
    brain: BoolArray
    grid: Grid


@functools.lru_cache(maxsize=1)
def template() -> Template:
    """Return the template as nilearn ships it, offline."""
    from nilearn import datasets  # noqa: PLC0415 (takes a second and a half)

    def load(loader: Callable[..., Any]) -> tuple[npt.NDArray[Any], Affine]:
        image = loader(resolution=1)
        values = np.ascontiguousarray(np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0))
        return values, np.asarray(_RAS_TO_LPS @ image.affine, dtype=np.float64)

    t1, affine = load(datasets.load_mni152_template)
    grey, _ = load(datasets.load_mni152_gm_template)
    white, _ = load(datasets.load_mni152_wm_template)
    brain, _ = load(datasets.load_mni152_brain_mask)
    k, j, i = t1.shape
    return Template(t1, grey, white, brain > 0.5, Grid((k, j, i), affine))


def coarse_grid() -> Grid:
    """Return the grid of every second voxel of the template: what ``array[::2, ::2, ::2]`` lies on."""
    fine = template().grid
    affine = fine.affine.copy()
    affine[:3, :3] *= 2.0
    k, j, i = ((n + 1) // 2 for n in fine.shape_kji)
    return Grid((k, j, i), affine)


@dataclass(frozen=True)
class Alignment:
    """An affine registration between MNI and patient space.

    Parameters
    ----------
    mni_to_patient : float64 array, shape (4, 4)
        MNI point (x, y, z, 1), mm, LPS, to patient position, mm, LPS.
    metric : float
        Negative mutual information at the end.
    """

    mni_to_patient: Affine
    metric: float

    @property
    def rotation(self) -> npt.NDArray[np.float64]:
        """The rotation nearest to the linear part, shape (3, 3); its columns are MNI's L, P, S."""
        u, _, vt = np.linalg.svd(self.mni_to_patient[:3, :3])
        return np.asarray(u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt)


def _image(array: npt.NDArray[Any], grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    spacing = np.linalg.norm(grid.affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((grid.affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


@functools.lru_cache(maxsize=1)
def _around() -> sitk.Image:
    """Return where the metric takes its samples."""
    reference = template()
    around = ndimage.binary_dilation(reference.brain, iterations=SAMPLED_MARGIN_MM)
    return _image(around.astype(np.uint8), reference.grid)


@functools.lru_cache(maxsize=4)
def _fixed(level: Level) -> tuple[sitk.Image, sitk.Image]:
    """Return the template as a level sees it, and where it is sampled.

    They are the same for every patient; smoothed anew each time they would take two thirds of the registration.
    """
    reference = template()
    smooth = sitk.SmoothingRecursiveGaussian(_image(reference.t1, reference.grid), level.smoothing_mm)
    factors = [level.shrink] * 3
    return sitk.Shrink(smooth, factors), sitk.Shrink(_around(), factors)


def _register(moving: sitk.Image, transform: sitk.Transform, level: Level) -> float:
    """Improve a transform from template to patient at one level, in place; return the metric at its end."""
    fixed, region = _fixed(level)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricFixedMask(region)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(level.share, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    # longer first steps throw heads with thick slices out of the capture range
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.5,
        minStep=0.01,
        numberOfIterations=60,
        relaxationFactor=0.5,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    with one_thread():
        method.Execute(fixed, sitk.SmoothingRecursiveGaussian(moving, level.smoothing_mm))
    return float(method.GetMetricValue())


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the metric on one thread: sums over several differ in their last digits from run to run."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _start(mask: BoolArray, grid: Grid) -> sitk.Similarity3DTransform:
    """Return the transform that brings the template's centre and volume to those of a brain mask."""
    reference = template()
    centre_mni = reference.grid.positions_lps(np.argwhere(reference.brain).mean(axis=0))
    centre_patient = grid.positions_lps(np.argwhere(mask).mean(axis=0))
    volumes = [
        float(m.sum()) * g.voxel_volume_mm3 for m, g in ((mask, grid), (reference.brain, reference.grid))
    ]
    start = sitk.Similarity3DTransform()
    start.SetCenter(centre_mni.tolist())
    start.SetTranslation((centre_patient - centre_mni).tolist())
    start.SetScale((volumes[0] / volumes[1]) ** (1.0 / 3.0))
    return start


def align_to_mni(array: FloatArray, mask: BoolArray, grid: Grid) -> Alignment:
    """Register the template to a brain by Mattes mutual information, in three levels.

    Centre and volume first, then a similarity on voxels of 4 mm, then an affine transform on 4 and 2 mm.
    Going on to 1 mm moves heads with thick slices away from the right place again.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
        Head or brain; only what lies in the mask counts.
    mask : bool array, shape (k, j, i)
    grid : Grid
        Of both.

    Returns
    -------
    Alignment
        The same for the same input: the samples of the metric are drawn with a fixed seed.
    """
    ceiling = max(float(np.percentile(array[mask], 99.5)), 1e-6)
    brain = np.where(mask, np.clip(array, 0.0, ceiling) / ceiling, 0.0).astype(np.float32)
    fine_pixels = [max(1, round(MOVING_SPACING_MM / spacing)) for spacing in grid.spacing_mm[::-1]]
    moving = sitk.BinShrink(_image(brain, grid), fine_pixels)

    similarity = _start(mask, grid)
    _register(moving, similarity, COARSE)

    affine = sitk.AffineTransform(3)
    affine.SetCenter(similarity.GetCenter())
    affine.SetMatrix(similarity.GetMatrix())
    affine.SetTranslation(similarity.GetTranslation())
    for level in FINE:
        metric = _register(moving, affine, level)

    matrix = np.asarray(affine.GetMatrix()).reshape(3, 3)
    centre = np.asarray(affine.GetCenter())
    result = np.eye(4)
    result[:3, :3] = matrix
    result[:3, 3] = np.asarray(affine.GetTranslation()) + centre - matrix @ centre
    return Alignment(result, metric)


def overlap(alignment: Alignment, mask: BoolArray, grid: Grid) -> float:
    """Return the Dice coefficient of a brain mask with the template's brain when both are in MNI space."""
    coarse = coarse_grid()
    brain = template().brain[::2, ::2, ::2]
    moved = resample(mask, grid, coarse, transform=alignment.mni_to_patient) > 0.5
    return float(2.0 * np.count_nonzero(brain & moved) / (np.count_nonzero(brain) + np.count_nonzero(moved)))


def turned_cube(alignment: Alignment, mask: BoolArray, grid: Grid) -> Grid:
    """Return the 192 mm cube that is centred on a brain and turned to the MNI axes without stretching it.

    Array axis k increases towards Superior, j towards Posterior, i towards Left, in 1.2 mm steps.

    Parameters
    ----------
    alignment : Alignment
    mask : bool array, shape (k, j, i)
        The brain.
    grid : Grid
        Of the mask.
    """
    axes = alignment.rotation
    ends = [np.percentile(grid.along(axes[:, n], mask), [0.1, 99.9]) for n in range(3)]
    low, high = np.array(ends).T
    affine = np.eye(4)
    affine[:3, :3] = axes * CUBE_SPACING_MM
    affine[:3, 3] = axes @ ((low + high) / 2.0 - CUBE_SPACING_MM * (CUBE_SIDE - 1) / 2.0)
    return Grid((CUBE_SIDE, CUBE_SIDE, CUBE_SIDE), affine)


def brain_height_mm(alignment: Alignment, mask: BoolArray, grid: Grid) -> float:
    """Return how far a brain mask reaches along the MNI superior axis, end voxels whole, in mm."""
    superior = alignment.rotation[:, 2]
    along = grid.along(superior, mask)
    voxel = float(np.abs(superior @ grid.affine[:3, :3]).max())
    return float(np.ptp(along)) + voxel
