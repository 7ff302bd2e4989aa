"""Where MS and NMOSD lesions lie, how many and how large they are.

Both classes come from this one generator, so that a classifier can learn from nothing but these priors. Numbers: the
open MS data of Lesjak et al. 2017 for sizes, and the comparisons of MS with NMOSD that the method's notes quote for places.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.training.anatomy import MNI_BRAIN_LPS, Anatomy, Tissue
from pipelines.training.artefacts import smooth_field
from pipelines.training.cube import SPACING_MM, lps_affine
from pipelines.types import BoolArray, FloatArray

Label = Literal["MS", "NMOSD", "none"]
VOXEL_MM3 = SPACING_MM**3

REGIONS = (
    "periventricular",
    "callosal",
    "juxtacortical",
    "deep",
    "pons",
    "midbrain",
    "medulla",
    "cerebellum",
    "grey",
    "tract",
)


@dataclass(frozen=True)
class Prior:
    """What one disease does.

    Parameters
    ----------
    count : float
        Mean number of lesions of a patient that has any, as a radiologist counts them.
    periventricular, deep : float
        Shares of the lesions; the others lie in the regions of ``sites``.
    any_lesion : float
        Share of patients with a brain lesion. Drawn cases have one: [ours] a scan without lesions tells no disease, and must
        not be learnt as one.
    sites : mapping of region to (share of all patients with a lesion there, mean lesions there of those that have any)
    extensive : float
        Probability of one large hemispheric lesion.
    periependymal : float
        Probability of a thin band along the ventricles.
    corticospinal : float
        Probability of a long lesion in a corticospinal tract.
    perpendicular : float
        Probability that a periventricular lesion stands at a right angle to the ventricle (a Dawson finger).
    """

    count: float
    periventricular: float
    deep: float
    any_lesion: float
    sites: dict[str, tuple[float, float]]
    extensive: float
    periependymal: float
    corticospinal: float
    perpendicular: float


PRIORS: dict[Label, Prior] = {
    "MS": Prior(
        count=19.0,
        periventricular=0.41,
        deep=0.42,
        any_lesion=0.97,
        sites={
            "juxtacortical": (0.81, 2.2),
            "callosal": (0.53, 1.5),
            "pons": (0.31, 1.2),
            "midbrain": (0.08, 1.1),
            "medulla": (0.11, 1.1),
            "cerebellum": (0.17, 1.3),
            "grey": (0.10, 1.2),
        },
        extensive=0.02,
        periependymal=0.03,
        corticospinal=0.01,
        perpendicular=0.8,
    ),
    "NMOSD": Prior(
        count=11.5,
        periventricular=0.17,
        deep=0.68,
        any_lesion=0.61,
        sites={
            "juxtacortical": (0.26, 2.0),
            "callosal": (0.17, 1.3),
            "pons": (0.09, 1.1),
            "midbrain": (0.22, 1.2),
            "medulla": (0.17, 1.2),
            "cerebellum": (0.0, 0.0),
            "grey": (0.10, 1.2),
        },
        extensive=0.147,
        periependymal=0.385,
        corticospinal=0.101,
        perpendicular=0.1,
    ),
}

SATELLITES = 7.0
"""Mean number of specks around each counted lesion. A radiologist counts 19 lesions where an expert's mask in three
dimensions has 85 components: most of these are small and lie beside others [ours]."""

APART_MM = 2.5
"""How far a deep lesion keeps from ventricle and cortex: what touches them is read as periventricular or juxtacortical."""
_TRIES = 12

_LOAD = ((0.0, 0.25, 0.5, 0.75, 1.0), (0.08, 0.42, 1.0, 1.41, 2.6))
"""Patients' load: quantiles of the number of components over its median, 34, 85 and 121 at the quartiles."""
_LOAD_MEAN = 1.04
_SIZE_POWER = 1.3
"""Sizes rise with the load, as volumes spread wider (1.8, 14, 28.5 mL at the quartiles) than numbers do [ours]."""

_HEIGHTS_MM = (-80.0, -20.0, 0.0, 15.0, 30.0, 45.0, 90.0)
_HEIGHT_SHARES = (0.10, 0.07, 0.09, 0.19, 0.38, 0.17)
"""Shares of the lesions' centres in cerebral white matter between those MNI z, in the space of the masks (see
`MASK_BRAIN_LPS`). They make the volume of MS lesions stand as in real masks: 4, 13, 24, 34, 20, 5 %; the large lesions at the
ventricles weigh more there than their number."""

