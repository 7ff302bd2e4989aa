"""Lesions from a probability map on the native grid, and the slices that show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cc3d
import numpy as np
import numpy.typing as npt

from pipelines.brain.grid import Grid
from pipelines.flair.lesion_rule import (
    LONG_AXIS_MM,
    SECOND_OPINION,
    is_confirmed,
    is_large_enough,
    is_lesion,
    least_probability,
    least_volume_mm3,
)
from pipelines.types import BoolArray, Counting, FloatArray, Lesion

LabelArray = npt.NDArray[np.int32]
Opinion = Callable[[npt.NDArray[np.intp]], FloatArray]
"""Lesion probabilities, shape (m,), by another network at voxels (k, j, i), shape (m, 3)."""

THRESHOLD = 0.5
KEY_SLICES = 8
KEY_SLICES_WITHOUT_LESION = 3
KEY_SLICE_DISTANCE_MM = 6.0


def find_lesions(
    probability: FloatArray,
    grid: Grid,
    segment: str,
    threshold: float = THRESHOLD,
    second: Opinion | None = None,
) -> tuple[LabelArray, tuple[Lesion, ...], Counting]:
    """Return the lesions of a probability map, where they lie, and what was left out.

    A lesion is a 26-connected component that counts as one by `pipelines.flair.lesion_rule`; the others are left out.

    Parameters
    ----------
    probability : float32 array, shape (k, j, i)
        In [0, 1] on the native grid.
    grid : Grid
    segment : str
        Name of the segment that they belong to.
    threshold : float
        A voxel belongs to a lesion when its probability is at least this.
    second : callable, optional
        Asked about large regions.

    Returns
    -------
    int32 array, shape (k, j, i)
        The lesion's ID in its voxels, 0 elsewhere.
    tuple of Lesion
        The largest first, numbered from 1; the probability of each is the mean over its voxels.
    Counting
        The rule in the figures of this grid and threshold, with what it left out.
    """
    labels, count = cc3d.connected_components(probability >= threshold, connectivity=26, return_N=True)
    if count == 0:
        return np.zeros(probability.shape, dtype=np.int32), (), _counting(grid, threshold, ())
    statistics = cc3d.statistics(labels)
    voxels = statistics["voxel_counts"].astype(np.float64)
    volumes = voxels * grid.voxel_volume_mm3
    sums = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=count + 1)
    boxes = statistics["bounding_boxes"]
    kept = [
        n
        for n in range(1, count + 1)
        if is_lesion(labels[boxes[n]] == n, sums[n] / voxels[n], grid.spacing_mm, threshold)
        and _is_confirmed(labels[boxes[n]] == n, boxes[n], float(volumes[n]), second)
    ]
    kept.sort(key=lambda n: (-volumes[n], tuple(statistics["centroids"][n])))
    centres = grid.positions_lps(statistics["centroids"])
    lesions = []
    for number, label in enumerate(kept, start=1):
        across_k = boxes[label][0]
        x, y, z = (float(c) for c in centres[label])
        lesions.append(
            Lesion(
                id=number,
                segment=segment,
                volume_mm3=float(volumes[label]),
                centre_lps=(x, y, z),
                probability=float(sums[label] / voxels[label]),
                slices_k=(int(across_k.start), int(across_k.stop) - 1),
            )
        )
    numbers = np.zeros(count + 1, dtype=np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    left_out = volumes[sorted({*range(1, count + 1)} - {*kept})]
    return numbers[labels], tuple(lesions), _counting(grid, threshold, left_out)


def _is_confirmed(
    region: BoolArray, box: tuple[slice, slice, slice], volume_mm3: float, second: Opinion | None
) -> bool:
    """Tell whether a region, in a box of the grid, needs no second opinion or has it."""
    if second is None or volume_mm3 <= SECOND_OPINION[-1][0]:
        return True
    voxels = np.argwhere(region) + np.array([part.start for part in box], dtype=np.intp)
    return is_confirmed(volume_mm3, float(second(voxels).mean()))


def _counting(grid: Grid, threshold: float, left_out_mm3: npt.ArrayLike) -> Counting:
    """Return the rule on a grid, with the volumes that it left out, mm3."""
    volumes = np.asarray(left_out_mm3, dtype=np.float64)
    return Counting(
        long_axis_mm=LONG_AXIS_MM,
        volume_mm3=least_volume_mm3(grid.voxel_volume_mm3),
        probability=least_probability(threshold),
        left_out=len(volumes),
        left_out_mm3=float(volumes.sum()),
    )


def lesion_volume_mm3(mask: BoolArray, voxel_mm3: float) -> float:
    """Return the total volume of the lesions in a mask, components that are too small left out."""
    labels, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:] * voxel_mm3
    return float(sum(size for size in sizes if is_large_enough(size, voxel_mm3)))


def _spread(scores: npt.NDArray[np.float64], count: int, apart: int) -> list[int]:
    """Return up to count slices with the highest positive scores, each that far from the others."""
    chosen: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        if len(chosen) == count or scores[k] <= 0.0:
            break
        if all(abs(int(k) - other) >= apart for other in chosen):
            chosen.append(int(k))
    return chosen


def key_slices(mask: BoolArray, heat: FloatArray, spacing_k_mm: float) -> tuple[int, ...]:
    """Return the slices that a reader should see, ascending.

    With lesions: up to eight with the most lesion area, at least 6 mm apart. Without: up to three where the map
    is strongest. The slice of the map's maximum is always there.

    Parameters
    ----------
    mask : bool array, shape (k, j, i)
        Lesions.
    heat : float32 array, shape (k, j, i)
        The map that is shown over them.
    spacing_k_mm : float
        Between slices.
    """
    apart = max(1, round(KEY_SLICE_DISTANCE_MM / spacing_k_mm))
    peak: Iterable[int] = ()
    if float(heat.max(initial=0.0)) > 0.0:
        peak = (int(np.unravel_index(int(np.argmax(heat)), heat.shape)[0]),)
    if mask.any():
        chosen = _spread(mask.sum(axis=(1, 2)).astype(np.float64), KEY_SLICES, apart)
    else:
        chosen = _spread(heat.sum(axis=(1, 2), dtype=np.float64), KEY_SLICES_WITHOUT_LESION, apart)
    return tuple(sorted({*chosen, *peak}))
