"""Colours of all results: regions, the scale of maps, grey windows; the same thing always looks the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from pipelines.types import BoolArray, FloatArray, Region, Segment

Rgb = tuple[int, int, int]
RgbArray = npt.NDArray[np.uint8]

REGION_COLOURS: Final[Mapping[Region, Rgb]] = {
    "periventricular": (255, 140, 40),
    "juxtacortical": (70, 200, 255),
    "infratentorial": (250, 240, 80),
    "deep_white_matter": (90, 235, 110),
    "deep_grey_matter": (240, 120, 255),
}
"""Of a lesion by its region, in masks and pictures alike; lightness differs too, for eyes that mix up red and green."""
NO_REGION: Final[Rgb] = (255, 64, 64)
"""Of a lesion whose region is not known."""

_ANCHORS: Final = np.array(
    [
        [0.00, 150, 0, 10],
        [0.30, 190, 10, 10],
        [0.50, 235, 60, 0],
        [0.70, 255, 130, 0],
        [0.85, 255, 200, 30],
        [1.00, 255, 250, 170],
    ]
)
"""A scale of steadily rising lightness, red through orange to pale yellow: (value, R, G, B)."""

WINDOW_PERCENTILES: Final = (1.0, 99.0)
MOST_SAMPLES: Final = 2_000_000
"""Voxels, evenly spread, from which a window is taken; more would change nothing that is seen."""
FAINT: Final = 0.35
"""Values below this let the source through untouched; from there the overlay grows to `OPAQUE`."""
OPAQUE: Final = 0.65
FULL: Final = 0.7
"""From this value on it is as opaque as it gets."""

LINE: Final[Rgb] = (64, 224, 255)
"""A colour that the scale does not have."""


def segment_colour(segment: Segment) -> Rgb:
    """Return the colour of a segment: its region's, or the one that the pipeline gave it."""
    return segment.colour_rgb if segment.region is None else REGION_COLOURS[segment.region]


def colour_scale(values: npt.ArrayLike) -> RgbArray:
    """Return the colours, shape (..., 3), of values in [0, 1]."""
    clipped = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)
    channels = [np.interp(clipped, _ANCHORS[:, 0], _ANCHORS[:, channel]) for channel in (1, 2, 3)]
    colours: RgbArray = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


def window_of(array: FloatArray) -> tuple[float, float]:
    """Return the intensities, of the voxels of a volume, or a plane, above its least, that become black and white."""
    apart = max(1, math.ceil(math.sqrt(array.size / MOST_SAMPLES)))
    sampled = array[..., ::apart, ::apart]
    voxels = sampled[sampled > sampled.min()]
    if voxels.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(voxels, WINDOW_PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


def grey_levels(array: FloatArray, window: tuple[float, float]) -> RgbArray:
    """Return intensities, of any shape, as grey levels from 0 to 255."""
    low, high = window
    scaled = array * np.float32(255 / (high - low))
    scaled += np.float32(0.5 - low * 255 / (high - low))  # with the half, cutting off rounds
    np.clip(scaled, 0.0, 255.0, out=scaled)
    return scaled.astype(np.uint8)


def as_rgb(grey: RgbArray) -> RgbArray:
    """Return grey levels, shape (j, i), as RGB, shape (j, i, 3), that may be drawn on."""
    return np.repeat(grey[..., None], 3, axis=-1)


def grey(plane: FloatArray, window: tuple[float, float]) -> RgbArray:
    """Return a plane of intensities, shape (j, i), as grey RGB, shape (j, i, 3)."""
    return as_rgb(grey_levels(plane, window))


def overlay(background: RgbArray, values: FloatArray) -> RgbArray:
    """Return a map, shape (j, i), in [0, 1], blended over RGB of the same plane."""
    clipped = np.clip(np.nan_to_num(values.astype(np.float64)), 0.0, 1.0)
    strength = OPAQUE * np.clip((clipped - FAINT) / (FULL - FAINT), 0.0, 1.0)
    blended = (1.0 - strength[..., None]) * background + strength[..., None] * colour_scale(clipped)
    return np.rint(blended).astype(np.uint8)


def with_line(background: RgbArray, line: BoolArray, colour: Rgb = LINE) -> RgbArray:
    """Return RGB, shape (j, i, 3), with the pixels of a line, shape (j, i), in a colour."""
    drawn = background.copy()
    drawn[line] = colour
    return drawn
