"""Plausibility: signs by which the findings in a brain are not like demyelination at all.

The networks have learnt from demyelination alone, and may draw a speck in a tumour. So the image is looked at too, beside the
mask: bright tissue and fluid that have no counterpart on the other side, the midline, and signal above that of any lesion. A
sign says that the findings are to be seen by a reader as something else; that there is none says nothing.

All of it is done on voxels of 2.4 mm, twice the cube's, and on the scale of `pipelines.flair.intensity`. What is compared with
the other side is compared with the brightest, or darkest, within 6 mm of its mirror image: no brain is symmetric.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.flair.intensity import BACKGROUND
from pipelines.regions.brain_map import Midline, StructureArray
from pipelines.regions.structures import VENTRICLES, Structure
from pipelines.types import BoolArray, FloatArray, NotTypical

COARSE: Final = 2
"""Voxels of the cube along the edge of one that is looked at."""
ISOLATED_ML, ISOLATED_SHARE_ML, ISOLATED_SHARE = 10.0, 3.0, 0.5
"""A component of the mask without contact to a ventricle above the first, or above the second and this share of the load."""
CONTACT_MM: Final = 3.0
BRIGHT: Final = 1.0
"""Brighter tissue than white matter: 1.2 times it."""
BRIGHTER: Final = 1.0
"""By so much it is brighter than its mirror image."""
ONE_SIDED_ML: Final = 4.5
"""Bright tissue of one side that the mask does not hold."""
DRAWN_ML, DRAWN_SHARE = 10.0, 0.8
"""Bright tissue of one side that the mask holds: so much, and this share of the load, since demyelination lies unevenly."""
FLUID: Final = -1.5
"""Darker is fluid: 0.7 times white matter."""
CAVITY_ML: Final = 4.0
"""Fluid of one side."""
SHIFT_MM: Final = 5.0
"""Third ventricle off the midline."""
HOT: Final = 5.0
"""Twice white matter: above all lesions of demyelination."""
HOT_ML: Final = 2.0
SURFACE_MM: Final = 5.0
"""Nearer to the border of the brain's mask nothing counts: there it errs."""
_MIRROR_VOXELS: Final = 5
_PARTLY: Final = 0.1
_FLUID_BALL: Final = 2.2
"""Fluid that a ball of this radius, in coarse voxels, fits into is no sulcus."""
_FLUID_SEED, _FLUID_REACH = 1.5, 3.0
"""Fluid within the second of thinner fluid of the other side, both in coarse voxels, has a counterpart."""
_LEAST_THIRD: Final = 20


@dataclass(frozen=True)
class Scene:
    """Everything that is looked at, on the cube or a part of it.

    Parameters
    ----------
    values : float32 array, shape (k, j, i)
        Normalised FLAIR.
    brain, lesions : bool arrays, shape (k, j, i)
        Edges even.
    structures : uint8 array, shape (k, j, i), or None
        Values of `Structure`, believed or not; None without the network: then ventricles and midline are not looked at.
    grid : Grid
    midline : Midline
    """

    values: FloatArray
    brain: BoolArray
    lesions: BoolArray
    structures: StructureArray | None
    grid: Grid
    midline: Midline


def signs_of(scene: Scene) -> tuple[NotTypical, ...]:
    """Return the signs by which a brain's findings are not like demyelination; none: nothing is said."""
    if not scene.brain.any():
        return ()
    coarse = _Coarse.of(_cropped(scene))
    return tuple(
        sign
        for sign in (
            _isolated(scene),
            coarse.one_sided_tissue(),
            coarse.one_sided_fluid(),
            _shift(scene),
            coarse.hot(),
        )
        if sign is not None
    )


