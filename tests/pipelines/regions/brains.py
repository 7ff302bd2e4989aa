"""A brain of boxes, as small as the rules allow."""

from __future__ import annotations

import numpy as np

from pipelines.brain.grid import Grid
from pipelines.regions.brain_map import BrainMap, Midline
from pipelines.regions.structures import Structure
from pipelines.types import BoolArray, Lesion

EDGE, VOXEL_MM = 60, 1.0
MIDLINE = Midline(np.array([1.0, 0.0, 0.0]), 30.0)


def grid(slice_mm: float = 1.0) -> Grid:
    """Grid over the whole brain, with axial slices of a thickness."""
    affine = np.diag([VOXEL_MM, VOXEL_MM, slice_mm, 1.0])
    affine[2, 3] = (slice_mm - VOXEL_MM) / 2
    return Grid((round(EDGE / slice_mm), EDGE, EDGE), affine)


def brain() -> BrainMap:
    """White matter under cortex, lateral ventricles at both sides of the midline, deep grey, cerebellum, fourth ventricle."""
    structures = np.full((EDGE, EDGE, EDGE), Structure.CORTEX, np.uint8)
    structures[3:-3, 3:-3, 3:-3] = Structure.WHITE
    structures[30:40, 20:40, 24:28] = Structure.LATERAL_VENTRICLE
    structures[30:40, 20:40, 33:37] = Structure.LATERAL_VENTRICLE
    structures[24:30, 26:34, 29:31] = Structure.LOWER_VENTRICLE
    structures[22:30, 20:40, 18:28] = Structure.DEEP_GREY
    structures[3:14, 30:57, 10:50] = Structure.CEREBELLUM
    structures[8:12, 27:30, 28:32] = Structure.LOWER_VENTRICLE
    structures[3:14, 20:27, 25:36] = Structure.BRAINSTEM
    return BrainMap(structures, grid(), MIDLINE)


def ball(k: int, j: int, i: int, radius_mm: float, on: Grid | None = None) -> BoolArray:
    """Lesion around a point, mm."""
    on = on or grid()
    z, y, x = on.positions_lps(np.stack(np.indices(on.shape_kji), -1))[..., ::-1].transpose(3, 0, 1, 2)
    return np.asarray((z - k) ** 2 + (y - j) ** 2 + (x - i) ** 2 <= radius_mm**2)


def lesion(number: int, mask: BoolArray, on: Grid | None = None) -> Lesion:
    """Lesion of a mask, before it is sorted."""
    volume_mm3 = float(mask.sum()) * (on or grid()).voxel_volume_mm3
    return Lesion(number, "Lesion", volume_mm3, (0.0, 0.0, 0.0), 0.9, (0, 0))