MASK_BRAIN_LPS = ((-58.0, 59.0), (-51.0, 91.0), (-46.5, 62.5))
"""Extent of the brains that the masks of ``open_ms/lesions_mni`` belong to, along L, P and S, in mm, as `MNI_BRAIN_LPS`: mean
of the two with images. They lie in MNI152 space smaller than its template does, so that their extents are matched, too."""


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


def _sizes_mm3(n: int, load: float, rng: np.random.Generator) -> FloatArray:
    """Return volumes of counted lesions: those of the upper fifth of 2465 real components, the specks being the others."""
    percentiles = [0, 20, 50, 75, 90, 94, 97, 100]
    volumes = np.log([20.0, 43.0, 95.0, 280.0, 1300.0, 2500.0, 11000.0, 40000.0])
    drawn = np.exp(np.interp(rng.uniform(0, 100, n), percentiles, volumes))
    return np.asarray(drawn * load**_SIZE_POWER, dtype=np.float32)


def _speck_sizes_mm3(n: int, rng: np.random.Generator) -> FloatArray:
    """Return volumes of the specks beside counted lesions, from a voxel of the cube on."""
    return np.exp(rng.normal(np.log(12.0), 1.2, n)).astype(np.float32)


def _band(anatomy: Anatomy, rng: np.random.Generator) -> BoolArray:
    """Return a band of 2 to 5 mm along a part of the ventricles."""
    edge = anatomy.ventricle_mm
    wave = smooth_field(edge.shape, 5, rng)
    thickness = rng.uniform(2, 5)
    return np.asarray(
        (edge > 0) & (edge < thickness * (0.6 + 0.6 * (wave > 0.3))) & (wave > rng.uniform(-0.2, 0.6))
    )


_SOLID = np.array(
    [Tissue.VENTRICLE < tissue < Tissue.SOFT and tissue != Tissue.CHOROID for tissue in Tissue], dtype=bool
)
"""Whether a lesion may lie in each tissue: not in air, fluid, choroid plexus or outside the brain."""


def _allowed(anatomy: Anatomy) -> BoolArray:
    return _SOLID[anatomy.labels]


def mask_height(superior: FloatArray) -> FloatArray:
    """Return heights in MNI152, mm, as heights in the space of the real masks: extents of the brains matched."""
    low, high = MNI_BRAIN_LPS[2]
    mask_low, mask_high = MASK_BRAIN_LPS[2]
    return mask_low + (superior - low) * np.float32((mask_high - mask_low) / (high - low))


def _height_weights(anatomy: Anatomy, indices: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Return the probability of each voxel of a region, so that its heights are those of real MS lesions."""
    n_k = anatomy.labels.shape[0]
    height = mask_height(anatomy.mni_axes()[0].ravel())
    slab = np.clip(np.digitize(height, _HEIGHTS_MM) - 1, 0, len(_HEIGHT_SHARES) - 1)
    of = slab[indices // (anatomy.labels.size // n_k)]
    present = np.bincount(of, minlength=len(_HEIGHT_SHARES))
    weights = (np.array(_HEIGHT_SHARES) / np.maximum(present, 1))[of]
    return np.asarray(weights / weights.sum())


def load_at(quantile: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the load at quantiles, in [0, 1], of all patients; 1 is the median."""
    return np.interp(np.asarray(quantile, dtype=np.float64), *_LOAD)


def count_of(prior: Prior, load: float) -> int:
    """Return how many lesions a radiologist counts at a load."""
    return round(prior.count * load / _LOAD_MEAN)


def _draw_regions(prior: Prior, count: int, available: set[str], rng: np.random.Generator) -> list[str]:
    """Draw the region of each lesion of a patient: sites first, the others periventricular or deep."""
    names: list[str] = []
    for site, (share, mean) in prior.sites.items():
        if site in available and rng.random() < share / prior.any_lesion:
            names += [site] * (1 + int(rng.poisson(mean - 1)))
    left = max(0 if names else 1, count - len(names))
    among = prior.periventricular / (prior.periventricular + prior.deep)
    return names + list(rng.choice(["periventricular", "deep"], left, p=[among, 1 - among]))


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
            self._weights[region] = _height_weights(self.anatomy, indices)
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
        for size in _speck_sizes_mm3(int(rng.poisson(SATELLITES)), rng):
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
) -> npt.NDArray[np.int16]:
    """Draw the lesions of one patient.

    Parameters
    ----------
    regions : mapping of region to flat indices
        See `places`.
    load : float, optional
        Number of lesions over that of the median patient; drawn as in real patients by default.

    Returns
    -------
    int16 array, shape (k, j, i)
        0, or the number of the counted lesion, from 1; its specks have its number.
    """
    drawing = _Drawing(anatomy, regions, rng)
    if label == "none":
        return drawing.lesions
    prior = PRIORS[label]
    load = float(load_at(rng.random())) if load is None else load
    extensive, band, tract = rng.random(3) < (prior.extensive, prior.periependymal, prior.corticospinal)
    count = count_of(prior, load) - int(extensive) - int(band) - int(tract)
    names = _draw_regions(prior, count, {name for name, indices in regions.items() if len(indices)}, rng)
    for number, (name, size) in enumerate(
        zip(names, _sizes_mm3(len(names), load, rng), strict=True), start=1
    ):
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
    drawn[~_allowed(anatomy)] = 0
    cortical = np.isin(anatomy.labels, (Tissue.CORTEX, Tissue.BRIGHT_CORTEX)) & (anatomy.cortex_mm < 0.1)
    if rng.random() < 0.7:
        drawn[cortical] = 0
    return drawn


