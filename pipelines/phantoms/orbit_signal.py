"""Signal of an orbital phantom's tissues, and what is drawn at random of its nerves: lesions, sheaths, vessels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.phantoms.orbit_anatomy import ORBITAL_MM, Tissue

LESION_CONTRAST = (1.3, 2.0)
"""Lesion over nerve."""
SHORT_MM = (5.0, 12.0)
"""Length of a lesion."""
LONG_SHARE = (0.5, 0.9)
"""Share of the orbital nerve that a long lesion (NMOSD-like) takes."""
LONG_CHANCE = 0.3
SNR = (10.0, 25.0)
"""Vitreous over the noise's SD."""

_RANGES: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (0.0, 0.0),
    Tissue.SKIN: (0.30, 0.50),
    Tissue.SOFT: (0.22, 0.34),
    Tissue.BONE: (0.0, 0.06),
    Tissue.MARROW: (0.05, 0.14),
    Tissue.MUCOSA: (0.5, 1.0),
    Tissue.FLUID: (0.85, 1.0),
    Tissue.GREY: (0.35, 0.44),
    Tissue.WHITE: (0.28, 0.35),
    Tissue.VESSEL: (0.04, 0.40),
    Tissue.MUSCLE: (0.25, 0.40),
    Tissue.GLAND: (0.40, 0.60),
}
FAT = (0.08, 0.30)
NERVE = (0.30, 0.40)
GlobeKind = Literal["normal", "silicone oil", "missing"]


@dataclass(frozen=True)
class Contrast:
    """Signals of one series, relative to vitreous 1.

    Parameters
    ----------
    table : float32 array, shape (number of tissues,)
        By `Tissue`; fat as it is where its suppression works.
    nerve, lens, sclera, aqueous : float
    unsuppressed : float
        Fat where its suppression fails altogether.
    """

    table: npt.NDArray[np.float32]
    nerve: float
    lens: float
    sclera: float
    aqueous: float
    unsuppressed: float

    def of(self, tissue: Tissue) -> float:
        """Return the signal of a tissue."""
        return float(self.table[tissue])


def draw_contrast(rng: np.random.Generator, dampened: float = 1.0) -> Contrast:
    """Return signals drawn from the ranges of T2 with fat suppression.

    Parameters
    ----------
    dampened : float
        Power applied to everything, drawn towards vitreous below 1 and away from it above: another echo time. The result
        is brought back into the ranges, so that the scanners' contrasts differ within them.
    """
    table = np.zeros(len(Tissue), dtype=np.float32)
    ranges = {**_RANGES, Tissue.SUBCUTANEOUS: FAT, Tissue.ORBITAL_FAT: FAT}
    for tissue in sorted(ranges):
        table[tissue] = np.clip(rng.uniform(*ranges[tissue]) ** dampened, *ranges[tissue])
    # suppressed fat is the darkest soft tissue [ours]; mostly well suppressed
    table[Tissue.ORBITAL_FAT] = FAT[0] + (FAT[1] - FAT[0]) * rng.beta(1.2, 2.0)
    lowest = float(min(table[Tissue.ORBITAL_FAT] + 0.05, 0.34))
    table[Tissue.MUSCLE] = max(table[Tissue.MUSCLE], lowest)
    table[Tissue.SUBCUTANEOUS] = np.clip(table[Tissue.ORBITAL_FAT] * rng.uniform(0.8, 1.2), *FAT)
    return Contrast(
        table,
        nerve=float(np.clip(rng.uniform(*NERVE) ** dampened, max(NERVE[0], lowest), NERVE[1])),
        lens=float(rng.uniform(0.12, 0.30)),
        sclera=float(rng.uniform(0.15, 0.35)),
        aqueous=float(rng.uniform(0.9, 1.0)),
        unsuppressed=float(rng.uniform(0.55, 1.1)),
    )


@dataclass(frozen=True)
class Lesion:
    """A bright stretch of a nerve.

    Parameters
    ----------
    start_mm, length_mm : float
        Along the nerve from the globe's wall; between its half-bright ends.
    contrast : float
        Over the nerve.
    swelling : float
        Relative growth of the nerve's diameter in its middle.
    share : float
        Radius of its cross section relative to the nerve's: 1 takes all of it.
    offset : two floats
        Its middle's place in the cross section, in radii of the nerve.
    """

    start_mm: float
    length_mm: float
    contrast: float
    swelling: float
    share: float
    offset: tuple[float, float]

    @property
    def middle_mm(self) -> float:
        """Middle of the lesion, along the nerve."""
        return self.start_mm + self.length_mm / 2.0


