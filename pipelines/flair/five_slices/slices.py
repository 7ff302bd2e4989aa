"""The five axial slices that the ResNet18 sees, from a patient's FLAIR or from a training cube.

What a network gets: float32, shape (5, 128, 128). Channel 0 to 4 are the MNI152 planes at S = +58, +38, +18, -2 and -22 mm,
superior to inferior. Rows run towards Posterior, columns towards Left, in 1.5 mm steps; the centre of pixel (r, c) lies at
P = 17 + 1.5 (r - 63.5) mm and L = 1.5 (c - 63.5) mm, so a slice covers 192 mm, P -79 to 113 and L -96 to 96 mm. A pixel is
the mean of the brain in its box of 1.5 x 1.5 x 3 mm, on the scale of `pipelines.flair.intensity` (0 the brain's mode, a unit
0.2 of it, within [-5, 10]), and exactly -5 where the brain fills less than half of the box. All mm are MNI152 mm, LPS.

[ours] The paper registers to T1 and on to MNI with FNIRT; here FLAIR goes to MNI by one affine registration. It names
slices 20 apart around the lateral ventricles and 128x128 pixels, not the heights or the pixel's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.brain.grid import Grid, resample
from pipelines.brain.mni_space import CUBE_SPACING_MM, Alignment
from pipelines.brain.thin_slices import thinned
from pipelines.errors import PipelineError
from pipelines.flair.intensity import BACKGROUND, normalise
from pipelines.flair.preprocess import Brain
from pipelines.types import Affine, BoolArray, FloatArray

PLANES_MM = (58.0, 38.0, 18.0, -2.0, -22.0)
"""MNI152 heights of the slices."""
SIDE = 128
"""Pixels along each edge of a slice."""
PIXEL_MM = 1.5
CENTRE_LP_MM = (0.0, 17.0)
"""Middle of a slice: that of the template's brain, which reaches from P -73 to 107 mm."""
SLAB_MM = 3.0
"""Height of the box that a pixel averages.

[ours] 1 mm data lose their noise and small lesions just beside a plane count; slices of 3 mm and more, which are
interpolated linearly before, hardly change. A training cube and a patient go through the same average.
"""
TEMPLATE_EXTENT_LPS = ((-67.0, 67.0), (-66.0, 100.0), (-60.0, 75.0))
"""Where the template's brain mask lies along L, P and S, mm: 0.5th to 99.5th percentile of its voxels."""
EXTENT_PERCENTILES = (0.5, 99.5)
SHIFT_MM = 4.0
"""Jitter in training: all planes move together by up to this."""
STRETCH = 0.05
"""Jitter in training: their distance changes by up to this share."""
_ACROSS = 5
"""Samples along the height of a pixel's box."""
_WITHIN = 2
"""Samples along each edge of a pixel."""


@dataclass(frozen=True)
class Slices:
    """Five slices of a patient, and where they come from.

    Parameters
    ----------
    images : float32 array, shape (5, 128, 128)
        Planes, rows towards Posterior, columns towards Left; normalised, -5 outside the brain.
    mni_to_patient : float64 array, shape (4, 4)
        MNI point (x, y, z, 1), mm, LPS, to patient position, mm, LPS.
    """

    images: FloatArray
    mni_to_patient: Affine

    @property
    def brain(self) -> BoolArray:
        """Mask of the brain on each slice, shape (5, 128, 128)."""
        return brain_of(self.images)


def brain_of(images: FloatArray) -> BoolArray:
    """Return where normalised values are brain; the shape stays."""
    return np.asarray(images > BACKGROUND)


