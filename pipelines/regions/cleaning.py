"""Structures made good where a lesion or a speck of another brightness has misled the network."""

from __future__ import annotations

import cc3d
import numpy as np
from scipy import ndimage

from pipelines.brain.grid import Grid, resample
from pipelines.regions.brain_map import StructureArray
from pipelines.regions.structures import Structure
from pipelines.types import BoolArray

LEAST_ML = {
    Structure.LATERAL_VENTRICLE: 0.1,
    Structure.CORTEX: 5.0,
    Structure.DEEP_GREY: 1.0,
    Structure.CEREBELLUM: 10.0,
    Structure.BRAINSTEM: 3.0,
}
"""Pieces of a structure that are smaller than this become white matter: its parts are few and large."""


def on_map(lesions: BoolArray, image: Grid, grid: Grid) -> BoolArray:
    """Return where the lesions of an image lie on the grid of the structures."""
    return np.asarray(resample(lesions, image, grid, order=0) > 0.5)


def cleaned(structures: StructureArray, lesions: BoolArray, voxel_mm3: float) -> StructureArray:
    """Return the structures without what lesions look like, and without pieces too small to be what they are called.

    Bright lesions in white matter look like grey: within a lesion there is no cortex, and deep grey only where the tissue
    around is deep grey. Cerebellum and brainstem stay what they are.

    Parameters
    ----------
    structures : uint8 array, shape (k, j, i)
        Values of `Structure`.
    lesions : bool array, shape (k, j, i)
    voxel_mm3 : float
    """
    result = structures.copy()
    result[lesions & (structures == Structure.CORTEX)] = Structure.WHITE
    _surrounded(result, lesions)
    for structure, least_ml in LEAST_ML.items():
        pieces, count = cc3d.connected_components(result == structure, connectivity=6, return_N=True)
        small = np.bincount(pieces.ravel(), minlength=count + 1) * voxel_mm3 < least_ml * 1000
        small[0] = False
        result[small[pieces]] = Structure.WHITE
    return result


def _surrounded(structures: StructureArray, lesions: BoolArray) -> None:
    """Give deep grey within lesions the name of the nearest white matter or deep grey outside of them, in place."""
    doubtful = lesions & (structures == Structure.DEEP_GREY)
    known = ~lesions & np.isin(structures, (Structure.WHITE, Structure.DEEP_GREY))
    for box in ndimage.find_objects(ndimage.label(doubtful)[0]):
        wide = tuple(slice(max(0, of.start - 12), of.stop + 12) for of in box)
        if not known[wide].any():
            continue
        nearest = ndimage.distance_transform_edt(~known[wide], return_distances=False, return_indices=True)
        part, which = structures[wide], doubtful[wide]
        part[which] = part[tuple(nearest)][which]
