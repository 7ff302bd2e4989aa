"""A brain on coarse voxels, as the check of plausibility looks at it.

They have twice the edge of the cube's, 2.4 mm: what is looked for is far larger, and all of it takes a second. Signals are on
the scale of `pipelines.flair.intensity`. What is compared with the other side is compared with the brightest within 6 mm of its
mirror image: no brain is symmetric.
"""

from __future__ import annotations

import functools
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
from pipelines.types import BoolArray, FloatArray

COARSE: Final = 2
"""Voxels of the cube along the edge of a coarse one."""
SOLID: Final = (
    Structure.CORTEX,
    Structure.WHITE,
    Structure.DEEP_GREY,
    Structure.CEREBELLUM,
    Structure.BRAINSTEM,
)
_MIRROR_VOXELS: Final = 5
_PURE, _MIXED, _LEAST_PURE = 0.9, 0.5, 30
"""A structure's signal is that of voxels that hold nothing else, or of mixed ones where there are too few."""
_DRAWN: Final = 0.1


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
        Values of `Structure`, believed or not; None without the network: then only the signs that need none are looked for.
    grid : Grid
    midline : Midline
    """

    values: FloatArray
    brain: BoolArray
    lesions: BoolArray
    structures: StructureArray | None
    grid: Grid
    midline: Midline

    def cropped(self) -> Scene:
        """Return the part that holds the brain, with room for its mirror image."""
        box = _box(self.brain, 8)
        return Scene(
            self.values[box],
            self.brain[box],
            self.lesions[box],
            None if self.structures is None else self.structures[box],
            self.grid.crop(box),
            self.midline,
        )


@dataclass(frozen=True)
class CoarseBrain:
    """A brain on coarse voxels; all arrays have the shape (k, j, i).

    Parameters
    ----------
    smooth : float32 array
        The image without its grain.
    brain, whole : bool arrays
        The brain, and the brain with what its mask leaves out in between.
    depth_mm : float32 array
        How far below the surface of the whole brain.
    drawn : float32 array
        Share of each voxel that the mask of lesions holds.
    structures : mapping of Structure to float32 array, or None
        Share of each voxel.
    affine : float64 array, shape (4, 4)
        Voxel (i, j, k) to LPS, mm.
    midline : Midline
    edge_mm : float
    """

    smooth: FloatArray
    brain: BoolArray
    whole: BoolArray
    depth_mm: FloatArray
    drawn: FloatArray
    structures: dict[Structure, FloatArray] | None
    affine: npt.NDArray[np.float64]
    midline: Midline
    edge_mm: float

    @classmethod
    def of(cls, scene: Scene) -> CoarseBrain:
        """Return a scene on coarse voxels."""
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
        structures = None
        if scene.structures is not None:
            structures = {
                of: _halved((scene.structures == of).astype(np.float32)) for of in (*VENTRICLES, *SOLID)
            }
        return cls(
            np.asarray(smooth, np.float32),
            brain,
            np.asarray(whole),
            np.asarray(ndimage.distance_transform_edt(whole) * edge_mm, np.float32),
            _halved(scene.lesions.astype(np.float32)),
            structures,
            affine,
            scene.midline,
            edge_mm,
        )

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return self.edge_mm**3 / 1000

    @functools.cached_property
    def ventricle(self) -> BoolArray:
        """Voxels of the ventricles; none without structures."""
        if self.structures is None:
            return np.zeros_like(self.brain)
        return np.asarray(sum(self.structures[of] for of in VENTRICLES) >= 0.5)

    @functools.cached_property
    def near_drawn(self) -> BoolArray:
        """Voxels of the mask of lesions, and those beside them."""
        return np.asarray(ndimage.binary_dilation(self.drawn > _DRAWN))

    @functools.cached_property
    def has_mirror(self) -> BoolArray:
        """Voxels whose mirror image lies in the image at all."""
        return self.mirrored(self.whole) > 0.5

    @functools.cached_property
    def ventricle_mm(self) -> FloatArray:
        """Distance to the ventricles, in mm; infinite without one."""
        if not self.ventricle.any():
            return np.full(self.brain.shape, np.inf, np.float32)
        return np.asarray(ndimage.distance_transform_edt(~self.ventricle) * self.edge_mm, np.float32)

    def brightest_of_other_side(self) -> FloatArray:
        """Return the brightest signal near the mirror image of each voxel."""
        return self.mirrored(ndimage.maximum_filter(self.smooth, _MIRROR_VOXELS))

    def excess(self) -> FloatArray:
        """Return by how much each voxel is brighter than its structures are in this brain, or white matter without any."""
        if self.structures is None:
            return self.smooth
        expected = np.zeros_like(self.smooth)
        solid = np.full_like(self.smooth, 1e-3)
        for of in SOLID:
            share = self.structures[of]
            own = self.brain & (self.drawn < _DRAWN) & (share > _PURE)
            if np.count_nonzero(own) < _LEAST_PURE:
                own = self.brain & (share > _MIXED)
            usual = float(np.median(self.smooth[own])) if own.any() else 0.0
            expected += share * np.float32(max(usual, 0.0))
            solid += share
        # The brightest of the neighbours: borders between structures are told to a voxel at best.
        return self.smooth - np.asarray(ndimage.maximum_filter(expected / solid, 3), np.float32)

    def mirrored(self, array: npt.NDArray[np.generic]) -> FloatArray:
        """Return what lies at the mirror image of each voxel."""
        turn = np.eye(4)
        turn[:3, :3] -= 2 * np.outer(self.midline.normal, self.midline.normal)
        turn[:3, 3] = 2 * self.midline.offset * self.midline.normal
        ijk = np.linalg.inv(self.affine) @ turn @ self.affine
        moved = ndimage.affine_transform(
            array.astype(np.float32), ijk[:3, :3][::-1, ::-1], ijk[:3, 3][::-1], order=1, mode="nearest"
        )
        return np.asarray(moved, dtype=np.float32)

    def largest_ml(self, where: BoolArray) -> float:
        """Return the volume of the largest component, mL."""
        labels, count = cc3d.connected_components(where, connectivity=6, return_N=True)
        return float(np.bincount(labels.ravel())[1:].max()) * self.voxel_ml if count else 0.0

    def opened(self, where: BoolArray, radius_mm: float) -> BoolArray:
        """Return the part that balls of a radius fit into."""
        radius = radius_mm / self.edge_mm
        core = np.asarray(ndimage.distance_transform_edt(where) > radius)
        if not core.any():
            return core
        return np.asarray((ndimage.distance_transform_edt(~core) <= radius) & where)


def _halved(array: FloatArray) -> FloatArray:
    """Return the mean of each block of voxels."""
    k, j, i = (n // COARSE for n in array.shape)
    return np.asarray(array.reshape(k, COARSE, j, COARSE, i, COARSE).mean(axis=(1, 3, 5)), dtype=np.float32)


def _box(mask: BoolArray, margin: int) -> tuple[slice, slice, slice]:
    """Return the box of a mask, each edge even."""
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    sides = []
    for of, n in zip(found, mask.shape, strict=True):
        low = max(of.start - margin, 0)
        low -= low % COARSE
        high = min(of.stop + margin, n)
        sides.append(slice(low, high - (high - low) % COARSE))
    return sides[0], sides[1], sides[2]
