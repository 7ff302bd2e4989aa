"""Midline of the head beside a lone globe, from how alike both halves of the image are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.fatsat.globes import COARSE_MM, coarse
from pipelines.types import BoolArray, FloatArray, Laterality, Volume

SLACK_MM = 9.0
"""How far the midline may lie from half a mean distance between the eyes."""
OVERLAP_MM = 24.0
"""Least breadth that both halves must show."""
LIKENESS_MIN = 0.3
"""Least correlation of halves of a head."""
MARGIN = 0.1
"""By how much the likeness must be greater if the globe is one side's rather than the other's."""


@dataclass(frozen=True)
class Midline:
    """The plane between the halves of the head, and on which side of it the globe lies.

    Parameters
    ----------
    x_mm : float
        LPS.
    side : "left" or "right"
        The patient's.
    likeness : float
        Correlation between the halves.
    """

    x_mm: float
    side: Laterality
    likeness: float


def find_midline(volume: Volume, globe_lps: npt.NDArray[np.float64], half_mm: float) -> Midline | None:
    """Mirror the image at planes on both sides of a globe and compare.

    Parameters
    ----------
    volume : Volume
    globe_lps : float64 array, shape (3,), mm, LPS
    half_mm : float
        Mean distance from a globe to the midline.

    Returns
    -------
    Midline or None
        None where neither side is good, or both are about as good.
    """
    values, share, grid = coarse(volume)
    inside = share > 0.5
    smooth = ndimage.gaussian_filter(values, 1.0)
    # one eye must not decide: the globe and what would be its mirror are left out
    here = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape_kji), indexing="ij"), axis=-1)
    inside &= np.linalg.norm(grid.positions_lps(here) - globe_lps, axis=-1) > 16.0
    origin = float(grid.affine[0, 3])
    best: dict[Laterality, tuple[float, float]] = {"left": (-1.0, 0.0), "right": (-1.0, 0.0)}
    for twice in range(2 * grid.shape_kji[2] - 1):
        x_mm = origin + COARSE_MM * twice / 2
        side: Laterality = "left" if globe_lps[0] > x_mm else "right"
        if abs(abs(float(globe_lps[0]) - x_mm) - half_mm) <= SLACK_MM:
            best[side] = max(best[side], (_likeness(smooth, inside, twice), x_mm))
    found: Laterality = "left" if best["left"] > best["right"] else "right"
    other: Laterality = "right" if found == "left" else "left"
    if best[found][0] < max(LIKENESS_MIN, best[other][0] + MARGIN):
        return None
    return Midline(best[found][1], found, best[found][0])


def _likeness(values: FloatArray, inside: BoolArray, twice: int) -> float:
    """Return the correlation of the image with its mirror at the plane i = twice / 2; -1 where too little overlaps."""
    i = np.arange(values.shape[2])
    mirrored = twice - i
    pairs = (mirrored >= 0) & (mirrored < values.shape[2]) & (mirrored > i)
    if pairs.sum() * COARSE_MM < OVERLAP_MM:
        return -1.0
    one, other = values[:, :, i[pairs]], values[:, :, mirrored[pairs]]
    both = inside[:, :, i[pairs]] & inside[:, :, mirrored[pairs]]
    if both.mean() < 0.2:
        return -1.0
    a, b = one[both], other[both]
    if a.std() == 0.0 or b.std() == 0.0:
        return -1.0
    return float(np.corrcoef(a, b)[0, 1])
