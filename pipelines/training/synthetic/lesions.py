"""Lesions drawn into a head as the priors of a disease ask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.anatomy import Anatomy, Tissue
from pipelines.training.synthetic.artefacts import smooth_field
from pipelines.training.synthetic.lesion_masks import mask_height, solid_tissue
from pipelines.training.synthetic.priors import (
    HEIGHT_SHARES,
    HEIGHTS_MM,
    PRIORS,
    SATELLITES,
    Label,
    count_of,
    draw_regions,
    load_at,
    sizes_mm3,
    speck_sizes_mm3,
)
from pipelines.types import BoolArray, FloatArray

APART_MM = 2.5
"""Distance of a deep lesion from ventricle and cortex: what touches them is read as periventricular or juxtacortical."""
_TRIES = 12


class Drawn(NamedTuple):
    """The lesions of one patient.

    Parameters
    ----------
    lesions : int16 array, shape (k, j, i)
        0, or the number of the counted lesion, from 1; its specks have its number.
    kinds : list of str
        Of `priors.KINDS`, that of lesion 1 first.
    """

    lesions: npt.NDArray[np.int16]
    kinds: list[str]


def places(anatomy: Anatomy) -> dict[str, npt.NDArray[np.int32]]:
    """Return for each region the flat indices of the voxels where a lesion's centre may lie."""
    labels = anatomy.labels
    superior, _, left = anatomy.mni_axes()
    white = (labels == Tissue.WHITE) | (labels == Tissue.BRIGHT_TRACT) | (labels == Tissue.CAP)
    stem = labels == Tissue.BRAINSTEM
    near = anatomy.ventricle_mm
    callosal = white & (np.abs(left) < 12) & (near < 9) & (superior > 4)
    periventricular = white & (near < 6) & ~callosal
    juxtacortical = white & (anatomy.cortex_mm < 3) & ~periventricular & ~callosal
    masks = {
        "periventricular": periventricular,
        "callosal": callosal,
        "juxtacortical": juxtacortical,
        "deep": white & ~periventricular & ~callosal & ~juxtacortical & (superior > -40),
        "midbrain": stem & (superior > -18),
        "pons": stem & (superior <= -18) & (superior > -40),
        "medulla": stem & (superior <= -40),
        "cerebellum": labels == Tissue.CEREBELLAR_WHITE,
        "grey": labels == Tissue.DEEP_GREY,
        "tract": labels == Tissue.BRIGHT_TRACT,
    }
    return {name: np.flatnonzero(mask).astype(np.int32) for name, mask in masks.items()}


def _ellipsoid(
    shape: tuple[int, ...],
    centre: npt.NDArray[np.int64],
    volume_mm3: float,
    axis: FloatArray | None,
    rng: np.random.Generator,
) -> tuple[tuple[slice, slice, slice], BoolArray]:
    """Return the box and the voxels of an elongated blob with a noisy edge."""
    ratio = float(np.exp(rng.normal(np.log(2.0), 0.35)))
    short = (3 * volume_mm3 / (4 * np.pi * max(ratio, 1.0))) ** (1 / 3) / SPACING_MM
    long = short * max(ratio, 1.0)
    reach = int(np.ceil(long * 1.4)) + 1
    low = np.maximum(centre - reach, 0)
    high = np.minimum(centre + reach + 1, shape)
    offset = np.stack(
        np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), -1
    )
    offset = offset - centre + rng.uniform(-0.5, 0.5, 3)
    direction = rng.normal(size=3) if axis is None else axis + 0.25 * rng.normal(size=3)
    direction /= np.linalg.norm(direction) + 1e-6
    along = offset @ direction
    across = np.maximum((offset**2).sum(-1) - along**2, 0)
    radius = np.sqrt((along / long) ** 2 + across / short**2)
    noise = ndimage.gaussian_filter(rng.standard_normal(radius.shape), max(0.8, short / 2.5))
    noise /= noise.std() + 1e-6
    box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return box, np.asarray(radius + 0.18 * noise < 1)


def _band(anatomy: Anatomy, rng: np.random.Generator) -> BoolArray:
    """Return a band of 2 to 5 mm along a part of the ventricles."""
    edge = anatomy.ventricle_mm
    wave = smooth_field(edge.shape, 5, rng)
    thickness = rng.uniform(2, 5)
    return np.asarray(
        (edge > 0) & (edge < thickness * (0.6 + 0.6 * (wave > 0.3))) & (wave > rng.uniform(-0.2, 0.6))
    )


