"""Region of a lesion, by the structures of the patient's own brain that it touches and lies in.

In this order, by the voxels of the lesion on the native grid:

1. more than half in cerebellum or brainstem, or within 2 mm of the fourth ventricle: infratentorial;
2. more than half in deep grey: deep grey matter, which is no site of the McDonald criteria;
3. touches a lateral ventricle (not the third or fourth one), or more than half in the callosal slab, the white matter up to
   9 mm above the lateral ventricles and 12 mm from the midline: periventricular;
4. touches the cortex, or a fifth or more lies in it: juxtacortical or cortical;
5. else deep white matter.

To touch is to come within a tolerance of the structure's edge: half of the slice distance across the slices, three quarters of
a pixel within them, and nowhere less than 1.5 mm [ours]. A lesion is borderline when half or twice the tolerance gives
another region.

A smooth bright rim of the ventricles and the caps of their horns are normal: what lies for four fifths within 2 mm of the
lateral ventricles and is thinner than 3 mm is no lesion of any region.

References
----------
Filippi et al., Assessment of lesions on magnetic resonance imaging in multiple sclerosis: practical guidelines, Brain
2019;142:1858-1875 (periventricular: in direct contact with the ventricles; the corpus callosum counts).
Filippi et al., MAGNIMS consensus guidelines, Lancet Neurol 2016;15:292-303 (cortical and juxtacortical are one category).
Sze et al., Foci of MRI signal anterior to the frontal horns: histologic correlations of a normal finding, AJNR 1986;7:381-387.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.regions.brain_map import BrainMap, Nearest, Points
from pipelines.regions.structures import Structure
from pipelines.types import BoolArray, Region

LEAST_TOLERANCE_MM = 1.5
IN_SLICE, ACROSS_SLICES = 0.75, 0.5
"""Tolerance, in pixels and slices."""
BORDERLINE = (0.5, 2.0)
"""Factors of the tolerance."""
FOURTH_VENTRICLE_MM = 2.0
CALLOSAL_WIDTH_MM, CALLOSAL_HEIGHT_MM = 12.0, 9.0
MOST_OF, IN_CORTEX = 0.5, 0.2
"""Shares of a lesion."""
RIM_SHARE, RIM_MM, RIM_THICKNESS_MM = 0.8, 2.0, 3.0
PART_MM = 1.5
"""Voxels are divided until their parts are no longer than this, so that a thick slice is in all that it passes through."""


@dataclass(frozen=True)
class Place:
    """Region of a lesion, or of a part of it.

    Parameters
    ----------
    region : Region or None
        None for a normal rim or cap of the ventricles.
    also_reaches : tuple of Region
    borderline : bool
    """

    region: Region | None
    also_reaches: tuple[Region, ...] = ()
    borderline: bool = False


@dataclass(frozen=True)
class Contact:
    """Contacts and shares of a lesion that its region follows from.

    Parameters
    ----------
    ventricle, cortex : float
        Distance from the edge of a lateral ventricle and of the cortex, in tolerances.
    infratentorial, deep_grey, callosal, cortical : float
        Shares of the lesion, in [0, 1].
    rim : bool
        It is a normal rim or cap.
    """

    ventricle: float
    cortex: float
    infratentorial: float
    deep_grey: float
    callosal: float
    cortical: float
    rim: bool = False

    def regions(self, factor: float = 1.0) -> tuple[Region, tuple[Region, ...]]:
        """Return the region at a multiple of the tolerance, and the regions that are reached beside it."""
        cortical = self.cortex <= factor or self.cortical >= IN_CORTEX
        if self.infratentorial > MOST_OF:
            return "infratentorial", ()
        if self.deep_grey > MOST_OF:
            return "deep_grey_matter", ()
        if self.ventricle <= factor or self.callosal > MOST_OF:
            return "periventricular", ("juxtacortical",) if cortical else ()
        return ("juxtacortical" if cortical else "deep_white_matter"), ()

    def place(self) -> Place:
        """Return what the rules say."""
        if self.rim:
            return Place(None)
        region, also = self.regions()
        return Place(region, also, any(self.regions(factor)[0] != region for factor in BORDERLINE))


def tolerance_mm(spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Return the tolerance within slices and across them, mm, for a spacing along k, j and i."""
    slices, *pixels = spacing_mm
    return max(LEAST_TOLERANCE_MM, IN_SLICE * max(pixels)), max(LEAST_TOLERANCE_MM, ACROSS_SLICES * slices)


