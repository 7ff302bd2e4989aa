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

from pipelines.training.anatomy import Anatomy, Tissue
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
)


@dataclass(frozen=True)
class Prior:
    """What one disease does.

    Parameters
    ----------
    count : float
        Mean number of lesions of a patient.
    shares : mapping of region to share of lesions
    extensive : float
        Probability of one large hemispheric lesion.
    periependymal : float
        Probability of a thin band along the ventricles.
    perpendicular : float
        Probability that a periventricular lesion stands at a right angle to the ventricle (a Dawson finger).
    """

    count: float
    shares: dict[str, float]
    extensive: float
    periependymal: float
    perpendicular: float


PRIORS: dict[Label, Prior] = {
    "MS": Prior(
        count=19.0,
        shares=dict(zip(REGIONS, (0.36, 0.08, 0.16, 0.26, 0.04, 0.01, 0.01, 0.05, 0.03), strict=True)),
        extensive=0.02,
        periependymal=0.03,
        perpendicular=0.8,
    ),
    "NMOSD": Prior(
        count=11.5,
        shares=dict(zip(REGIONS, (0.13, 0.04, 0.05, 0.64, 0.02, 0.04, 0.05, 0.0, 0.03), strict=True)),
        extensive=0.147,
        periependymal=0.385,
        perpendicular=0.1,
    ),
}


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
        "deep": white & ~periventricular & ~callosal & ~juxtacortical & (superior > -20),
        "midbrain": stem & (superior > -18),
        "pons": stem & (superior <= -18) & (superior > -40),
        "medulla": stem & (superior <= -40),
        "cerebellum": labels == Tissue.CEREBELLAR_WHITE,
        "grey": labels == Tissue.DEEP_GREY,
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


def _sizes_mm3(n: int, rng: np.random.Generator) -> FloatArray:
    """Return lesion volumes: the percentiles of 2465 real lesions, without those below the cube's resolution."""
    percentiles = [0, 25, 50, 75, 90, 95, 99, 100]
    volumes = np.log([3.0, 8.0, 22.0, 60.0, 170.0, 400.0, 2600.0, 7000.0])
    return np.exp(np.interp(rng.uniform(0, 100, n), percentiles, volumes)).astype(np.float32)


def _band(anatomy: Anatomy, rng: np.random.Generator) -> BoolArray:
    """Return a band of 2 to 5 mm along a part of the ventricles."""
    edge = anatomy.ventricle_mm
    wave = ndimage.zoom(rng.standard_normal((5, 5, 5)), np.array(edge.shape) / 5, order=1)
    thickness = rng.uniform(2, 5)
    return np.asarray(
        (edge > 0) & (edge < thickness * (0.6 + 0.6 * (wave > 0.3))) & (wave > rng.uniform(-0.2, 0.6))
    )


def _allowed(anatomy: Anatomy) -> BoolArray:
    fluid = (Tissue.AIR, Tissue.FLUID, Tissue.VENTRICLE, Tissue.CHOROID, Tissue.SOFT, Tissue.BONE, Tissue.FAT)
    return ~np.isin(anatomy.labels, fluid)


def draw_lesions(
    anatomy: Anatomy,
    label: Label,
    regions: dict[str, npt.NDArray[np.int32]],
    rng: np.random.Generator,
) -> npt.NDArray[np.int16]:
    """Draw the lesions of one patient.

    Returns
    -------
    int16 array, shape (k, j, i)
        0, or the number of the lesion, from 1.
    """
    shape = anatomy.labels.shape
    drawn = np.zeros(shape, np.int16)
    if label == "none":
        return drawn
    prior = PRIORS[label]
    n = max(1, round(prior.count * float(np.exp(rng.normal(-0.25, 0.7)))))
    names = [name for name in REGIONS if len(regions[name])]
    weights = np.array([prior.shares[name] for name in names])
    scale = float(np.exp(rng.normal(0.4, 0.6)))
    for number, (name, size) in enumerate(
        zip(rng.choice(names, n, p=weights / weights.sum()), _sizes_mm3(n, rng), strict=True), start=1
    ):
        centre = np.array(np.unravel_index(rng.choice(regions[name]), shape))
        axis = None
        if name in ("periventricular", "callosal") and rng.random() < prior.perpendicular:
            box = tuple(slice(max(c - 1, 0), c + 2) for c in centre)
            slope = np.array([g.mean() for g in np.gradient(anatomy.ventricle_mm[box])], np.float32)
            axis = slope if float(np.linalg.norm(slope)) > 0.1 else None
        where, blob = _ellipsoid(
            shape, centre, float(size) * scale * (1.6 if axis is not None else 1.0), axis, rng
        )
        drawn[where][blob] = number
    if rng.random() < prior.extensive and len(regions["deep"]):
        centre = np.array(np.unravel_index(rng.choice(regions["deep"]), shape))
        where, blob = _ellipsoid(shape, centre, rng.uniform(4_000, 20_000), None, rng)
        drawn[where][blob] = n + 1
    if rng.random() < prior.periependymal:
        drawn[_band(anatomy, rng)] = n + 2
    drawn[~_allowed(anatomy)] = 0
    cortical = np.isin(anatomy.labels, (Tissue.CORTEX, Tissue.BRIGHT_CORTEX)) & (anatomy.cortex_mm < 0.1)
    if rng.random() < 0.7:
        drawn[cortical] = 0
    return drawn


def read_masks(
    folder: Path, leave_out: tuple[str, ...]
) -> dict[str, tuple[BoolArray, npt.NDArray[np.float64]]]:
    """Read lesion masks in MNI152 space, (x, y, z) with their LPS affine, without those of the named patients."""
    masks = {}
    for path in sorted(folder.glob("*.nii.gz")):
        name = path.name.split(".")[0]
        if name in leave_out:
            continue
        image = nib.load(path)
        lps = lps_affine(image.affine)
        masks[name] = (np.asarray(image.dataobj) > 0, lps)
    return masks


def transplant(
    anatomy: Anatomy, mask: BoolArray, lps: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Carry a real patient's lesions, in MNI152 space, over to a head; lesions numbered from 1, thresholds varied."""
    inverse = np.linalg.inv(lps)
    origin = anatomy.mni_origin + rng.uniform(-4, 4, 3)
    scale = anatomy.mni_scale.copy()
    if rng.random() < 0.5:
        origin[0], scale[0] = -origin[0], -scale[0]
    matrix = inverse[:3, :3] * scale
    offset = inverse[:3, :3] @ origin + inverse[:3, 3]
    soft = ndimage.affine_transform(mask.astype(np.float32), matrix, offset, anatomy.labels.shape, order=1)
    here = (soft.transpose(2, 1, 0) > rng.uniform(0.25, 0.5)) & _allowed(anatomy)
    numbered, _ = ndimage.label(here, np.ones((3, 3, 3)))
    return np.asarray(numbered, dtype=np.int16)
