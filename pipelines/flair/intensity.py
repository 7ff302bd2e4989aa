"""The intensity scale that the FLAIR networks see."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipelines.types import BoolArray, FloatArray

BACKGROUND = -5.0
"""Value outside the brain: that of no signal."""
SCALE = 0.2
"""Share of the brain's mode that makes one unit."""
LIMIT = 10.0
_BINS = 128


def brain_mode(values: FloatArray) -> float:
    """Return the most frequent intensity among a brain's voxels: white matter, or between white and grey on FLAIR.

    Parameters
    ----------
    values : float32 array, shape (n,)
        Intensities in the brain, any scale with 0 for no signal.
    """
    if values.size == 0:
        return 0.0
    # 5th percentile: fluid and the dark rim must not win over tissue in a small or atrophic brain.
    low, high = np.percentile(values, [5.0, 99.5])
    if not high - low > 1e-5 * abs(high):  # of one value but for rounding: no histogram can be made
        return float(high)
    counts, edges = np.histogram(values, bins=_BINS, range=(float(low), float(high)))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 3.0)
    best = int(np.argmax(smooth))
    return float((edges[best] + edges[best + 1]) / 2)


def normalise(cube: FloatArray, mask: BoolArray) -> FloatArray:
    """Return a FLAIR volume on the scale of the networks, with its background cut off.

    The paper takes the z-score. [ours] Centre and scale come from the brain's mode instead of mean and SD: both are
    drawn by the lesions themselves (a high load lowers its own contrast), the mode is not. Zero is the mode, a unit is 0.2
    of it, so that lesions of 1.4 times white matter are near 2 and no signal is -5.

    Parameters
    ----------
    cube : float32 array, shape (k, j, i)
        Bias-corrected FLAIR, any scale with 0 for no signal.
    mask : bool array, shape (k, j, i)
        Brain.

    Returns
    -------
    float32 array, shape (k, j, i)
        `BACKGROUND` outside the mask, within [-5, 10] inside it.
    """
    mode = brain_mode(cube[mask])
    if mode <= 0:
        return np.full(cube.shape, BACKGROUND, dtype=np.float32)
    scaled = np.clip((cube / np.float32(mode) - 1) / np.float32(SCALE), BACKGROUND, LIMIT)
    return np.where(mask, scaled, np.float32(BACKGROUND)).astype(np.float32)
