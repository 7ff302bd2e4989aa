"""Confluent lesions divided into the parts that a reader counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from pipelines.types import BoolArray

CONFLUENT_MM3 = 500.0
"""A lesion above it is divided."""
WAIST_MM = 1.5
"""Two parts are told apart where the waist between them is narrower than both by this."""

PartArray = npt.NDArray[np.int32]


def parts_of(lesion: BoolArray, spacing_mm: tuple[float, float, float]) -> PartArray:
    """Return the number of the part of each voxel of a lesion, from 1; 0 outside.

    A lesion above `CONFLUENT_MM3` is divided by the watershed of the distance to its border, each part a bulge of it.

    Parameters
    ----------
    lesion : bool array, shape (k, j, i)
        In a box around it.
    spacing_mm : three floats
        Along k, j and i.

    References
    ----------
    Beare and Lehmann, The watershed transform in ITK, Insight Journal 2006.
    """
    if np.count_nonzero(lesion) * float(np.prod(spacing_mm)) <= CONFLUENT_MM3:
        return lesion.astype(np.int32)
    inside = np.pad(lesion, 1)
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    basins = sitk.GetArrayFromImage(
        sitk.MorphologicalWatershed(
            sitk.GetImageFromArray(-depth.astype(np.float32)),
            WAIST_MM,
            markWatershedLine=False,
            fullyConnected=True,
        )
    )[1:-1, 1:-1, 1:-1]
    _, parts = np.unique(np.where(lesion, basins, 0), return_inverse=True)
    numbered = parts.reshape(lesion.shape).astype(np.int32)
    return numbered + np.int32(1 - numbered[lesion].min()) * lesion
