"""Suitability of a series as FLAIR of a whole brain, judged before any lesion model sees it.

Each check returns a `Verdict`: a reason to refuse, in one line, or warnings, or neither. A missing attribute only
warns, because the pixels are judged as well.

References
----------
DICOM PS3.3 C.8.3.1 (InversionTime, EchoTime)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid, resample
from pipelines.brain.mni_space import Alignment, brain_height_mm, coarse_grid, overlap, template
from pipelines.flair.intensity import brain_mode
from pipelines.stages import Verdict, attribute
from pipelines.types import BoolArray, FloatArray, Volume

IntArray = npt.NDArray[np.int32]
INVERSION_TIME_MS = (1500.0, 2900.0)
ECHO_TIME_MIN_MS = 70.0
DOUBLE_INVERSION = re.compile(r"(?<![a-z])(dir|double[\W_]*(inversion|ir))(?![a-z])", re.IGNORECASE)
"""Double inversion has the times of a FLAIR and dark fluid too; only its name, and its dark white matter, tell."""
NAMES = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
SPACING_MAX_MM = 8.5
SPACING_COARSE_MM = 6.0
SPACING_WARN_MM = 3.0
SPACING_TOLERANCE_MM = 0.05
HEIGHT_MIN_MM = 100.0
HEIGHT_WARN_MM = 120.0
OVERLAP_MIN = 0.85
"""Dice of brain mask and registered template; 0.95 to 0.97 on heads that fit."""
COARSE = (
    "small lesions may be missed: in ten scans with slices of 6.4 to 8.1 mm 69 % of the lesions' volume was drawn, and "
    "72 % of what was drawn was lesion"
)
"""What is lost at more than `SPACING_COARSE_MM`, as measured by folds over patients whose lesions experts drew."""


@dataclass(frozen=True)
class Limit:
    """Limit of a ratio that the pixels give, and how far beyond it only a doubt begins.

    Parameters
    ----------
    suits : float
        On its good side a FLAIR is not doubted.
    clear : float
        Beyond it no times of the protocol can speak for a FLAIR any more.
    """

    suits: float
    clear: float


DARKEST_SHARE = 20.0
"""Per cent of the voxels where the template has its ventricles: narrow ones leave tissue in the rest of them."""
FLUID_MAX = Limit(0.7, 0.85)
"""Brightest of the darkest fluid over white matter: 0.10 to 0.63 on 32 real FLAIR, T2 1.0 to 4, proton density 0.75 to 1."""
GREY_MIN = Limit(0.96, 0.9)
"""Cortex over white matter in the quarter of the brain's parts where it is highest: lesions brighten white matter, and these
parts have the fewest. FLAIR 1.02 to 1.32, T1 0.53 to 0.88, slices of 1 to 8 mm."""
GREY_MAX = Limit(1.45, 1.8)
"""The same where it is highest: double inversion, which nulls white matter, has 2 to 5."""
PART_MM = 40.0
PART_QUARTILE = 75.0
PART_VOXELS = 150
"""Of cortex and of white matter, without which a part of the brain is not judged."""
BRIGHTEST_LEFT = 90.0
"""Per cent of a part's white matter that is looked at: not the brightest voxels, which are lesions."""
FLUID_SHARE = 0.6
"""Below this share of its median a voxel of white matter or cortex is fluid, or mixed with it."""


def check_protocol(attributes: Mapping[str, object]) -> Verdict:
    """Judge inversion and echo time where they are given, and the names by what only a name tells."""
    if any(DOUBLE_INVERSION.search(str(attributes.get(key) or "")) for key in NAMES):
        return Verdict("not FLAIR: its name says double inversion recovery")
    low, high = INVERSION_TIME_MS
    inversion_ms = attribute(attributes, "InversionTime")
    echo_ms = attribute(attributes, "EchoTime")
    if inversion_ms is not None and not low <= inversion_ms <= high:
        return Verdict(f"not FLAIR: inversion time {inversion_ms:g} ms is outside {low:g} to {high:g} ms")
    if echo_ms is not None and echo_ms < ECHO_TIME_MIN_MS:
        return Verdict(f"not FLAIR: echo time {echo_ms:g} ms is below {ECHO_TIME_MIN_MS:g} ms")
    given = {"inversion time": inversion_ms, "echo time": echo_ms}
    return Verdict(warnings=tuple(f"{name} not given" for name, value in given.items() if value is None))


