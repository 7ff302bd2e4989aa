"""Looks of a phantom on other scanners: sharpness, contrast, shading and noise, drawn anew each time [ours].

Phantoms of one simulated scanner look alike, and a network that has seen no other takes a softer image for a healthy one. Real
series differ by themselves: those of a data set are left as they are, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.types import FloatArray

SHARE = 0.85
"""Of the crops that an epoch sees; the others look as they were made."""
GAMMA = 0.4
"""The contrast curve is a power of exp(-0.4) to exp(0.4)."""
SHADING_SD = 0.08
"""Of the signal's relative change from the middle of the crop to its edge, along each axis."""
NOISE = 0.09
"""Standard deviation at most, before the blur, over the crop's range."""
BLUR = (0.25, 0.33, 0.33)
"""Weight of each neighbour at most, along (k, j, i): 0.33 blurs by 0.41 mm within the slice (standard deviation); along k as
thicker slices, and slices that were resampled, do."""
SMEAR = 0.33
"""Weight at most, on either side, of the crop moved by a voxel or two within its slices: so slices show a nerve that crosses
them obliquely, and its dark core fills up as a lesion's does. Heads differ most by how obliquely their nerves run."""
WAYS = ((0, 1), (0, 2), (1, 1), (-1, 1), (1, 2), (-1, 2), (1, 0))
"""By which it is moved, along (j, i); mostly across, as nerves run."""


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
    for axis, share in enumerate(rng.random(3)):
        way = [0, 0, 0]
        way[axis] = 1
        look = _smeared(look, way, np.float32(share * BLUR[axis]))
    way = [0, *WAYS[int(rng.integers(len(WAYS)))]]
    return _smeared(look, way, np.float32(rng.uniform(0, SMEAR)))


def _smeared(look: FloatArray, way: Sequence[int], weight: np.float32) -> FloatArray:
    """Mix a crop with itself, moved by some voxels (k, j, i) either way; its edges go on."""
    wide = np.pad(look, [(abs(step), abs(step)) for step in way], mode="edge")
    ahead, back = (
        wide[
            tuple(
                slice(abs(w) + sign * w, abs(w) + sign * w + n) for w, n in zip(way, look.shape, strict=True)
            )
        ]
        for sign in (1, -1)
    )
    return np.asarray((1 - 2 * weight) * look + weight * (ahead + back), dtype=np.float32)
