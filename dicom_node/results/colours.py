"""Grey windows and the colour scale of heatmaps: numpy only, so that the same map always gets the same colours."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from pipelines.types import BoolArray, FloatArray

RgbArray = npt.NDArray[np.uint8]

_ANCHORS: Final = np.array(
    [
        [0.00, 0, 0, 4],
        [0.13, 31, 12, 72],
        [0.25, 85, 15, 109],
        [0.38, 136, 34, 106],
        [0.50, 186, 54, 85],
        [0.63, 227, 89, 51],
        [0.75, 249, 140, 10],
        [0.88, 249, 201, 50],
        [1.00, 252, 255, 164],
    ]
)
"""A scale of steadily rising lightness, black through purple, red and orange to pale yellow: (value, R, G, B)."""

WINDOW_PERCENTILES: Final = (1.0, 99.5)
FAINT: Final = 0.15
"""Values below this let the source through untouched; from there the overlay grows to `OPAQUE`."""
OPAQUE: Final = 0.7

LINE: Final = (64, 224, 255)
"""A colour that the scale does not have."""


def colour_scale(values: npt.ArrayLike) -> RgbArray:
    """Return the colours, shape (..., 3), of values in [0, 1]."""
    clipped = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)
    channels = [np.interp(clipped, _ANCHORS[:, 0], _ANCHORS[:, channel]) for channel in (1, 2, 3)]
    colours: RgbArray = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def window_of(array: FloatArray) -> tuple[float, float]:
    """Return the intensities, of all non-zero voxels of a volume, that become black and white."""
    voxels = array[array > array.min()]
    if voxels.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(voxels, WINDOW_PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


def grey(plane: FloatArray, window: tuple[float, float]) -> RgbArray:
    """Return a plane, shape (j, i), as grey RGB, shape (j, i, 3)."""
    low, high = window
    scaled = np.clip((plane.astype(np.float64) - low) / (high - low), 0.0, 1.0)
    return np.repeat(np.rint(255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)


def overlay(background: RgbArray, values: FloatArray) -> RgbArray:
    """Return a heatmap, shape (j, i), in [0, 1], blended over RGB of the same plane."""
    clipped = np.clip(np.nan_to_num(values.astype(np.float64)), 0.0, 1.0)
    strength = OPAQUE * np.clip((clipped - FAINT) / (1.0 - FAINT), 0.0, 1.0) ** 0.6
    blended = (1.0 - strength[..., None]) * background + strength[..., None] * colour_scale(clipped)
    return np.rint(blended).astype(np.uint8)


def with_line(background: RgbArray, line: BoolArray) -> RgbArray:
    """Return RGB, shape (j, i, 3), with the pixels of a line, shape (j, i), in the line's colour."""
    drawn = background.copy()
    drawn[line] = LINE
    return drawn
