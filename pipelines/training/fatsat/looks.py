"""How else a phantom could look on another scanner: sharpness, contrast, shading and noise, drawn anew each time [ours].

Phantoms of one simulated scanner look alike, and a network that has seen no other takes a softer image for a healthy one. Real
series differ by themselves: those of a data set are left as they are, as in the paper.
"""

from __future__ import annotations

import numpy as np

from pipelines.types import FloatArray

SHARE = 0.75
"""Of the crops that an epoch sees; the others look as they were made."""
GAMMA = 0.4
"""The contrast curve is a power of exp(-0.4) to exp(0.4)."""
SHADING_SD = 0.08
"""Of the signal's relative change from the middle of the crop to its edge, along each axis."""
NOISE = 0.06
"""Standard deviation at most, before the blur, over the crop's range."""
BLUR = (0.2, 0.25, 0.25)
"""Weight of each neighbour at most, along (k, j, i): 0.25 blurs by 0.35 mm within the slice (standard deviation); along k as
thicker slices, and slices that were resampled, do."""


def other_look(crop: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return a crop (k, j, i) of any scale as it could look on another scanner; its scale is another, too."""
    low, high = float(crop.min()), float(crop.max())
    if rng.random() >= SHARE or high <= low:
        return crop
    look = ((crop - low) / (high - low)) ** np.float32(np.exp(rng.uniform(-GAMMA, GAMMA)))
    for axis, slope in enumerate(rng.normal(0, SHADING_SD, 3)):
        shape = [1, 1, 1]
        shape[axis] = crop.shape[axis]
        look = look * (1 + slope * np.linspace(-1, 1, crop.shape[axis], dtype=np.float32)).reshape(shape)
    look = look + np.float32(rng.uniform(0, NOISE)) * rng.standard_normal(crop.shape, dtype=np.float32)
    within = rng.random()
    for axis, share in enumerate((rng.random(), within, within)):
        weight = np.float32(share * BLUR[axis])
        edges = [(0, 0), (0, 0), (0, 0)]
        edges[axis] = (1, 1)
        wide = np.moveaxis(np.pad(look, edges, mode="edge"), axis, 0)
        blurred = (1 - 2 * weight) * wide[1:-1] + weight * (wide[:-2] + wide[2:])
        look = np.moveaxis(blurred, 0, axis)
    return np.asarray(look, dtype=np.float32)
