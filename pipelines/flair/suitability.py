"""Suitability of a series as FLAIR of a whole brain, judged before any lesion model sees it.

Each check returns a `Verdict`: a reason to refuse, in one line, or warnings, or neither. A missing attribute only
warns, because the pixels are judged as well.

References
----------
DICOM PS3.3 C.8.3.1 (InversionTime, EchoTime)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from pipelines.brain.grid import Grid, resample
from pipelines.brain.mni_space import Alignment, brain_height_mm, coarse_grid, overlap, template
from pipelines.flair.intensity import brain_mode
from pipelines.stages import Verdict, attribute
from pipelines.types import BoolArray, FloatArray, Volume

INVERSION_TIME_MS = (1500.0, 2900.0)
ECHO_TIME_MIN_MS = 70.0
SPACING_MAX_MM = 6.0
SPACING_WARN_MM = 3.0
SPACING_TOLERANCE_MM = 0.05
HEIGHT_MIN_MM = 100.0
HEIGHT_WARN_MM = 120.0
OVERLAP_MIN = 0.85
"""Dice of brain mask and registered template; 0.95 to 0.97 on heads that fit."""
FLUID_MAX = 0.9
"""Lower quartile in the ventricles over white matter; FLAIR 0.1 to 0.5, T2 above 1.8."""
GREY_MIN = 0.96
"""Mode of cortex over that of white matter; FLAIR 1.03 to 1.24, T1 0.77 to 0.89, slices of 1 to 6 mm."""


def check_protocol(attributes: Mapping[str, object]) -> Verdict:
    """Judge inversion and echo time where they are given."""
    low, high = INVERSION_TIME_MS
    inversion_ms = attribute(attributes, "InversionTime")
    echo_ms = attribute(attributes, "EchoTime")
    if inversion_ms is not None and not low <= inversion_ms <= high:
        return Verdict(f"not FLAIR: inversion time {inversion_ms:g} ms is outside {low:g} to {high:g} ms")
    if echo_ms is not None and echo_ms < ECHO_TIME_MIN_MS:
        return Verdict(f"not FLAIR: echo time {echo_ms:g} ms is below {ECHO_TIME_MIN_MS:g} ms")
    given = {"inversion time": inversion_ms, "echo time": echo_ms}
    return Verdict(warnings=tuple(f"{name} not given" for name, value in given.items() if value is None))


def check_geometry(volume: Volume) -> Verdict:
    """Judge shape and slice distance."""
    if volume.array.ndim != 3 or min(volume.array.shape) < 2:
        return Verdict(f"not a volume: shape {'x'.join(str(n) for n in volume.array.shape)}")
    distance_mm = max(volume.spacing_mm)
    if not np.isfinite(distance_mm) or min(volume.spacing_mm) <= 0.0:
        return Verdict("not a volume: the distance between voxels is zero or not a number")
    if distance_mm > SPACING_MAX_MM + SPACING_TOLERANCE_MM:
        return Verdict(
            f"slices are {distance_mm:.1f} mm apart; at most {SPACING_MAX_MM:g} mm can be analysed"
        )
    if distance_mm > SPACING_WARN_MM + SPACING_TOLERANCE_MM:
        return Verdict(warnings=(f"slices are {distance_mm:.1f} mm apart: small lesions may be missed",))
    return Verdict()


def check_brain(mask: BoolArray, grid: Grid, alignment: Alignment) -> Verdict:
    """Judge how much brain there is and whether it lies where the template says."""
    height_mm = brain_height_mm(alignment, mask, grid)
    if height_mm < HEIGHT_MIN_MM:
        return Verdict(f"only {height_mm:.0f} mm of brain in height; {HEIGHT_MIN_MM:g} mm are needed")
    if overlap(alignment, mask, grid) < OVERLAP_MIN:
        return Verdict("the brain could not be aligned to the MNI template")
    if height_mm < HEIGHT_WARN_MM:
        return Verdict(warnings=(f"only {height_mm:.0f} mm of brain in height: part of it is missing",))
    return Verdict()


@functools.lru_cache(maxsize=1)
def _tissue_regions() -> tuple[BoolArray, BoolArray, BoolArray]:
    """Return ventricles, cortex and deep white matter on the template's coarse grid, clear of their borders."""
    reference = template()
    deep = ndimage.binary_erosion(reference.brain, iterations=25)
    fluid = deep & (reference.grey < 0.2) & (reference.white < 0.2)
    white = ndimage.binary_erosion(reference.white > 0.9, iterations=2)
    white &= ndimage.binary_erosion(reference.brain, iterations=12)
    fluid, grey, white = (r[::2, ::2, ::2].copy() for r in (fluid, reference.grey > 0.85, white))
    return fluid, grey, white


def check_contrast(corrected: FloatArray, mask: BoolArray, grid: Grid, alignment: Alignment) -> Verdict:
    """Judge by the pixels whether fluid is dark, as on FLAIR and T1, and cortex is not, as on FLAIR and T2.

    Tissue is judged by its mode: lesions move the median of white matter, and thick slices bring fluid into that of cortex.

    Parameters
    ----------
    corrected : float32 array, shape (k, j, i)
        Without bias field.
    mask : bool array, shape (k, j, i)
        Brain.
    grid : Grid
        Of both.
    alignment : Alignment
    """
    space = coarse_grid()
    values = resample(corrected, grid, space, transform=alignment.mni_to_patient)
    inside = resample(mask, grid, space, transform=alignment.mni_to_patient) > 0.5
    fluid, grey, white = (values[region & inside] for region in _tissue_regions())
    if min(fluid.size, grey.size, white.size) < 60:
        return Verdict("ventricles and white matter are not in the volume")
    reference = max(brain_mode(white), 1e-6)
    fluid_ratio = float(np.percentile(fluid, 25)) / reference
    grey_ratio = brain_mode(grey) / reference
    if fluid_ratio > FLUID_MAX:
        return Verdict(f"not FLAIR: cerebrospinal fluid is not dark ({fluid_ratio:.1f} times white matter)")
    if grey_ratio < GREY_MIN:
        return Verdict(f"not FLAIR: grey matter is darker than white matter ({grey_ratio:.2f} times)")
    return Verdict()
