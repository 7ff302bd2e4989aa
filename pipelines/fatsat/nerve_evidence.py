"""Evidence for a nerve: how surely it stands out from its surroundings and noise, in the mean of slices laid upon each other.

`pipelines.fatsat.nerve_look` judges a slice by relative contrast, which is small where fat is poorly suppressed or the sheath
is wide, however plainly the nerve is seen in slice after slice; here its contrast is counted in standard errors [ours].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.fatsat.nerve_look import PIXEL_MM
from pipelines.types import FloatArray

Floats = npt.NDArray[np.float64]

RADII_MM = (2.4, 3.0, 3.9)
"""Of nerve and sheath: as they are, widened, and widened and cut obliquely."""
RING_MM = 1.4
"""Thickness of the ring that counts beside the whole disc: a sheath around a nerve as dark as the fat."""
GAP_MM, WIDTH_MM = 0.5, 2.0
"""From nerve and sheath to the surroundings that they are compared with, and how broad these are."""
SECTORS = 12
BRIGHTEST = 2
"""Of the six pairs of opposite sectors: a smooth slope (of the coil, of failing fat suppression) cancels in a pair; a muscle or
a fold of the brain that goes on to both sides does not."""
ERROR_MIN = 0.005
"""Least standard error, over the vitreous."""
HALF_MM = 9.0
OFFSETS: Floats = np.linspace(-HALF_MM, HALF_MM, round(2.0 * HALF_MM / PIXEL_MM) + 1)
"""Pixels of the images along either axis, mm from the course."""

_AWAY = np.hypot(OFFSETS[:, None], OFFSETS[None, :])
_TURN = np.arctan2(OFFSETS[:, None], OFFSETS[None, :])
_SECTOR = ((_TURN + np.pi) / (2.0 * np.pi) * SECTORS).astype(int) % SECTORS


def standing_out(images: FloatArray) -> float:
    """Return by how many standard errors nerve or sheath are brighter than the brightest pairs of sectors around them.

    The noise is what a sector differs by from slice to slice, beyond what all sectors of that slice do. Each slice is left out
    once and the least counts: one slice with a bright spot does not make a nerve.

    Parameters
    ----------
    images : float array, shape (slices, up, medial)
        Signal over the vitreous around the course, pixels at `OFFSETS`.

    Returns
    -------
    float
        The greatest over `RADII_MM`; 0 with fewer than three slices.
    """
    if len(images) < 3:
        return 0.0
    values = np.asarray(images, dtype=np.float64)
    return max(_standing_out(values, radius) for radius in RADII_MM)


def _standing_out(values: Floats, radius_mm: float) -> float:
    disc = values[:, radius_mm >= _AWAY].mean(axis=1)
    ring = values[:, (radius_mm - RING_MM < _AWAY) & (radius_mm >= _AWAY)].mean(axis=1)
    beyond = (radius_mm + GAP_MM < _AWAY) & (radius_mm + GAP_MM + WIDTH_MM >= _AWAY)
    sectors = np.stack(
        [values[:, beyond & (number == _SECTOR)].mean(axis=1) for number in range(SECTORS)], axis=1
    )
    least = np.inf
    for out in range(len(values)):
        kept = np.arange(len(values)) != out
        own = sectors[kept]
        rest = own - own.mean(axis=0)
        rest = rest - rest.mean(axis=1, keepdims=True)
        free = (len(own) - 1) * (SECTORS - 1)
        error = np.hypot(np.sqrt((rest**2).sum() / free / len(own)), ERROR_MIN)
        pairs = np.sort((own[:, : SECTORS // 2] + own[:, SECTORS // 2 :]).mean(axis=0) / 2.0)
        nerve = max(disc[kept].mean(), ring[kept].mean())
        least = min(least, float((nerve - pairs[-BRIGHTEST:].mean()) / error))
    return least
