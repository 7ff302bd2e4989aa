"""Voxels of each lesion: findings hold masks and a list, and both are brought together here."""

from __future__ import annotations

import cc3d
import numpy as np
import numpy.typing as npt

from pipelines.types import Findings, Volume

LabelArray = npt.NDArray[np.uint16]


def lesion_voxels(findings: Findings, volume: Volume) -> LabelArray:
    """Return the ID of the lesion at each voxel, uint16, shape (k, j, i), 0 where there is none.

    A lesion is a 26-connected component of the segments together, known by its centre among those that reach into its slices;
    a component that slices left out have cut into pieces keeps its lesion's ID in each.
    """
    labels: LabelArray = np.zeros(volume.array.shape, dtype=np.uint16)
    masks = [item.mask for item in findings.segments]
    if not masks or not findings.lesions:
        return labels
    mask = masks[0] if len(masks) == 1 else np.logical_or.reduce(masks)
    box = _box(mask)
    if box is None:
        return labels
    components, count = cc3d.connected_components(mask[box], connectivity=26, return_N=True)
    statistics = cc3d.statistics(components)
    origin = np.array([part.start for part in box])
    centres = volume.position_lps(np.asarray(statistics["centroids"], dtype=np.float64) + origin)
    lesion_centres = np.array([item.centre_lps for item in findings.lesions])
    first, last = np.array([item.slices_k for item in findings.lesions]).T
    numbers = np.zeros(count + 1, dtype=np.uint16)
    for component in range(1, count + 1):
        across_k = statistics["bounding_boxes"][component][0]
        reaches = (first < across_k.stop + origin[0]) & (last >= across_k.start + origin[0])
        if reaches.any():
            distances = np.linalg.norm(lesion_centres - centres[component], axis=1)
            nearest = int(np.argmin(np.where(reaches, distances, np.inf)))
            numbers[component] = findings.lesions[nearest].id
    labels[box] = numbers[components]
    return labels


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Return the smallest box (k, j, i) around a mask; None where it is empty."""
    across_k = _extent(slices_of(mask))
    if across_k is None:
        return None
    plane = np.any(mask[across_k], axis=0)
    across_j, across_i = _extent(np.any(plane, axis=1)), _extent(np.any(plane, axis=0))
    return None if across_j is None or across_i is None else (across_k, across_j, across_i)


def _extent(found: npt.NDArray[np.bool_]) -> slice | None:
    at = np.flatnonzero(found)
    return slice(int(at[0]), int(at[-1]) + 1) if at.size else None


def slices_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return, for each slice k of a mask, whether it has any of it."""
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))