def height_weights(anatomy: Anatomy, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return the probability of each voxel of a region, so that its heights are those of real MS lesions."""
    n_k = anatomy.labels.shape[0]
    height = mask_height(anatomy.mni_axes()[0].ravel())
    slab = np.clip(np.digitize(height, HEIGHTS_MM) - 1, 0, len(HEIGHT_SHARES) - 1)
    of = slab[indices // (anatomy.labels.size // n_k)]
    present = np.bincount(of, minlength=len(HEIGHT_SHARES))
    weights = (np.array(HEIGHT_SHARES) / np.maximum(present, 1))[of]
    return np.asarray(weights / weights.sum())


class _Drawing:
    """The lesions of one patient while they are drawn."""

    def __init__(
        self, anatomy: Anatomy, regions: dict[str, npt.NDArray[np.int32]], rng: np.random.Generator
    ) -> None:
        self.anatomy, self.regions, self.rng = anatomy, regions, rng
        self.lesions = np.zeros(anatomy.labels.shape, np.int16)
        self._weights: dict[str, npt.NDArray[np.float64]] = {}
        self._masks: dict[str, BoolArray] = {}
        self._apart: BoolArray | None = None

    def centre(self, region: str) -> npt.NDArray[np.int64]:
        """Draw a place: by height in the cerebral white matter, evenly elsewhere."""
        indices = self.regions[region]
        if region in ("periventricular", "deep", "juxtacortical") and region not in self._weights:
            self._weights[region] = height_weights(self.anatomy, indices)
        return np.array(
            np.unravel_index(self.rng.choice(indices, p=self._weights.get(region)), self.lesions.shape)
        )

    def blob(
        self,
        centre: npt.NDArray[np.int64],
        volume_mm3: float,
        axis: FloatArray | None,
        number: int,
        within: BoolArray | None = None,
    ) -> None:
        """Draw one blob, or what of it lies within a mask."""
        where, inside = _ellipsoid(self.lesions.shape, centre, volume_mm3, axis, self.rng)
        self.lesions[where][inside if within is None else inside & within[where]] = number

    def lesion(self, region: str, size_mm3: float, perpendicular: float, number: int) -> None:
        """Draw a counted lesion with its specks, all of it in its region as a radiologist reads it."""
        rng, axis = self.rng, None
        reach_mm = (3 * size_mm3 / (4 * np.pi)) ** (1 / 3)
        centre = self._abutting(reach_mm) if region == "periventricular" else self.centre(region)
        if region in ("periventricular", "callosal") and rng.random() < perpendicular:
            box = tuple(slice(max(c - 1, 0), c + 2) for c in centre)
            slope = np.array([g.mean() for g in np.gradient(self.anatomy.ventricle_mm[box])], np.float32)
            axis = slope if float(np.linalg.norm(slope)) > 0.1 else None
        apart = self._deep() if region == "deep" else None
        self.blob(centre, size_mm3 * (1.6 if axis is not None else 1.0), axis, number, apart)
        for size in speck_sizes_mm3(int(rng.poisson(SATELLITES)), rng):
            beside = self._beside(centre, reach_mm / SPACING_MM, region)
            if beside is not None:
                self.blob(beside, float(size), None, number, apart)

    def _abutting(self, reach_mm: float) -> npt.NDArray[np.int64]:
        """Return a periventricular place from which a lesion reaches the ventricle; the nearest of a few if none does."""
        tried = [self.centre("periventricular") for _ in range(_TRIES)]
        near = [float(self.anatomy.ventricle_mm[tuple(centre)]) for centre in tried]
        return next(
            (c for c, mm in zip(tried, near, strict=True) if mm <= reach_mm), tried[int(np.argmin(near))]
        )

    def _deep(self) -> BoolArray:
        """Return where a deep lesion touches neither ventricle nor cortex."""
        if self._apart is None:
            self._apart = (self.anatomy.ventricle_mm > APART_MM) & (self.anatomy.cortex_mm > APART_MM)
        return self._apart

    def _beside(
        self, centre: npt.NDArray[np.int64], reach: float, region: str
    ) -> npt.NDArray[np.int64] | None:
        """Return a place outside a lesion, in the same region; None when a few tries find none."""
        if region not in self._masks:
            self._masks[region] = np.zeros(self.lesions.shape, bool)
            self._masks[region].ravel()[self.regions[region]] = True
        inside_region = self._masks[region]
        for _ in range(_TRIES):
            direction = self.rng.normal(size=3)
            direction *= (1.3 * reach + self.rng.uniform(3, 15)) / np.linalg.norm(direction)
            beside = np.rint(centre + direction).astype(np.int64)
            inside = ((beside >= 0) & (beside < self.lesions.shape)).all()
            if inside and inside_region[tuple(beside)] and not self.lesions[tuple(beside)]:
                return beside
        return None


def draw_lesions(
    anatomy: Anatomy,
    label: Label,
    regions: dict[str, npt.NDArray[np.int32]],
    rng: np.random.Generator,
    load: float | None = None,
) -> Drawn:
    """Draw the lesions of one patient.

    Parameters
    ----------
    regions : mapping of region to flat indices
        See `places`.
    load : float, optional
        Number of lesions over that of the median patient; drawn as in real patients by default.
    """
    drawing = _Drawing(anatomy, regions, rng)
    if label == "none":
        return Drawn(drawing.lesions, [])
    prior = PRIORS[label]
    load = float(load_at(rng.random())) if load is None else load
    extensive, band, tract = rng.random(3) < (prior.extensive, prior.periependymal, prior.corticospinal)
    count = count_of(prior, load) - int(extensive) - int(band) - int(tract)
    names = draw_regions(prior, count, {name for name, indices in regions.items() if len(indices)}, rng)
    for number, (name, size) in enumerate(zip(names, sizes_mm3(len(names), load, rng), strict=True), start=1):
        drawing.lesion(name, float(size), prior.perpendicular, number)
    n = len(names)
    if extensive and len(regions["deep"]):
        drawing.blob(drawing.centre("deep"), rng.uniform(4_000, 20_000), None, n + 1)
    if band:
        drawing.lesions[_band(anatomy, rng)] = n + 2
    if tract and len(regions["tract"]):
        upwards = np.array([1.0, 0.0, 0.0], np.float32)
        drawing.blob(drawing.centre("tract"), rng.uniform(200, 1500), upwards, n + 3)
    drawn = drawing.lesions
    drawn[~solid_tissue(anatomy)] = 0
    cortical = np.isin(anatomy.labels, (Tissue.CORTEX, Tissue.BRIGHT_CORTEX)) & (anatomy.cortex_mm < 0.1)
    if rng.random() < 0.7:
        drawn[cortical] = 0
    return Drawn(drawn, [*names, "extensive", "periependymal", "tract"])
