"""Signs of the mask that what it holds is not like demyelination: foremost that one large component is most of it.

Demyelination comes as many lesions, and the largest is flat along a ventricle: on real scans with up to 100 mL no component is
thicker than 7.2 mm (the radius of the largest ball that fits into it), and one above 10 mL has a quarter or more of its border
at a ventricle. Tumours, infarcts and bleeds are round or fill a territory, and a ventricle touches them at most in passing: so
contact is told by its share of the border, not by one voxel. The limits were set on synthetic heads 01 to 08; the figures
named are of 60 such heads with MS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
from scipy import ndimage

from pipelines.flair.coarse_brain import CoarseBrain
from pipelines.flair.signs_in_image import above
from pipelines.regions.structures import Structure
from pipelines.types import BoolArray, NotTypical

MOST: Final = 0.6
"""Share of the load that one component is. Thick components of heads with MS are mostly at or below 0.56."""
THICK_MM, ROUND = 8.0, 0.55
"""Radius of the largest ball inside, and that over the radius of a ball of the same volume. Heads with MS, among components
that are most of the load: up to 7.2 mm where as round as this, and 0.51 round where thicker."""
ISOLATED_ML, CONTACT_SHARE, CONTACT_MM = 10.0, 0.02, 3.7
"""A component that has less than this share of its border within so much of a ventricle. Heads with MS: 4.6 mL as most of
the load; 15 and 21 mL beside other large lesions."""
TERRITORY_ML, CORTEX_SHARE, TERRITORY_SHARE, ALONE = 10.0, 0.2, 0.75, 0.9
"""A territory of a vessel: this share is cortex, it is this share of the load, and this share of it has nothing drawn near its
mirror image. Heads with MS: 0.17 cortex, or 0.71 of the load, or 0.80 alone."""
RIM_CM2, RIM_SHARE, RIM_MM = 8.0, 0.15, 4.0
"""Surface of the brain within so much of a component, and the share of the component's border that lies there. Heads with
MS, as most of the load: 17.6 cm2 with 0.10 of the border, else 7.6 cm2. Real scans: none."""
FLUID, FLUID_ML, _FULLY = -1.0, 1.5, 0.9
"""Darker than 0.8 times white matter inside of the mask: fluid or blood. Heads with MS and real scans: none."""
_NEAR_VOXELS: Final = 2


@dataclass(frozen=True)
class _Component:
    """The largest component of a mask.

    ``thick_mm`` is the radius of the largest ball inside it, ``load_share`` its share of the whole mask.
    """

    inside: BoolArray
    border: BoolArray
    volume_ml: float
    thick_mm: float
    load_share: float

    @property
    def roundness(self) -> float:
        """Radius of the largest ball inside, over that of a ball of the same volume."""
        return self.thick_mm / float(np.cbrt(3000 * self.volume_ml / (4 * np.pi)))


def signs_in_mask(coarse: CoarseBrain) -> tuple[NotTypical, ...]:
    """Return the signs of a mask; none where nothing is drawn."""
    found = [_fluid_drawn(coarse)]
    largest = _largest(coarse)
    if largest is not None and largest.load_share > MOST:
        found += [sign(coarse, largest) for sign in (_compact, _isolated, _territory, _rim)]
    return tuple(sign for sign in found if sign is not None)


def _largest(coarse: CoarseBrain) -> _Component | None:
    mask = coarse.drawn > 0.5
    labels, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    if not count:
        return None
    volumes_ml = np.bincount(labels.ravel())[1:] * coarse.voxel_ml
    largest = int(volumes_ml.argmax())
    inside = np.asarray(labels == largest + 1)
    return _Component(
        inside,
        np.asarray(inside & ~ndimage.binary_erosion(mask)),
        float(volumes_ml[largest]),
        float(ndimage.distance_transform_edt(np.pad(inside, 1)).max()) * coarse.edge_mm,
        float(volumes_ml[largest]) / (float(coarse.drawn.sum()) * coarse.voxel_ml),
    )


def _compact(coarse: CoarseBrain, of: _Component) -> NotTypical | None:
    """Return the thickness of the component, where it is round and too thick."""
    if of.roundness <= ROUND:
        return None
    return above("compact lesion", "one thick round component, most of all", of.thick_mm, "mm", THICK_MM)


def _isolated(coarse: CoarseBrain, of: _Component) -> NotTypical | None:
    """Return the volume of the component, where no ventricle touches it and it is too large."""
    if coarse.structures is None or (coarse.ventricle_mm <= CONTACT_MM)[of.border].mean() >= CONTACT_SHARE:
        return None
    return above(
        "isolated lesion", "one component without contact to a ventricle", of.volume_ml, "mL", ISOLATED_ML
    )


def _territory(coarse: CoarseBrain, of: _Component) -> NotTypical | None:
    """Return the volume of the component, where it holds cortex and white matter of one side alone and is too large."""
    if coarse.structures is None or of.load_share <= TERRITORY_SHARE:
        return None
    cortex = float(coarse.structures[Structure.CORTEX][of.inside].mean())
    near = ndimage.binary_dilation(coarse.drawn > 0.5, iterations=_NEAR_VOXELS)
    alone = float((coarse.mirrored(near) <= 0.5)[of.inside].mean())
    if cortex <= CORTEX_SHARE or alone <= ALONE:
        return None
    return above(
        "one territory",
        "cortex and white matter of one side in one component",
        of.volume_ml,
        "mL",
        TERRITORY_ML,
    )


def _rim(coarse: CoarseBrain, of: _Component) -> NotTypical | None:
    """Return how much of the brain's surface the component touches, where that is too much of its border too."""
    at_surface = coarse.depth_mm <= RIM_MM
    if at_surface[of.border].mean() <= RIM_SHARE:
        return None
    # Depth is measured to the next voxel outside, so that the limit holds one layer of voxels.
    area_cm2 = float(np.count_nonzero(at_surface & of.inside)) * coarse.edge_mm**2 / 100
    return above("surface", "one component along the surface of the brain", area_cm2, "cm2", RIM_CM2)


def _fluid_drawn(coarse: CoarseBrain) -> NotTypical | None:
    """Return the largest fluid inside of the mask, where there is too much of it."""
    fluid = (coarse.smooth < FLUID) & (coarse.drawn > _FULLY) & coarse.brain
    if coarse.structures is not None:
        fluid &= ~np.asarray(ndimage.binary_dilation(coarse.ventricle))
    return above(
        "fluid in a lesion",
        "signal of fluid inside of what was outlined",
        coarse.largest_ml(fluid),
        "mL",
        FLUID_ML,
    )