def _isolated(scene: Scene) -> NotTypical | None:
    """Return the largest component of the mask without contact to a ventricle, where it is too large."""
    if scene.structures is None or not scene.lesions.any():
        return None
    box = _box(scene.lesions, scene.lesions.shape, round(2 * CONTACT_MM / scene.grid.spacing_mm[0]))
    labels, count = cc3d.connected_components(scene.lesions[box], connectivity=26, return_N=True)
    volumes = np.bincount(labels.ravel(), minlength=count + 1) * scene.grid.voxel_volume_mm3 / 1000
    total = float(volumes[1:].sum())
    limit = min(ISOLATED_ML, max(ISOLATED_SHARE_ML, ISOLATED_SHARE * total))
    if float(volumes[1:].max()) <= limit:
        return None
    ventricles = np.isin(scene.structures[box], VENTRICLES)
    far = ndimage.distance_transform_edt(~ventricles, sampling=scene.grid.spacing_mm)
    nearest = (
        ndimage.minimum(far, labels, np.arange(count + 1)) if ventricles.any() else np.full(count + 1, np.inf)
    )
    apart = volumes[1:][np.asarray(nearest)[1:] > CONTACT_MM]
    largest = float(apart.max(initial=0.0))
    if largest <= limit:
        return None
    return NotTypical("isolated lesion", "one component without contact to a ventricle", largest, "mL", limit)


def _shift(scene: Scene) -> NotTypical | None:
    """Return how far the third ventricle lies off the midline, where that is too far."""
    if scene.structures is None:
        return None
    deep = np.flatnonzero((scene.structures == Structure.DEEP_GREY).any(axis=(1, 2)))
    lower = np.argwhere(scene.structures == Structure.LOWER_VENTRICLE)
    third = lower[lower[:, 0] >= deep[0]] if len(deep) else lower[:0]
    if len(third) < _LEAST_THIRD:
        return None
    shift_mm = abs(float(np.median(scene.midline.left_mm(scene.grid.positions_lps(third)))))
    if shift_mm <= SHIFT_MM:
        return None
    return NotTypical("midline shift", "third ventricle off the midline", shift_mm, "mm", SHIFT_MM)


