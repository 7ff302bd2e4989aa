"""The structures of one brain on the cube, and how far a point is from each of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import Alignment
from pipelines.regions.structures import Structure
from pipelines.types import BoolArray

StructureArray = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
"""Patient positions, mm, LPS, shape (n, 3)."""


@dataclass(frozen=True)
class Midline:
    """The plane between the two halves of a brain.

    Parameters
    ----------
    normal : float64 array, shape (3,)
        Towards the patient's left.
    offset : float
        ``points @ normal - offset`` is how far a point lies to the left of the plane, mm.
    """

    normal: npt.NDArray[np.float64]
    offset: float

    @classmethod
    def of(cls, alignment: Alignment) -> Midline:
        """Return the plane that the symmetry plane of the MNI152 template is moved to."""
        row = np.linalg.inv(alignment.mni_to_patient)[0]
        length = float(np.linalg.norm(row[:3]))
        return cls(row[:3] / length, -float(row[3]) / length)

    def left_mm(self, points: Points) -> npt.NDArray[np.float64]:
        """Return how far points lie to the left, mm; negative to the right."""
        return np.asarray(points @ self.normal - self.offset)


@dataclass(frozen=True)
class BrainMap:
    """Structures of one brain.

    Parameters
    ----------
    structures : uint8 array, shape (k, j, i)
        Values of `Structure`, on the cube or a part of it.
    grid : Grid
        Of these voxels: cubic, k towards the patient's Superior.
    midline : Midline
    """

    structures: StructureArray
    grid: Grid
    midline: Midline

    @property
    def voxel_mm(self) -> float:
        """Edge of a voxel, mm."""
        return self.grid.spacing_mm[0]

    @property
    def superior(self) -> npt.NDArray[np.float64]:
        """Direction towards Superior, LPS."""
        return np.asarray(self.grid.affine[:3, 2] / self.voxel_mm)

    def at(self, points: Points) -> StructureArray:
        """Return the structure at each point; background outside of the map."""
        inverse = np.linalg.inv(self.grid.affine)
        at_kji = np.rint((points @ inverse[:3, :3].T + inverse[:3, 3]).T[::-1]).astype(np.intp)
        inside = ((at_kji >= 0) & (at_kji < np.array(self.structures.shape)[:, None])).all(axis=0)
        found = np.zeros(len(points), np.uint8)
        found[inside] = self.structures[tuple(at_kji[:, inside])]
        return found

    def volume_ml(self, *of: Structure) -> float:
        """Return the volume of structures together, mL."""
        voxels = np.count_nonzero(np.isin(self.structures, of))
        return float(voxels * self.grid.voxel_volume_mm3 / 1000)

    def surface(self, mask: BoolArray) -> Points:
        """Return the centres of the voxels at the surface of a structure."""
        inner = ndimage.binary_erosion(mask)
        return self.grid.positions_lps(np.argwhere(mask & ~inner))

    @functools.cached_property
    def lateral_ventricles(self) -> Points:
        """Surface of the lateral ventricles."""
        return self.surface(self.structures == Structure.LATERAL_VENTRICLE)

    @functools.cached_property
    def cortex(self) -> Points:
        """Surface of the cortex of the cerebrum."""
        return self.surface(self.structures == Structure.CORTEX)

    @functools.cached_property
    def fourth_ventricle(self) -> Points:
        """Voxels of the lower ventricles nearer to the cerebellum than to deep grey, between which the third one lies."""
        lower = self.grid.positions_lps(np.argwhere(self.structures == Structure.LOWER_VENTRICLE))
        if not len(lower):
            return lower
        far = [
            Nearest(self.surface(self.structures == of))(lower)[0]
            for of in (Structure.CEREBELLUM, Structure.DEEP_GREY)
        ]
        return lower[far[0] < far[1]]


class Nearest:
    """Tells how far points are from the nearest of some others; the others are sorted once.

    Parameters
    ----------
    of : float64 array, shape (n, 3)
    """

    def __init__(self, of: Points) -> None:
        self.of = of
        self._tree = cKDTree(of) if len(of) else None

    def __call__(self, points: Points) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
        """Return the distance of each point, mm, and which is nearest; endless where there are none."""
        if self._tree is None:
            return np.full(len(points), np.inf), np.zeros(len(points), np.intp)
        distance, which = self._tree.query(points)
        return np.asarray(distance), np.asarray(which)