def protocol_fits(attributes: Mapping[str, object]) -> bool:
    """Tell whether inversion and echo time are both given and are those of a FLAIR."""
    verdict = check_protocol(attributes)
    return not verdict.reason and not verdict.warnings


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
    if distance_mm > SPACING_COARSE_MM + SPACING_TOLERANCE_MM:
        return Verdict(warnings=(f"slices are {distance_mm:.1f} mm apart: {COARSE}",))
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
def _tissue_regions() -> tuple[BoolArray, BoolArray, BoolArray, IntArray]:
    """Return ventricles, cortex, white matter and parts of the brain (0 outside) on the template's coarse grid.

    Each tissue is clear of its borders; the parts are cubes of 40 mm.
    """
    reference = template()
    deep = ndimage.binary_erosion(reference.brain, iterations=25)
    fluid = deep & (reference.grey < 0.2) & (reference.white < 0.2)
    white = ndimage.binary_erosion(reference.white > 0.9, iterations=2)
    white &= ndimage.binary_erosion(reference.brain, iterations=6)
    fluid, grey, white = (r[::2, ::2, ::2].copy() for r in (fluid, reference.grey > 0.85, white))
    space = coarse_grid()
    at = space.positions_lps(np.moveaxis(np.indices(space.shape_kji), 0, -1))
    cube = np.floor((at + np.array([0.0, 10.0, 0.0])) / PART_MM).astype(np.int64) @ np.array([10000, 100, 1])
    parts = 1 + np.unique(cube, return_inverse=True)[1].reshape(space.shape_kji)
    return fluid, grey, white, np.where(reference.brain[::2, ::2, ::2], parts, 0).astype(np.int32)


def check_contrast(
    corrected: FloatArray, mask: BoolArray, grid: Grid, alignment: Alignment, *, protocol: bool = False
) -> Verdict:
    """Judge by the pixels whether fluid is dark, as on FLAIR and T1, and cortex is not, as on FLAIR and T2.

    Tissue is judged by its mode, without fluid and without the brightest voxels, in parts of the brain of which those with the
    fewest lesions decide; fluid by its darkest part, since template and patient have ventricles of different width.

    Parameters
    ----------
    corrected : float32 array, shape (k, j, i)
        Without bias field.
    mask : bool array, shape (k, j, i)
        Brain.
    grid : Grid
        Of both.
    alignment : Alignment
    protocol : bool
        Inversion and echo time are given and fit: a doubt near a limit is a warning then.
    """
    space = coarse_grid()
    values = resample(corrected, grid, space, transform=alignment.mni_to_patient)
    inside = resample(mask, grid, space, transform=alignment.mni_to_patient) > 0.5
    fluid, grey, white, parts = _tissue_regions()
    ratios = _grey_over_white(values, grey & inside, white & inside, parts)
    if min((region & inside).sum() for region in (fluid, grey, white)) < 60 or not len(ratios):
        return Verdict("ventricles and white matter are not in the volume")
    reference = max(brain_mode(_tissue(values[white & inside])), 1e-6)
    dark = float(np.percentile(values[fluid & inside], DARKEST_SHARE)) / reference
    high = float(np.percentile(ratios, PART_QUARTILE))
    doubts = (
        (f"cerebrospinal fluid is not dark ({dark:.1f} times white matter)", dark, FLUID_MAX),
        (f"grey matter is darker than white matter ({high:.2f} times)", -high, _negative(GREY_MIN)),
        (f"white matter is darker than in any FLAIR (grey matter {high:.2f} times)", high, GREY_MAX),
    )
    warnings = []
    for said, value, limit in doubts:
        if value > limit.clear or (value > limit.suits and not protocol):
            return Verdict(f"not FLAIR: {said}")
        if value > limit.suits:
            warnings.append(f"{said}; analysed as FLAIR, since inversion and echo time are those of one")
    return Verdict(warnings=tuple(warnings))


def _grey_over_white(
    values: FloatArray, grey: BoolArray, white: BoolArray, parts: IntArray
) -> npt.NDArray[np.float64]:
    """Return the mode of cortex over that of white matter in each part of the brain that has enough of both."""
    found = []
    for part in range(1, int(parts.max()) + 1):
        here = parts == part
        cortex, own = values[here & grey], values[here & white]
        if min(cortex.size, own.size) >= PART_VOXELS:
            found.append(brain_mode(_tissue(cortex)) / max(brain_mode(_tissue(own)), 1e-6))
    return np.array(found, dtype=np.float64)


def _tissue(values: FloatArray) -> FloatArray:
    """Return the values of a tissue without fluid and without the brightest."""
    low, high = FLUID_SHARE * np.median(values), np.percentile(values, BRIGHTEST_LEFT)
    return values[(values >= low) & (values <= high)]


def _negative(limit: Limit) -> Limit:
    return Limit(-limit.suits, -limit.clear)