@dataclass(frozen=True)
class NerveState:
    """State of one eye's nerve, drawn at random.

    Parameters
    ----------
    size : float
        Of the nerve's diameter, relative to the figures.
    sheath : float
        Of the fluid's thickness around it, relative to the figures.
    fluid : float
        Signal of that fluid relative to CSF.
    vessel : float or None
        Radius of the dark dot, mm, and its signal relative to the nerve's is `vessel_signal`; None: not seen.
    vessel_mm : two floats
        Between where along the nerve it is seen.
    grain : float
        SD of the nerve's own unevenness along its course, relative.
    globe : str
        "normal", "silicone oil" (after an operation) or "missing" (after an enucleation).
    motion_mm : float
        SD of the eye's movement during the series.
    lesion : Lesion or None
    """

    size: float
    sheath: float
    fluid: float
    vessel: float | None
    vessel_signal: float
    vessel_mm: tuple[float, float]
    grain: float
    globe: GlobeKind
    motion_mm: float
    lesion: Lesion | None


def draw_lesion(rng: np.random.Generator, reach_mm: float, contrast: float | None) -> Lesion:
    """Return a lesion, three in ten long ones (NMOSD-like) [ours].

    Parameters
    ----------
    reach_mm : float
        How far the nerve is seen; the lesion's middle lies within it, and mostly in the orbit.
    contrast : float, optional
        Over the nerve; from `LESION_CONTRAST` when absent.
    """
    drawn = float(rng.uniform(*LESION_CONTRAST))
    if rng.random() < LONG_CHANCE:
        length = float(rng.uniform(*LONG_SHARE)) * ORBITAL_MM
        start = rng.uniform(0.0, max(0.5, ORBITAL_MM - length))
    else:
        length = float(rng.uniform(*SHORT_MM))
        # the front and the middle of the orbit more often than its apex [ours]
        start = rng.beta(1.3, 1.6) * ORBITAL_MM - 0.3 * length
    start = float(np.clip(start, 0.0, max(0.0, reach_mm - length - 1.0)))
    share = float(rng.uniform(0.85, 1.15))
    angle, away = rng.uniform(0.0, 2 * np.pi), rng.uniform(0.0, 0.25)
    swelling = float(rng.uniform(0.0, 0.25))
    value = drawn if contrast is None else contrast
    offset = (float(away * np.cos(angle)), float(away * np.sin(angle)))
    return Lesion(start, length, value, swelling, share, offset)


def draw_nerve(
    rng: np.random.Generator,
    *,
    lesion: bool,
    reach_mm: float,
    contrast: float | None = None,
    globe: GlobeKind = "normal",
) -> NerveState:
    """Return the state of one eye: the same draws, in the same order, with and without a lesion.

    A sheath is widened in half of the eyes with a lesion and in a quarter of those without, so that it alone proves
    nothing; the dark dot is seen in most normal nerves and in few with a lesion [ours: no figures are given].
    """
    found = draw_lesion(rng, reach_mm, contrast)
    widened = rng.random() < (0.5 if lesion else 0.25)
    wide, usual = rng.uniform(1.4, 2.2), np.clip(rng.normal(1.0, 0.12), 0.7, 1.3)
    seen = rng.random() < (0.3 if lesion else 0.8)
    entry = rng.uniform(6.0, 14.0)
    return NerveState(
        size=float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12)),
        sheath=float(wide if widened else usual),
        fluid=float(rng.uniform(0.5, 1.0)),
        vessel=float(rng.uniform(0.3, 0.5)) if seen else None,
        vessel_signal=float(rng.uniform(0.2, 0.6)),
        vessel_mm=(0.0, float(entry)),
        grain=float(rng.uniform(0.02, 0.06)),
        globe=globe,
        motion_mm=float(rng.choice([0.0, rng.uniform(0.2, 0.9)], p=[0.6, 0.4])),
        lesion=found if lesion else None,
    )
