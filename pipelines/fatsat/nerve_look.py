"""Likeness of a place on a slice to an optic nerve that is cut across: a dark disc in a bright ring in dark fat."""

from __future__ import annotations

import numpy as np
from scipy import signal

from pipelines.types import FloatArray

PIXEL_MM = 0.5
"""Pixels of the images and maps."""
FLOOR = 0.1
"""Over the vitreous: differences in noise, in air and in bone do not count."""
ALONE_WEIGHT, HOLLOW_WEIGHT, HOLE_WEIGHT = 1.4, 0.8, 2.0
AROUND_MM, RING_MM = 4.3, 2.6
"""How far from the centre spots are looked at beyond the sheath and in it."""
BRIGHTEST, DARKEST = 4, 2
"""Of the twelve spots: the nerve must be brighter than these around it, so that muscles, dura and folds of the brain, which go
on to one side or two, do not look like it; its core darker than these of the ring."""


def _kernels() -> FloatArray:
    """Return means over core, ring, nerve with sheath, and a spot of the surroundings, float32, shape (4, n, n)."""
    reach = round(2.75 / PIXEL_MM)
    at = np.arange(-reach, reach + 1) * PIXEL_MM
    away = np.hypot(at[:, None], at[None, :])
    parts = [away <= 1.3, (away >= 1.5) & (away <= 2.7), away <= 2.6, away <= 1.2]
    return np.stack([part / part.sum() for part in parts]).astype(np.float32)


def _spots(reach_mm: float) -> list[tuple[int, int]]:
    """Return twelve spots around a centre, in pixels from it."""
    turn = 2.0 * np.pi * np.arange(12) / 12
    reach = reach_mm / PIXEL_MM
    return [(round(reach * float(np.sin(t))), round(reach * float(np.cos(t)))) for t in turn]


_KERNELS = _kernels()
_AROUND, _RING = _spots(AROUND_MM), _spots(RING_MM)


def look_of(image: FloatArray) -> FloatArray:
    """Return how much each pixel looks like the centre of a nerve that is cut across, float32, shape (up, medial); 0 to 1.

    Two signs are added: the nerve with its sheath is brighter than the brightest of what lies around it, which is all that
    thick or oblique slices leave, and the ring is brighter than the core. Where that is more, a third counts instead: the core
    is darker than the darkest of its ring, which is left where the fat is not suppressed or the sheath is wide. All are
    relative to the signal there, so that shading behind the globe does not count.

    Parameters
    ----------
    image : float array, shape (up, medial)
        Signal over the vitreous, pixels of `PIXEL_MM`.
    """
    inner, outer = _KERNELS.shape[1] // 2, round(AROUND_MM / PIXEL_MM)
    padded = np.pad(image, inner + outer, mode="edge")
    core, ring, nerve, spot = (signal.fftconvolve(padded, kernel, mode="valid") for kernel in _KERNELS)
    rows, columns = image.shape
    around, near_by = (
        np.sort(
            [spot[outer + r : outer + r + rows, outer + c : outer + c + columns] for r, c in spots], axis=0
        )
        for spots in (_AROUND, _RING)
    )
    bright, dark = around[-BRIGHTEST:].mean(axis=0), near_by[:DARKEST].mean(axis=0)
    core, ring, nerve = (part[outer : outer + rows, outer : outer + columns] for part in (core, ring, nerve))
    alone = (nerve - bright) / (np.abs(nerve) + FLOOR)
    hollow = (ring - core) / (np.abs(ring) + FLOOR)
    hole = (dark - core) / (np.abs(dark) + FLOOR)
    look = np.maximum(
        ALONE_WEIGHT * np.clip(alone, -0.3, 0.5) + HOLLOW_WEIGHT * np.clip(hollow, -0.3, 0.4),
        HOLE_WEIGHT * np.clip(hole, 0.0, 0.4) * np.clip((core - FLOOR) / FLOOR, 0.0, 1.0),
    )
    return np.asarray(np.clip(look, 0.0, 1.0), dtype=np.float32)
