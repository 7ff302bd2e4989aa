"""Removes the slow shading of the receive coils by N4.

References
----------
Tustison et al., N4ITK: improved N3 bias correction, IEEE Trans Med Imaging 2010.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from pipelines.types import BoolArray, FloatArray

SHRUNK_SPACING_MM = 5.0
"""The field is found on voxels of about this size and evaluated on the full grid; the finest pieces of its spline are some
40 mm long."""
ITERATIONS = (30, 20, 10)
"""At most, on control point meshes that double from level to level."""


def shrink_factors(shape_kji: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> list[int]:
    """Return by how much to shrink each axis, in sitk's order (i, j, k): fine pixels most, thick slices less or not at all."""
    wanted = [max(1, round(SHRUNK_SPACING_MM / s)) for s in spacing_mm]
    return [min(f, max(1, n // 4)) for f, n in zip(wanted, shape_kji, strict=True)][::-1]


def correct_bias(array: FloatArray, mask: BoolArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Return the array divided by its bias field.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    mask : bool array, shape (k, j, i)
        Where the field is estimated; it is smooth and reaches beyond.
    spacing_mm : three floats
        Along k, j and i.

    Returns
    -------
    float32 array, shape (k, j, i)
        Same scale as before inside the mask, never negative.
    """
    inside = array[mask]
    floor = max(float(np.percentile(inside, 99)) * 1e-3, 1e-6)
    positive = np.maximum(array, np.float32(floor))
    image = sitk.GetImageFromArray(positive)
    image.SetSpacing(spacing_mm[::-1])
    region = sitk.GetImageFromArray(mask.astype(np.uint8))
    region.CopyInformation(image)
    factors = shrink_factors(array.shape, spacing_mm)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(list(ITERATIONS))
    n4.Execute(sitk.Shrink(image, factors), sitk.Shrink(region, factors))
    log_bias = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    log_bias -= log_bias[mask].mean()
    return np.asarray(positive / np.exp(log_bias), dtype=np.float32)
