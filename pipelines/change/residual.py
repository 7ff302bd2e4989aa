"""Error of an alignment as the edges of both brains show it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.change.halfway import OnCommonGrid
from pipelines.types import BoolArray

MOST_EDGE_MM = 1.5
"""Median distance of the edges of both brains from each other."""
LEAST_DICE = 0.90
"""Of both brains, where both scans cover them."""
LEAST_COVERED = 0.5
"""Share of the larger brain that both scans cover."""


def _edge(mask: BoolArray) -> BoolArray:
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=1))


def edge_distance_mm(first: BoolArray, second: BoolArray, grid: Grid) -> float:
    """Return the median distance of the edge voxels of two masks to the other's edge, mm; inf where one has none."""
    edges = _edge(first), _edge(second)
    if not (edges[0].any() and edges[1].any()):
        return float("inf")
    return max(
        float(np.median(ndimage.distance_transform_edt(~one, sampling=grid.spacing_mm)[other]))
        for one, other in (edges, edges[::-1])
    )


def refusal(first: OnCommonGrid, second: OnCommonGrid, grid: Grid) -> str:
    """Return why an alignment is not to be trusted, in one line; empty where it is."""
    both = first.covered & second.covered
    one, other = first.brain & both, second.brain & both
    counts = [int(np.count_nonzero(of)) for of in (one, other, first.brain, second.brain)]
    if min(counts[:2]) < LEAST_COVERED * max(counts[2:]):
        return "the images cover too little of the brain together"
    dice = 2 * np.count_nonzero(one & other) / max(1, counts[0] + counts[1])
    if dice < LEAST_DICE:
        return f"the images could not be aligned: their brains overlap by {dice:.2f} only (Dice)"
    distance = edge_distance_mm(one, other, grid)
    if distance > MOST_EDGE_MM:
        return f"the images could not be aligned: their brains' edges are {distance:.1f} mm apart"
    return ""
