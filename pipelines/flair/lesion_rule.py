"""Rule by which a connected region of the lesion mask counts as a lesion.

A region counts when all of these hold:

- its long axis in the plane of the slices is at least 3 mm, as the criteria of McDonald ask of a lesion;
- it has at least four voxels and 3 mm3, so that the least volume grows with the voxel: one voxel of a slice of 6 mm has more
  than 3 mm3 and says nothing of a shape. Of 291 lesions that experts drew into ten scans with slices of 6.4 to 8.1 mm none has
  fewer than four voxels, while of the regions that the networks draw there with one to three, 17 of 128 touch a true lesion;
- its mean probability has one and a half times the odds of the threshold (three fifths at a threshold of one half): a region
  whose voxels all just pass is a haze;
- a large one has a second opinion, where one is asked for: the network that has learnt what is bright and normal gives it a
  mean probability of at least 0.3 above 200 mm3 and of at least 0.65 above 1 mL. A rim or cap of the ventricles, or a layer of
  scalp, that one network takes for a lesion is large. Small lesions need none, for that network misses many of them.

The last was chosen on 24 synthetic heads without lesions; of the regions that are drawn in slices of 1 and 3 mm of the three
labelled patients with fine scans it takes out two of one patient, 2.1 and 0.4 mL, less than half of which is lesion.

By folds over the patients of these ten scans the F1 of lesions is 0.755 with the rule and 0.744 when 3 mm3 alone are asked, at
the same Dice. It costs small lesions of thick slices: a patient of 1.3 mL, his slices averaged to 5 mm, has a Dice of 0.40 with
it and of 0.45 without.

What does not count is neither drawn nor listed; the report says how much it is.

References
----------
Thompson et al., Diagnosis of multiple sclerosis: 2017 revisions of the McDonald criteria, Lancet Neurol 2018;17:162-173.
Filippi et al., MRI criteria for the diagnosis of multiple sclerosis: MAGNIMS consensus guidelines, Lancet Neurol
2016;15:292-303 (a lesion is at least 3 mm in its long axis).
"""

from __future__ import annotations

import numpy as np

from pipelines.brain.long_axis import long_axis_mm
from pipelines.types import BoolArray

LONG_AXIS_MM = 3.0
MIN_VOLUME_MM3 = 3.0
MIN_VOXELS = 4
ODDS = 1.5
"""Odds of the mean probability over those of the threshold."""
SECOND_OPINION = ((1000.0, 0.65), (200.0, 0.3))
"""Volume in mm3 above which a region needs a second opinion, and the least mean probability by it; the largest first."""
_ROUNDING = 1e-6
"""Relative; headers state spacings in decimal digits."""


def least_volume_mm3(voxel_mm3: float) -> float:
    """Return the least volume of a lesion in voxels of a size, mm3."""
    return max(MIN_VOLUME_MM3, MIN_VOXELS * voxel_mm3)


def least_probability(threshold: float) -> float:
    """Return the least mean probability of a lesion that is drawn from a threshold on."""
    odds = ODDS * threshold / (1.0 - threshold) if threshold < 1.0 else np.inf
    return float(odds / (1.0 + odds)) if np.isfinite(odds) else 1.0


def is_confirmed(volume_mm3: float, second_opinion: float) -> bool:
    """Tell whether the mean probability by a second network is enough for a region of a volume."""
    asked = next((least for above_mm3, least in SECOND_OPINION if volume_mm3 > above_mm3), 0.0)
    return second_opinion >= asked


def is_large_enough(volume_mm3: float, voxel_mm3: float) -> bool:
    """Tell whether a region has the volume of a lesion."""
    return volume_mm3 >= least_volume_mm3(voxel_mm3) * (1.0 - _ROUNDING)


def is_lesion(
    region: BoolArray, mean_probability: float, spacing_mm: tuple[float, float, float], threshold: float
) -> bool:
    """Tell whether a region counts as a lesion.

    Parameters
    ----------
    region : bool array, shape (k, j, i)
        A connected region, in a box around it.
    mean_probability : float
        Over its voxels.
    spacing_mm : three floats
        Along k, j and i.
    threshold : float
        Probability from which its voxels were drawn.
    """
    voxel_mm3 = float(np.prod(spacing_mm))
    return (
        is_large_enough(float(np.count_nonzero(region)) * voxel_mm3, voxel_mm3)
        and mean_probability >= least_probability(threshold) * (1.0 - _ROUNDING)
        and long_axis_mm(region, spacing_mm) >= LONG_AXIS_MM * (1.0 - _ROUNDING)
    )
