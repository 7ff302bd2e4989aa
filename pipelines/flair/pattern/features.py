"""Features of a lesion mask that tell MS from NMOSD: how many lesions of what size, where in the brain, and of what shape.

Figures of a whole brain, from the mask alone: no intensity of the FLAIR takes part, so that a scan from any scanner says the
same. Places are those of MNI152 through the patient's affine registration, with the patient's own ventricles; the regions are
those of the McDonald criteria and of the comparisons that the priors quote (`pipelines.training.synthetic.priors`).

[ours] None of the papers reads a mask so.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import Alignment
from pipelines.flair.lesions import LabelArray
from pipelines.flair.matthews import (
    ADJACENT_MM,
    Places,
    Points,
    Shape,
    angle_to_ventricle,
    lesion_points,
    places_with,
    shape_of,
    to_mni,
    values_at,
)
from pipelines.types import BoolArray, FloatArray

REGIONS = (
    "deep",
    "periventricular",
    "callosal",
    "juxtacortical",
    "deep grey",
    "midbrain",
    "pons",
    "medulla",
    "cerebellum",
)
HEIGHTS_MM = (-90.0, -40.0, -20.0, 0.0, 15.0, 30.0, 45.0, 100.0)
"""MNI152 S."""
PERIVENTRICULAR_MM = 6.0
CALLOSAL_MM = 9.0
JUXTACORTICAL_MM = 1.5
BAND_MM = 4.0
"""Width of the band along the ventricles that a periependymal lesion fills."""
ELONGATED = 1.4
"""A lesion longer than wide by this factor has a direction,"""
ACROSS_DEGREES, ALONG_DEGREES = 35.0, 60.0
"""which lies this near to the normal of the ventricle's wall, or this far from it."""
LONG_MM, STEEP = 12.0, 0.8
"""A lesion of the corticospinal tract is at least so long, with so much of its direction towards Superior."""
NAMES = (
    *(f"number, {region}" for region in REGIONS),
    *(f"volume, {region}" for region in REGIONS),
    *(f"share, {region}" for region in REGIONS),
    *(f"share, {low:g} to {high:g} mm" for low, high in itertools.pairwise(HEIGHTS_MM)),
    "volume",
    "number",
    "largest",
    "median",
    "share of the largest",
    "filled share of the band along the ventricles",
    "share in the band",
    "across the band",
    "along the band",
    "mean angle to the ventricle",
    "along the tract",
    "longest",
    "share on the lesser side",
)
"""Of the features, in their order; numbers, volumes and lengths as logarithms."""


