"""Priors of the lesions of MS and NMOSD: their number, size and places.

Both classes come from this one generator, so that a classifier can learn from nothing but these priors. Numbers: the
open MS data of Lesjak et al. 2017 for sizes, and the comparisons of MS with NMOSD that the method's notes quote for places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.types import FloatArray

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
KINDS = (*REGIONS, "extensive", "periependymal")
"""Of drawn lesions: where they lie, and the two that lie in no one region."""


@dataclass(frozen=True)
class Prior:
    """Prior of the lesions of one disease.

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

_LOAD = ((0.0, 0.25, 0.5, 0.75, 1.0), (0.08, 0.42, 1.0, 1.41, 2.6))
"""Patients' load: quantiles of the number of components over its median, 34, 85 and 121 at the quartiles."""
_LOAD_MEAN = 1.04
_SIZE_POWER = 1.3
"""Sizes rise with the load, as volumes spread wider (1.8, 14, 28.5 mL at the quartiles) than numbers do [ours]."""

HEIGHTS_MM = (-80.0, -20.0, 0.0, 15.0, 30.0, 45.0, 90.0)
HEIGHT_SHARES = (0.10, 0.07, 0.09, 0.19, 0.38, 0.17)
"""Shares of the lesions' centres in cerebral white matter between those MNI z, in the space of the masks (see
`lesion_masks.MASK_BRAIN_LPS`). They make the volume of MS lesions stand as in real masks: 4, 13, 24, 34, 20, 5 %; the large
lesions at the ventricles weigh more there than their number."""


def load_at(quantile: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the load at quantiles, in [0, 1], of all patients; 1 is the median."""
    return np.interp(np.asarray(quantile, dtype=np.float64), *_LOAD)


def count_of(prior: Prior, load: float) -> int:
    """Return how many lesions a radiologist counts at a load."""
    return round(prior.count * load / _LOAD_MEAN)


def sizes_mm3(n: int, load: float, rng: np.random.Generator) -> FloatArray:
    """Return volumes of counted lesions: those of the upper fifth of 2465 real components, the specks being the others."""
    percentiles = [0, 20, 50, 75, 90, 94, 97, 100]
    volumes = np.log([20.0, 43.0, 95.0, 280.0, 1300.0, 2500.0, 11000.0, 40000.0])
    drawn = np.exp(np.interp(rng.uniform(0, 100, n), percentiles, volumes))
    return np.asarray(drawn * load**_SIZE_POWER, dtype=np.float32)


def speck_sizes_mm3(n: int, rng: np.random.Generator) -> FloatArray:
    """Return volumes of the specks beside counted lesions, from a voxel of the cube on."""
    return np.exp(rng.normal(np.log(12.0), 1.2, n)).astype(np.float32)


def draw_regions(prior: Prior, count: int, available: set[str], rng: np.random.Generator) -> list[str]:
    """Draw the region of each lesion of a patient: sites first, the others periventricular or deep."""
    names: list[str] = []
    for site, (share, mean) in prior.sites.items():
        if site in available and rng.random() < share / prior.any_lesion:
            names += [site] * (1 + int(rng.poisson(mean - 1)))
    left = max(0 if names else 1, count - len(names))
    among = prior.periventricular / (prior.periventricular + prior.deep)
    return names + list(rng.choice(["periventricular", "deep"], left, p=[among, 1 - among]))