class Surroundings:
    """The structures of a brain as the lesions of one image meet them.

    Parameters
    ----------
    brain : BrainMap
    grid : Grid
        Of the image.
    """

    def __init__(self, brain: BrainMap, grid: Grid) -> None:
        self.brain = brain
        self.grid = grid
        self.in_slice_mm, across_mm = tolerance_mm(grid.spacing_mm)
        normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
        normal /= np.linalg.norm(normal)
        # Distances across the slices are shrunk until one tolerance serves in all directions.
        self._shrink = np.eye(3) - (1 - self.in_slice_mm / across_mm) * np.outer(normal, normal)
        self._ventricles = Nearest(brain.lateral_ventricles @ self._shrink)
        self._cortex = Nearest(brain.cortex @ self._shrink)
        self._ventricles_mm = Nearest(brain.lateral_ventricles)
        self._fourth_mm = Nearest(brain.fourth_ventricle)

    def contact(self, lesion: BoolArray, first_kji: tuple[int, int, int]) -> Contact:
        """Return the contacts of a lesion.

        Parameters
        ----------
        lesion : bool array, shape (k, j, i)
            In a box around it, of the native grid.
        first_kji : three integers
            Voxel of the native grid that the box begins at.
        """
        voxels = np.argwhere(lesion) + np.array(first_kji)
        centres = self.grid.positions_lps(voxels)
        points = self._points(voxels)
        told = self.brain.at(points)
        ventricle_mm, nearest = self._ventricles_mm(points)
        callosal = (told == Structure.WHITE) & (
            np.abs(self.brain.midline.left_mm(points)) < CALLOSAL_WIDTH_MM
        )
        callosal &= ventricle_mm <= CALLOSAL_HEIGHT_MM
        if len(self._ventricles_mm.of):
            above = (points - self._ventricles_mm.of[nearest]) @ self.brain.superior
            callosal &= above > np.abs(ventricle_mm) / 2
        fourth_mm, _ = self._fourth_mm(points)
        below = np.isin(told, (Structure.CEREBELLUM, Structure.BRAINSTEM)) | (
            self._to_edge(fourth_mm) <= FOURTH_VENTRICLE_MM
        )
        return Contact(
            ventricle=self._tolerances(centres, self._ventricles, Structure.LATERAL_VENTRICLE),
            cortex=self._tolerances(centres, self._cortex, Structure.CORTEX),
            infratentorial=float(below.mean()),
            deep_grey=float((told == Structure.DEEP_GREY).mean()),
            callosal=float(callosal.mean()),
            cortical=float((told == Structure.CORTEX).mean()),
            rim=float((self._to_edge(ventricle_mm) <= RIM_MM).mean()) > RIM_SHARE
            and thickness_mm(lesion, self.grid.spacing_mm) < RIM_THICKNESS_MM,
        )

    def _tolerances(self, centres: Points, surface: Nearest, structure: Structure) -> float:
        """Return how near the nearest voxel of a lesion comes to a structure, in tolerances."""
        if (self.brain.at(centres) == structure).any():
            return 0.0
        distance, _ = surface(centres @ self._shrink)
        return float(self._to_edge(distance).min() / self.in_slice_mm)

    def _to_edge(self, distance_mm: Points) -> Points:
        return np.maximum(distance_mm - self.brain.voxel_mm / 2, 0.0)

    def _points(self, voxels: npt.NDArray[np.intp]) -> Points:
        """Return the centres of the parts that voxels are divided into across the slices."""
        parts = max(1, int(np.ceil(self.grid.spacing_mm[0] / PART_MM)))
        shifts = np.zeros((parts, 3))
        shifts[:, 0] = (np.arange(parts) + 0.5) / parts - 0.5
        return self.grid.positions_lps((voxels[:, None] + shifts).reshape(-1, 3))


def thickness_mm(lesion: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """Return the thickness of a lesion within its slices where it is thickest, mm."""
    pixels = spacing_mm[1:]
    deepest = max(
        float(ndimage.distance_transform_edt(np.pad(inside, 1), sampling=pixels).max()) for inside in lesion
    )
    return 2 * deepest - float(np.mean(pixels))
