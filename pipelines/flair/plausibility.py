"""Plausibility: signs by which the findings in a brain are not like demyelination at all.

The networks have learnt from demyelination alone, and may draw a speck in a tumour, or all of it. So the image is looked at
(`signs_in_image`), the mask (`signs_in_mask`) and the midline. A sign says that the findings are to be seen by a reader as
something else; that there is none says nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pipelines.flair.coarse_brain import CoarseBrain, Scene
from pipelines.flair.signs_in_image import above, signs_in_image
from pipelines.flair.signs_in_mask import signs_in_mask
from pipelines.regions.structures import Structure
from pipelines.types import NotTypical

SHIFT_MM: Final = 5.0
"""Third ventricle off the midline. Heads with MS: 2.3 mm; real scans: 0.8."""
_LEAST_THIRD: Final = 20


def signs_of(scene: Scene) -> tuple[NotTypical, ...]:
    """Return the signs by which a brain's findings are not like demyelination; none: nothing is said."""
    if not scene.brain.any():
        return ()
    cropped = scene.cropped()
    coarse = CoarseBrain.of(cropped)
    shift = _shift(cropped)
    return (*signs_in_mask(coarse), *signs_in_image(coarse), *(() if shift is None else (shift,)))


def _shift(scene: Scene) -> NotTypical | None:
    """Return how far the third ventricle lies off the midline, where that is too far."""
    if scene.structures is None:
        return None
    deep = np.flatnonzero((scene.structures == Structure.DEEP_GREY).any(axis=(1, 2)))
    lower = np.argwhere(scene.structures == Structure.LOWER_VENTRICLE)
    third = lower[lower[:, 0] >= deep[0]] if len(deep) else lower[:0]
    if len(third) < _LEAST_THIRD:
        return None
    shift_mm = abs(float(np.median(scene.midline.left_mm(scene.grid.positions_lps(third)))))
    return above("midline shift", "third ventricle off the midline", shift_mm, "mm", SHIFT_MM)