@dataclass(frozen=True)
class _Coarse:
    """The brain on coarse voxels.

    ``smooth`` is the image without its grain, ``whole`` the brain with what its mask leaves out in between, ``inner`` what
    of it lies deeper than `SURFACE_MM`, ``drawn`` the share of each voxel that the mask holds.
    """

    smooth: FloatArray
    brain: BoolArray
    whole: BoolArray
    inner: BoolArray
    ventricle: BoolArray
    drawn: FloatArray
    affine: npt.NDArray[np.float64]
    midline: Midline
    voxel_ml: float

    @classmethod
    def of(cls, scene: Scene) -> _Coarse:
        share = _halved(scene.brain.astype(np.float32))
        brain = share > 0.5
        values = _halved(np.where(scene.brain, scene.values, 0)) / np.maximum(share, 0.2)
        weight = ndimage.gaussian_filter(brain.astype(np.float32), 1)
        smooth = ndimage.gaussian_filter(np.where(brain, values, 0), 1) / np.maximum(weight, 0.05)
        smooth[~brain] = BACKGROUND
        whole = ndimage.binary_closing(np.pad(brain, 6), iterations=5)[6:-6, 6:-6, 6:-6]
        affine = scene.grid.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.full(3, (COARSE - 1) / 2)
        affine[:3, :3] *= COARSE
        edge_mm = COARSE * scene.grid.spacing_mm[0]
        ventricle = np.zeros_like(brain)
        if scene.structures is not None:
            ventricle = _halved(np.isin(scene.structures, VENTRICLES).astype(np.float32)) >= 0.5
        depth_mm = ndimage.distance_transform_edt(whole) * edge_mm
        return cls(
            np.asarray(smooth, np.float32),
            brain,
            np.asarray(whole),
            np.asarray(depth_mm > SURFACE_MM),
            ventricle,
            _halved(scene.lesions.astype(np.float32)),
            affine,
            scene.midline,
            edge_mm**3 / 1000,
        )

    def one_sided_tissue(self) -> NotTypical | None:
        """Return the largest bright tissue without a counterpart, where there is too much of it."""
        bright = (self.smooth > BRIGHT) & self.brain & self.inner & ~self.ventricle
        other = self._mirrored(ndimage.maximum_filter(self.smooth, _MIRROR_VOXELS))
        alone = bright & (self.smooth - other > BRIGHTER) & self._has_mirror
        load_ml = float(self.drawn.sum()) * self.voxel_ml
        rest_ml = self._largest_ml(alone & ~ndimage.binary_dilation(self.drawn > _PARTLY))
        whole_ml, drawn_limit = self._largest_ml(alone), max(DRAWN_ML, DRAWN_SHARE * load_ml)
        if rest_ml <= ONE_SIDED_ML and whole_ml <= drawn_limit:
            return None
        found = (rest_ml, ONE_SIDED_ML) if rest_ml > ONE_SIDED_ML else (whole_ml, drawn_limit)
        return NotTypical(
            "one-sided tissue",
            "bright tissue without a counterpart on the other side",
            found[0],
            "mL",
            found[1],
        )

    def one_sided_fluid(self) -> NotTypical | None:
        """Return the largest fluid without a counterpart, where there is too much of it."""
        fluid = (self.smooth < FLUID) & self.whole
        seeds = _opened(fluid, _FLUID_SEED)
        near = self._mirrored(ndimage.distance_transform_edt(~seeds) <= _FLUID_REACH) > 0.5
        volume_ml = self._largest_ml(_opened(fluid, _FLUID_BALL) & ~near & self._has_mirror)
        if volume_ml <= CAVITY_ML:
            return None
        return NotTypical(
            "one-sided fluid", "fluid without a counterpart on the other side", volume_ml, "mL", CAVITY_ML
        )

    def hot(self) -> NotTypical | None:
        """Return the largest volume of a signal above that of all lesions, where there is too much of it."""
        volume_ml = self._largest_ml((self.smooth > HOT) & self.brain & self.inner)
        if volume_ml <= HOT_ML:
            return None
        return NotTypical("signal", "signal above twice that of white matter", volume_ml, "mL", HOT_ML)

    @property
    def _has_mirror(self) -> BoolArray:
        """Tell where the other side is in the image at all."""
        return self._mirrored(self.whole) > 0.5

    def _mirrored(self, array: npt.NDArray[np.generic]) -> FloatArray:
        """Return what lies at the mirror image of each voxel."""
        turn = np.eye(4)
        turn[:3, :3] -= 2 * np.outer(self.midline.normal, self.midline.normal)
        turn[:3, 3] = 2 * self.midline.offset * self.midline.normal
        ijk = np.linalg.inv(self.affine) @ turn @ self.affine
        moved = ndimage.affine_transform(
            array.astype(np.float32), ijk[:3, :3][::-1, ::-1], ijk[:3, 3][::-1], order=1, mode="nearest"
        )
        return np.asarray(moved, dtype=np.float32)

    def _largest_ml(self, where: BoolArray) -> float:
        """Return the volume of the largest component of a mask, mL."""
        labels, count = cc3d.connected_components(where, connectivity=6, return_N=True)
        return float(np.bincount(labels.ravel())[1:].max()) * self.voxel_ml if count else 0.0


def _opened(mask: BoolArray, radius: float) -> BoolArray:
    """Return the part of a mask that balls of a radius, in voxels, fit into."""
    core = np.asarray(ndimage.distance_transform_edt(mask) > radius)
    if not core.any():
        return core
    return np.asarray((ndimage.distance_transform_edt(~core) <= radius) & mask)


def _halved(array: FloatArray) -> FloatArray:
    """Return the mean of each block of voxels."""
    k, j, i = (n // COARSE for n in array.shape)
    return np.asarray(array.reshape(k, COARSE, j, COARSE, i, COARSE).mean(axis=(1, 3, 5)), dtype=np.float32)


def _cropped(scene: Scene) -> Scene:
    """Return the part of a scene that holds the brain, with room for its mirror image."""
    box = _box(scene.brain, scene.brain.shape, 8)
    return Scene(
        scene.values[box],
        scene.brain[box],
        scene.lesions[box],
        None if scene.structures is None else scene.structures[box],
        scene.grid.crop(box),
        scene.midline,
    )


def _box(mask: BoolArray, shape: tuple[int, ...], margin: int) -> tuple[slice, slice, slice]:
    """Return the box of a mask, each edge even."""
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    sides = []
    for of, n in zip(found, shape, strict=True):
        low = max(of.start - margin, 0)
        low -= low % COARSE
        high = min(of.stop + margin, n)
        sides.append(slice(low, high - (high - low) % COARSE))
    return sides[0], sides[1], sides[2]