def mask_files(data: Path) -> list[Path]:
    """Return the lesion masks in a folder of sources; each is named after its patient."""
    return sorted((data / "open_ms" / "lesions_mni").glob("*.nii.gz"))


def patient_of(path: Path) -> str:
    """Return whose lesions a mask shows."""
    return path.name.removesuffix(".nii.gz")


def read_masks(
    folder: Path, leave_out: tuple[str, ...]
) -> dict[str, tuple[BoolArray, npt.NDArray[np.float64]]]:
    """Read lesion masks, (x, y, z) with their affine to MNI152 in LPS, without those of the named patients.

    The affine takes the extents of the masks' brains (`MASK_BRAIN_LPS`) to those of the template.
    """
    template, masked = np.array(MNI_BRAIN_LPS), np.array(MASK_BRAIN_LPS)
    stretch = np.eye(4)
    factor = (template[:, 1] - template[:, 0]) / (masked[:, 1] - masked[:, 0])
    stretch[:3, :3] = np.diag(factor)
    stretch[:3, 3] = template[:, 0] - factor * masked[:, 0]
    masks = {}
    for path in sorted(folder.glob("*.nii.gz")):
        name = patient_of(path)
        if name in leave_out:
            continue
        image = nib.load(path)
        lps = stretch @ lps_affine(image.affine)
        masks[name] = (np.asarray(image.dataobj) > 0, lps)
    return masks


def carried(
    mask: BoolArray,
    lps: npt.NDArray[np.float64],
    mni: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> FloatArray:
    """Carry a real patient's lesions from MNI152 space to a head, shifted by up to 4 mm, half of them mirrored.

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    lps : float64 array, shape (4, 4)
        Takes (x, y, z, 1) to MNI152, mm, LPS.
    mni : two float64 arrays, shape (3,)
        The head's scale and origin; see `anatomy.mni_extents`.

    Returns
    -------
    float32 array, shape (k, j, i)
        How much of each voxel is lesion, in [0, 1].
    """
    inverse = np.linalg.inv(lps)
    scale, origin = mni[0].copy(), mni[1] + rng.uniform(-4, 4, 3)
    if rng.random() < 0.5:
        origin[0], scale[0] = -origin[0], -scale[0]
    matrix = inverse[:3, :3] * scale
    offset = inverse[:3, :3] @ origin + inverse[:3, 3]
    soft = ndimage.affine_transform(mask.astype(np.float32), matrix, offset, shape[::-1], order=1)
    return np.ascontiguousarray(soft.transpose(2, 1, 0))


def transplant(
    anatomy: Anatomy, mask: BoolArray, lps: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Carry a real patient's lesions, in MNI152 space, over to a head; lesions numbered from 1, thresholds varied."""
    soft = carried(mask, lps, (anatomy.mni_scale, anatomy.mni_origin), anatomy.labels.shape, rng)
    here = (soft > rng.uniform(0.25, 0.5)) & _allowed(anatomy)
    numbered, _ = ndimage.label(here, np.ones((3, 3, 3)))
    return np.asarray(numbered, dtype=np.int16)
