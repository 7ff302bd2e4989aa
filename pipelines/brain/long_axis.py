"""Long axis of a region in the plane of the slices."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import pdist

from pipelines.types import BoolArray


def long_axis_mm(region: BoolArray, spacing_mm: tuple[float, float, float]) -> float:
    """Return the longest extent of a region within a slice, mm, its outermost pixels whole.

    Parameters
    ----------
    region : bool array, shape (k, j, i)
    spacing_mm : three floats
        Along k, j and i.
    """
    _, row_mm, column_mm = spacing_mm
    longest = 0.0
    for inside in region:
        rows = np.flatnonzero(inside.any(axis=1))
        if not rows.size:
            continue
        # in each row the two outermost pixels are enough
        first = inside[rows].argmax(axis=1)
        last = inside.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
        ends = np.column_stack([np.tile(rows * row_mm, 2), np.concatenate([first, last]) * column_mm])
        longest = max(longest, float(pdist(ends).max()))
    return longest + (row_mm + column_mm) / 2 if region.any() else 0.0
