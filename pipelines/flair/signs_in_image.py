"""Signs of the image itself, beside the mask, that a brain's findings are not like demyelination.

The networks have learnt from demyelination alone, and may draw a speck in a tumour, or nothing. The limits were set on
synthetic heads 01 to 08; the figures named are the largest of 60 such heads with MS and of 21 real scans of MS patients and of
the healthy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy import ndimage

from pipelines.flair.coarse_brain import SOLID, CoarseBrain
from pipelines.regions.structures import Structure
from pipelines.types import NotTypical

BRIGHT: Final = 1.0
"""Brighter than white matter by a fifth of it: the faintest of lesions, the edge of deep grey matter."""
BRIGHTER: Final = 1.0
"""By so much it is brighter than its mirror image, or than its structure elsewhere in the brain."""
ONE_SIDED_ML: Final = 7.0
"""Bright tissue of one side that the mask does not hold. Heads with MS: 6.1 mL, of an uneven field; real scans: 3.0."""
BRIGHT_RADIUS_MM: Final = 4.5
"""Bright tissue that balls of this radius fit into is no cortex and no tract."""
BRIGHT_ML: Final = 8.0
"""Such tissue that the mask does not hold, on whichever side. Heads with MS: 6.3 mL; real scans: 5.5."""
CAP_MM: Final = 5.0
"""Nearer to a ventricle bright tissue does not count: old brains have bright caps there, up to 16 mL in a head with MS."""
FLUID: Final = -1.5
"""Darker is fluid: 0.7 times white matter."""
CAVITY_ML: Final = 4.0
"""Fluid of one side. Heads with MS: 2.0 mL; real scans: 1.1."""
CAVITY_RADIUS_MM: Final = 5.3
"""Fluid that a ball of this radius fits into is no sulcus."""
_SEED_MM, _REACH_MM = 3.6, 7.2
"""Fluid within the second of thinner fluid of the other side has a counterpart."""
DARK_ML, DARK_RADIUS_MM, _SOLID_SHARE = 3.5, 3.0, 0.6
"""Tissue as dark as fluid where the network tells solid tissue. Heads with MS: 2.8 mL, of deep sulci; real scans: none."""
HOT: Final = 5.0
"""Twice white matter: above all lesions of demyelination."""
HOT_ML: Final = 2.0
SURFACE_MM: Final = 5.0
"""Nearer to the border of the brain's mask a bright signal does not count: there the mask errs."""


def signs_in_image(coarse: CoarseBrain) -> tuple[NotTypical, ...]:
    """Return the signs of an image."""
    found = (
        _one_sided_tissue(coarse),
        _bright_tissue(coarse),
        _one_sided_fluid(coarse),
        _dark_tissue(coarse),
        _hot(coarse),
    )
    return tuple(sign for sign in found if sign is not None)


def above(name: str, sign: str, value: float, unit: str, limit: float) -> NotTypical | None:
    """Return a sign where its value is above the limit."""
    return NotTypical(name, sign, value, unit, limit) if value > limit else None


def _one_sided_tissue(coarse: CoarseBrain) -> NotTypical | None:
    """Return the largest bright tissue beside the mask that has no counterpart, where there is too much of it."""
    bright = (
        (coarse.smooth > BRIGHT) & coarse.brain & (coarse.depth_mm > SURFACE_MM) & ~coarse.ventricle
    ) & ~coarse.near_drawn
    alone = bright & (coarse.smooth - coarse.brightest_of_other_side() > BRIGHTER) & coarse.has_mirror
    return above(
        "one-sided tissue",
        "bright tissue without a counterpart on the other side",
        coarse.largest_ml(alone),
        "mL",
        ONE_SIDED_ML,
    )


def _bright_tissue(coarse: CoarseBrain) -> NotTypical | None:
    """Return the largest thick tissue beside the mask that is brighter than its structure, where there is too much of it."""
    bright = (coarse.excess() > BRIGHTER) & coarse.brain & ~coarse.near_drawn & (coarse.ventricle_mm > CAP_MM)
    return above(
        "bright tissue",
        "bright tissue that was not outlined",
        coarse.largest_ml(coarse.opened(bright, BRIGHT_RADIUS_MM)),
        "mL",
        BRIGHT_ML,
    )


def _one_sided_fluid(coarse: CoarseBrain) -> NotTypical | None:
    """Return the largest fluid without a counterpart, where there is too much of it."""
    fluid = (coarse.smooth < FLUID) & coarse.whole
    seeds = coarse.opened(fluid, _SEED_MM)
    reached = ndimage.distance_transform_edt(~seeds) * coarse.edge_mm <= _REACH_MM
    near = coarse.mirrored(reached) > 0.5
    return above(
        "one-sided fluid",
        "fluid without a counterpart on the other side",
        coarse.largest_ml(coarse.opened(fluid, CAVITY_RADIUS_MM) & ~near & coarse.has_mirror),
        "mL",
        CAVITY_ML,
    )


def _dark_tissue(coarse: CoarseBrain) -> NotTypical | None:
    """Return the largest part of solid tissue that is as dark as fluid, where there is too much of it."""
    if coarse.structures is None:
        return None
    solid = sum(coarse.structures[of] for of in SOLID if of != Structure.CORTEX)
    dark = np.asarray((coarse.excess() < FLUID) & (solid > _SOLID_SHARE))
    return above(
        "dark tissue",
        "signal of fluid inside of tissue",
        coarse.largest_ml(coarse.opened(dark, DARK_RADIUS_MM)),
        "mL",
        DARK_ML,
    )


def _hot(coarse: CoarseBrain) -> NotTypical | None:
    """Return the largest volume of a signal above that of all lesions, where there is too much of it."""
    hot = (coarse.smooth > HOT) & coarse.brain & (coarse.depth_mm > SURFACE_MM)
    return above("signal", "signal above twice that of white matter", coarse.largest_ml(hot), "mL", HOT_ML)