def pattern_features(
    labels: LabelArray, grid: Grid, alignment: Alignment, fluid: BoolArray | None = None
) -> FloatArray:
    """Return what a lesion mask says of its disease.

    Parameters
    ----------
    labels : int32 array, shape (k, j, i)
        IDs of the lesions on the native grid, 0 elsewhere.
    grid : Grid
        Of the labels.
    alignment : Alignment
        Of the patient's brain to MNI152.
    fluid : bool array, shape of `coarse_grid`, optional
        See `pipelines.flair.matthews.fluid_in_mni`.

    Returns
    -------
    float32 array, shape (len(NAMES),)
        In the order of `NAMES`; zeros without lesions.
    """
    places = places_with(fluid)
    lesions = [
        (number, *lesion_points(labels[box] == number, grid.crop(box)))
        for number, box in enumerate(ndimage.find_objects(labels), start=1)
        if box is not None
    ]
    if not lesions:
        return np.zeros(len(NAMES), np.float32)
    sizes = np.array([volume_mm3 for _, _, volume_mm3 in lesions])
    total = float(sizes.sum())
    points = to_mni(np.concatenate([of for _, of, _ in lesions]), alignment)
    weights = np.concatenate([np.full(len(of), volume / len(of)) for _, of, volume in lesions])
    ends = np.cumsum([len(of) for _, of, _ in lesions])[:-1]
    ventricle_mm = values_at(places.ventricle_mm, points)
    regions = _regions(points, ventricle_mm, values_at(places.cortex_mm, points))
    volumes = np.bincount(regions, weights, len(REGIONS))
    heights = np.histogram(points[:, 2], HEIGHTS_MM, weights=weights)[0]
    left = float(weights[points[:, 0] > 0].sum())
    numbers = np.zeros(len(REGIONS))
    shapes = [shape_of(of, volume_mm3, grid) for _, of, volume_mm3 in lesions]
    near = [float(of.min()) for of in np.split(ventricle_mm, ends)]
    for of, distance in zip(np.split(regions, ends), near, strict=True):
        numbers[_region_of_lesion(np.bincount(of, minlength=len(REGIONS)), distance)] += 1
    angles = [
        angle_to_ventricle(shape, of, places, alignment)
        for shape, of, distance in zip(shapes, np.split(points, ends), near, strict=True)
        if distance <= PERIVENTRICULAR_MM and _elongated(shape)
    ]
    steep = sum(
        distance > PERIVENTRICULAR_MM
        and _elongated(shape)
        and shape.axes_mm[0] >= LONG_MM
        and abs(shape.direction[2]) >= STEEP
        for shape, distance in zip(shapes, near, strict=True)
    )
    return np.array(
        [
            *np.log1p(numbers),
            *np.log1p(volumes / 50),
            *(volumes / total),
            *(heights / total),
            np.log1p(total / 50),
            np.log1p(len(sizes)),
            np.log1p(sizes.max() / 50),
            np.log1p(np.median(sizes) / 10),
            sizes.max() / total,
            _filled_band(points, places),
            weights[ventricle_mm < BAND_MM].sum() / total,
            np.log1p(sum(angle <= ACROSS_DEGREES for angle in angles)),
            np.log1p(sum(angle >= ALONG_DEGREES for angle in angles)),
            np.mean(angles) / 90 if angles else 0.5,
            np.log1p(steep),
            np.log1p(max(shape.axes_mm[0] for shape in shapes)),
            min(left, total - left) / total,
        ],
        dtype=np.float32,
    )


def _elongated(shape: Shape) -> bool:
    return shape.axes_mm[0] >= ELONGATED * shape.axes_mm[1]


def _regions(points: Points, ventricle_mm: FloatArray, cortex_mm: FloatArray) -> npt.NDArray[np.intp]:
    """Return the index in `REGIONS` of points in MNI152, shape (n,); the boxes are those of the training's heads."""
    left, posterior, superior = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    stem = (left < 15) & (posterior > 12) & (posterior < 46) & (superior < -8)
    cerebellum = (posterior > 36) & (superior < -18) & (superior < -12 - (60 - posterior) * 0.2)
    nuclei = (left < 33) & (posterior > -22) & (posterior < 36) & (superior > -12) & (superior < 18)
    chosen = [
        ("midbrain", stem & (superior > -18)),
        ("pons", stem & (superior <= -18) & (superior > -40)),
        ("medulla", stem & (superior <= -40)),
        ("cerebellum", cerebellum),
        ("callosal", (left < 12) & (ventricle_mm < CALLOSAL_MM) & (superior > 4)),
        ("periventricular", ventricle_mm < PERIVENTRICULAR_MM),
        ("juxtacortical", cortex_mm < JUXTACORTICAL_MM),
        ("deep grey", nuclei),
    ]
    names = [REGIONS.index(name) for name, _ in chosen]
    return np.asarray(np.select([where for _, where in chosen], names, REGIONS.index("deep")))


def _region_of_lesion(points_in: npt.NDArray[np.intp], ventricle_mm: float) -> int:
    """Return the region with most of a lesion; a deep one that reaches a ventricle is periventricular."""
    region = int(np.argmax(points_in))
    touches = ventricle_mm <= ADJACENT_MM and REGIONS[region] in ("deep", "juxtacortical", "deep grey")
    return REGIONS.index("periventricular") if touches else region


def _filled_band(points: Points, places: Places) -> float:
    """Return the share of the band along the ventricles that holds a lesion."""
    band = (places.ventricle_mm > 0) & (places.ventricle_mm < BAND_MM)
    return float(band[places.voxels_at(points)].sum() / max(band.sum(), 1))