def slices_from_brain(corrected: FloatArray, brain: Brain, alignment: Alignment) -> Slices:
    """Return the five slices of a patient; thick ones of the series are divided first.

    Parameters
    ----------
    corrected : float32 array, shape (k, j, i) of the brain's part
        FLAIR without its bias field, in any scale with 0 for no signal.
    brain : Brain
        Its mask and grid; any orientation and handedness.
    alignment : Alignment
        Of that brain to MNI152.
    """
    normalised = normalise(corrected, brain.mask)
    thin, grid = thinned(normalised, brain.grid, CUBE_SPACING_MM, brain.mask)
    mask = brain.mask
    for axis, parts in enumerate(np.array(grid.shape_kji) // brain.mask.shape):
        mask = np.repeat(mask, parts, axis)
    images = _sampled(thin, mask, grid, alignment.mni_to_patient, PLANES_MM)
    return Slices(images, alignment.mni_to_patient)


def slices_from_cube(cube_values: FloatArray, rng: np.random.Generator | None = None) -> FloatArray:
    """Return the five slices of a cube that a network is trained on.

    The cube lies along the MNI axes, so its brain's extents are matched to those of the template and nothing is
    turned. [ours] This takes the place of the registration, which a synthetic case would not need.

    Parameters
    ----------
    cube_values : float32 array, shape (k, j, i)
        Normalised, -5 outside the brain; k towards Superior, j towards Posterior, i towards Left, 1.2 mm.
    rng : numpy Generator, optional
        [ours] Moves the planes by up to 4 mm together and their distance by up to 5 %, as registrations err.

    Returns
    -------
    float32 array, shape (5, 128, 128)

    Raises
    ------
    PipelineError
        The cube holds no brain.
    """
    mask = brain_of(cube_values)
    averaged = _averages(mask, rng)
    return _brain_means(averaged(np.where(mask, cube_values, np.float32(0))), averaged(mask))


def slices_of_mask(
    mask: BoolArray, cube_values: FloatArray, rng: np.random.Generator | None = None
) -> FloatArray:
    """Return how much of each pixel of `slices_from_cube` lies in a mask of the cube, float32 in [0, 1], (5, 128, 128).

    Parameters
    ----------
    mask : bool array, shape (k, j, i)
    cube_values, rng : see `slices_from_cube`
        An rng of the same seed gives the same planes.

    Raises
    ------
    PipelineError
        The cube holds no brain.
    """
    return _averages(brain_of(cube_values), rng)(mask)


def _averages(
    brain: BoolArray, rng: np.random.Generator | None
) -> Callable[[npt.NDArray[np.generic]], FloatArray]:
    """Return what averages an array of a cube over the boxes of the five slices' pixels, 0 outside the cube."""
    grid = Grid((brain.shape[0], brain.shape[1], brain.shape[2]), _matched_to_template(brain))
    heights = np.array(PLANES_MM)
    if rng is not None:
        middle = heights.mean()
        heights = middle + (heights - middle) * (1 + rng.uniform(-STRETCH, STRETCH))
        heights += rng.uniform(-SHIFT_MM, SHIFT_MM)
    fine = [_fine_grid(float(height)) for height in heights]
    across = np.concatenate([_box_weights(grid, plane, 0, _ACROSS) for plane in fine])
    rows, columns = _box_weights(grid, fine[0], 1, _WITHIN), _box_weights(grid, fine[0], 2, _WITHIN)

    def averaged(array: npt.NDArray[np.generic]) -> FloatArray:
        # Nothing is turned, so each axis is averaged by itself, several times faster.
        return np.asarray(rows @ np.tensordot(across, array.astype(np.float32), 1) @ columns.T)

    return averaged


def _matched_to_template(mask: BoolArray) -> Affine:
    """Return the affine from (i, j, k, 1) to MNI152, mm, LPS, that gives a brain the template's extents."""
    if not mask.any():
        raise PipelineError("the cube holds no brain: all its voxels are background")
    low, high = np.percentile(np.argwhere(mask)[:, ::-1], EXTENT_PERCENTILES, axis=0)
    extent = np.array(TEMPLATE_EXTENT_LPS)
    # a brain of one voxel along an axis keeps the cube's spacing rather than an infinite one
    scale = np.where(high > low, (extent[:, 1] - extent[:, 0]) / np.maximum(high - low, 1.0), CUBE_SPACING_MM)
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = extent[:, 0] - scale * low
    return affine


def _fine_grid(height_mm: float) -> Grid:
    """Return the grid, in MNI space, of the samples that the pixels of one plane average."""
    step_mm, fine_mm = SLAB_MM / _ACROSS, PIXEL_MM / _WITHIN
    affine = np.diag([fine_mm, fine_mm, step_mm, 1.0])
    edge_mm = fine_mm * (SIDE * _WITHIN - 1) / 2
    affine[:3, 3] = [
        CENTRE_LP_MM[0] - edge_mm,
        CENTRE_LP_MM[1] - edge_mm,
        height_mm - step_mm * (_ACROSS - 1) / 2,
    ]
    return Grid((_ACROSS, SIDE * _WITHIN, SIDE * _WITHIN), affine)


def _box_weights(source: Grid, fine: Grid, axis: int, samples: int) -> FloatArray:
    """Return the part of each of a cube's planes along an axis in the pixels of a slice, (pixels, planes).

    Both grids lie along MNI's axes; the same trilinear samples as `resample` takes, 0 outside the cube, averaged.
    """
    number, column = fine.shape_kji[axis], 2 - axis
    along = fine.affine[column, 3] + fine.affine[column, column] * np.arange(number)
    planes = (along - source.affine[column, 3]) / source.affine[column, column]
    distance = np.abs(planes[:, None] - np.arange(source.shape_kji[axis]))
    weights = np.maximum(0, 1 - distance).reshape(number // samples, samples, -1).mean(axis=1)
    return np.asarray(weights, dtype=np.float32)


def _brain_means(total: FloatArray, share: FloatArray) -> FloatArray:
    """Return the mean over the brain in each pixel's box, `BACKGROUND` where it fills less than half of it."""
    inside = share > 0.5
    images = np.full(share.shape, BACKGROUND, dtype=np.float32)
    # a dark pixel of the brain stays apart from the background, which is told by its value alone
    images[inside] = np.maximum(
        total[inside] / share[inside], np.nextafter(np.float32(BACKGROUND), np.float32(0))
    )
    return images


def _pixels(fine: FloatArray) -> npt.NDArray[np.float32]:
    """Return the mean over each pixel's samples, shape (128, 128)."""
    return np.asarray(fine.reshape(_ACROSS, SIDE, _WITHIN, SIDE, _WITHIN).mean(axis=(0, 2, 4)))


def _sampled(
    normalised: FloatArray,
    mask: BoolArray,
    source: Grid,
    mni_to_source: Affine,
    heights_mm: tuple[float, ...],
) -> FloatArray:
    """Return slices of a volume; only brain takes part in the averages, so no skull bleeds into its edge."""
    masked = np.where(mask, normalised, np.float32(0))
    shares, totals = [], []
    for height_mm in heights_mm:
        target = _fine_grid(height_mm)
        shares.append(_pixels(resample(mask, source, target, transform=mni_to_source)))
        totals.append(_pixels(resample(masked, source, target, transform=mni_to_source)))
    return _brain_means(np.stack(totals), np.stack(shares))
