"""Known lesions painted into a real scan, or into any volume, at places that look normal.

A painted lesion is as bright over the white matter around it as those that experts outlined (1.37 to 1.43 times), has a soft
edge, keeps most of the texture that it covers, and fills thick slices as far as it reaches into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.flair.intensity import brain_mode
from pipelines.types import BoolArray, FloatArray, Point

BRIGHTNESS = (1.40, 0.06)
"""Mean and SD of a lesion's core over the white matter around it."""
ELONGATION = (2.0, 0.3)
"""Median of the long axis over the short ones, and SD of its logarithm."""
EDGE_MM = 0.8
"""Half the width of the edge."""
SHOWN = 0.5
"""Share of lesion from which a voxel belongs to it."""
FROM_EDGE_MM, FROM_FLUID_MM, FROM_LESION_MM, APART_MM = 8.0, 4.0, 6.0, 14.0
"""Least distance of a place from the edge of the brain, from fluid, from what may be a lesion, and from other places."""
WHITE = 0.12
"""A place is white matter where its smoothed intensity differs from the mode by no more."""
FLUID = 0.6
_SMOOTHING_MM = 1.2
_LOCAL_MM = 8.0
_PARTS_MM = 1.0
"""Slices are divided into parts of about this thickness."""


@dataclass(frozen=True)
class PaintedLesion:
    """Ellipsoid of revolution.

    Parameters
    ----------
    centre_lps : Point
    volume_mm3 : float
    axis : three floats
        Unit vector along the long axis.
    elongation : float
        Long axis over the short ones.
    brightness : float
        Over the white matter around it.
    """

    centre_lps: Point
    volume_mm3: float
    axis: Point = (0.0, 0.0, 1.0)
    elongation: float = 1.0
    brightness: float = BRIGHTNESS[0]


@dataclass(frozen=True)
class Painted:
    """Volume with painted lesions.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    labels : int32 array, shape (k, j, i)
        Number of the lesion, from 1, in their order; 0 elsewhere.
    """

    array: FloatArray
    labels: npt.NDArray[np.int32] = field(repr=False)


def lesion_share(lesion: PaintedLesion, grid: Grid) -> tuple[tuple[slice, ...], FloatArray]:
    """Return how much of each voxel in a box is lesion, the box inside the grid."""
    short_mm = (lesion.volume_mm3 * 0.75 / np.pi / lesion.elongation) ** (1 / 3)
    reach_mm = short_mm * lesion.elongation + 2 * EDGE_MM
    inverse = np.linalg.inv(grid.affine)
    centre_kji = (inverse[:3, :3] @ np.array(lesion.centre_lps) + inverse[:3, 3])[::-1]
    box = tuple(
        slice(max(0, int(np.floor(c - reach_mm / mm - 1))), min(n, int(np.ceil(c + reach_mm / mm)) + 2))
        for c, mm, n in zip(centre_kji, grid.spacing_mm, grid.shape_kji, strict=True)
    )
    index = [np.arange(s.start, max(s.start, s.stop), dtype=np.float64) for s in box]
    parts = max(1, round(grid.spacing_mm[0] / _PARTS_MM))
    share = np.zeros([len(line) for line in index])
    for part in range(parts):
        lines = (index[0] + (part + 0.5) / parts - 0.5, *index[1:])
        offset = grid.positions_lps(np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)) - lesion.centre_lps
        along = offset @ np.array(lesion.axis)
        across = np.sqrt(np.maximum((offset**2).sum(axis=-1) - along**2, 0))
        radius = np.sqrt((along / lesion.elongation) ** 2 + across**2)
        share += np.clip(0.5 + (short_mm - radius) / (2 * EDGE_MM), 0, 1) / parts
    return box, share.astype(np.float32)


def paint(array: FloatArray, brain: BoolArray, grid: Grid, lesions: Sequence[PaintedLesion]) -> Painted:
    """Return a volume with lesions painted in; a lesion never darkens it, and leaves fluid dark.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
        0 for no signal.
    brain : bool array, shape (k, j, i)
    grid : Grid
    lesions : sequence of PaintedLesion
    """
    image = np.array(array, dtype=np.float32)
    labels = np.zeros(image.shape, dtype=np.int32)
    mode = np.float32(max(brain_mode(image[brain]), 1e-6))
    for number, lesion in enumerate(lesions, start=1):
        box, share = lesion_share(lesion, grid)
        if not share.size:
            continue
        wide = tuple(
            slice(max(0, s.start - round(_LOCAL_MM / mm)), s.stop + round(_LOCAL_MM / mm))
            for s, mm in zip(box, grid.spacing_mm, strict=True)
        )
        around = np.asarray(array[wide], dtype=np.float32)
        white = brain[wide] & (np.abs(around / mode - 1) < 0.2)
        local = np.float32(np.median(around[white])) if white.any() else mode
        sigma = [_SMOOTHING_MM / mm for mm in grid.spacing_mm]
        inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
        texture = (around - ndimage.gaussian_filter(around, sigma))[inner]
        part = image[box]
        share *= brain[box] & (part > FLUID * mode)
        value = np.float32(lesion.brightness) * local + np.float32(0.7) * np.clip(
            texture, -0.15 * mode, 0.15 * mode
        )
        image[box] = np.maximum(part, part * (1 - share) + value * share)
        labels[box][share > SHOWN] = number
    return Painted(image, labels)


def normal_places(
    array: FloatArray,
    brain: BoolArray,
    suspect: BoolArray,
    grid: Grid,
    count: int,
    rng: np.random.Generator,
) -> list[Point]:
    """Return centres of up to so many lesions in white matter that looks normal.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    brain, suspect : bool arrays, shape (k, j, i)
        The latter where a lesion may be.
    grid : Grid
    count : int
    rng : numpy Generator
    """
    mode = max(brain_mode(array[brain]), 1e-6)
    sigma = [_SMOOTHING_MM / mm for mm in grid.spacing_mm]
    smooth = ndimage.gaussian_filter(np.asarray(array, dtype=np.float32), sigma) / np.float32(mode)

    def far(region: BoolArray, least_mm: float) -> BoolArray:
        distance = ndimage.distance_transform_edt(~region, sampling=grid.spacing_mm)
        return np.asarray(distance >= least_mm)

    fits = brain & (np.abs(smooth - 1) < WHITE) & far(~brain, FROM_EDGE_MM)
    fits &= far(brain & (smooth < FLUID), FROM_FLUID_MM)
    if suspect.any():
        fits &= far(suspect, FROM_LESION_MM)
    places = grid.positions_lps(np.argwhere(fits))
    chosen: list[Point] = []
    while len(chosen) < count and len(places):
        x, y, z = (float(c) for c in places[rng.integers(len(places))])
        chosen.append((x, y, z))
        places = places[np.linalg.norm(places - chosen[-1], axis=1) >= APART_MM]
    return chosen


def drawn_lesion(
    centre_lps: Point, volume_mm3: float, rng: np.random.Generator, brightness: float | None = None
) -> PaintedLesion:
    """Draw a lesion of a volume at a place."""
    axis = rng.normal(size=3)
    x, y, z = (float(c) for c in axis / np.linalg.norm(axis))
    median, spread = ELONGATION
    elongation = float(np.clip(np.exp(rng.normal(np.log(median), spread)), 1, 3.5))
    bright = float(np.clip(rng.normal(*BRIGHTNESS), 1.25, 1.6)) if brightness is None else brightness
    return PaintedLesion(centre_lps, volume_mm3, (x, y, z), elongation, bright)
