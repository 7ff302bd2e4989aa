"""Marks of findings: a voxel inside each lesion and each segment, for viewers to open on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from pipelines.types import BoolArray, Findings, Laterality, Lesion, Point, Volume

HALF_A_VOXEL: Final = 0.5


class Mark(NamedTuple):
    """A voxel of the volume: slice, row, column."""

    k: int
    j: int
    i: int


@dataclass(frozen=True)
class _Components:
    """The 26-connected components of a mask, each with its label, size, place and centre in voxels (k, j, i)."""

    labels: npt.NDArray[np.integer[Any]]
    voxels: npt.NDArray[np.integer[Any]]
    boxes: list[tuple[slice, slice, slice]]
    centres: npt.NDArray[np.float64]

    @classmethod
    def of(cls, mask: BoolArray) -> _Components:
        labels = cc3d.connected_components(mask, connectivity=26)
        told = cc3d.statistics(labels)
        return cls(labels, told["voxel_counts"], told["bounding_boxes"], told["centroids"])


@dataclass(frozen=True)
class Marks:
    """Marks of the lesions by ID, of the sides that were judged, and of the segments by name and side.

    What has no place in the volume has no mark.
    """

    lesions: Mapping[int, Mark] = field(default_factory=dict)
    sides: Mapping[Laterality, Mark] = field(default_factory=dict)
    segments: Mapping[tuple[str, Laterality | None], Mark] = field(default_factory=dict)


def marks_of(findings: Findings, volume: Volume | None) -> Marks:
    """Return all marks of findings; none without a volume."""
    if volume is None:
        return Marks()
    lesions, sides = lesion_marks(findings, volume), side_marks(findings, volume)
    segments: dict[tuple[str, Laterality | None], Mark] = {}
    # the smallest one has the least choice
    for item in sorted(findings.segments, key=lambda item: int(item.mask.sum())):
        mark = free_mark(item.mask, [*lesions.values(), *sides.values(), *segments.values()])
        if mark is not None:
            segments[item.name, item.laterality] = mark
    return Marks(lesions, sides, segments)


def lesion_marks(findings: Findings, volume: Volume) -> dict[int, Mark]:
    """Return a mark for each lesion, by its ID.

    It is the voxel furthest from the lesion's edge on the slice where the lesion is largest. A lesion that is no component
    of the masks by itself, as a part of a confluent one, gets its voxel that is nearest to its centre; one without any voxel,
    as between two slices, the voxel at its centre.
    """
    names = {lesion.segment for lesion in findings.lesions}
    masks = [item.mask for item in findings.segments if item.name in names]
    mask: BoolArray = np.zeros(volume.array.shape, dtype=bool)
    if masks and masks[0].shape == mask.shape:
        mask = np.logical_or.reduce(masks)
    components = _Components.of(mask) if mask.any() else None
    return {lesion.id: _lesion_mark(lesion, components, volume) for lesion in findings.lesions}


def mask_mark(mask: BoolArray) -> Mark | None:
    """Return the voxel furthest from the edge on the slice where a mask is largest; None where it is empty."""
    if not mask.any():
        return None
    k = int(mask.sum(axis=(1, 2)).argmax())
    depth = distance_transform_edt(np.pad(mask[k], 1))[1:-1, 1:-1]
    j, i = np.unravel_index(int(depth.argmax()), depth.shape)
    return Mark(k, int(j), int(i))


def free_mark(mask: BoolArray, others: Iterable[Mark]) -> Mark | None:
    """Return the mark of a mask on a slice where no other one lies in it, for viewers write a group's figures beside its mark.

    Where each of its slices has one: the voxel of the largest slice that is furthest from them.
    """
    others = [other for other in others if mask[other]]
    rest = mask.copy()
    rest[sorted({other.k for other in others})] = False
    if rest.any():
        return mask_mark(rest)
    if not mask.any():
        return None
    k = int(mask.sum(axis=(1, 2)).argmax())
    voxels = np.argwhere(mask[k])
    there = np.array([(other.j, other.i) for other in others if other.k == k])
    nearest = np.linalg.norm(voxels[:, None] - there[None], axis=-1).min(axis=1)
    j, i = voxels[int(nearest.argmax())]
    return Mark(k, int(j), int(i))


def point_mark(point: Point, volume: Volume) -> Mark | None:
    """Return the voxel that holds a point, mm, LPS; None where it lies outside of the volume."""
    kji = np.rint(_voxel_of(point, volume)).astype(int)
    if (kji < 0).any() or (kji >= volume.array.shape).any():
        return None
    return Mark(*map(int, kji))


def side_marks(findings: Findings, volume: Volume) -> dict[Laterality, Mark]:
    """Return a mark for each side that was judged: its own point, or else one in its segment; where there is neither, none."""
    marks: dict[Laterality, Mark] = {}
    for site in findings.sites:
        mark = point_mark(site.point_lps, volume) if site.point_lps is not None else None
        if mark is None:
            own = [item.mask for item in findings.segments if item.laterality == site.laterality]
            mark = next(filter(None, map(mask_mark, own)), None)
        if mark is not None:
            marks[site.laterality] = mark
    return marks


def _lesion_mark(lesion: Lesion, components: _Components | None, volume: Volume) -> Mark:
    centre = _voxel_of(lesion.centre_lps, volume)
    if components is not None:
        mark = _largest_slice_mark(lesion, components, centre, volume) or _nearest_mark(
            lesion, components, centre, volume
        )
        if mark is not None:
            return mark
    first, last = lesion.slices_k
    inside = np.clip(np.rint(centre), (first, 0, 0), (last, *(np.array(volume.array.shape[1:]) - 1)))
    return Mark(*map(int, inside))


def _largest_slice_mark(
    lesion: Lesion, components: _Components, centre: npt.NDArray[np.float64], volume: Volume
) -> Mark | None:
    """Return the mark of the component that a lesion is; None where it is none by itself."""
    expected = lesion.volume_mm3 / volume.voxel_volume_mm3
    own = [
        number
        for number in range(1, len(components.voxels))
        if abs(int(components.voxels[number]) - expected) < HALF_A_VOXEL
        and (components.boxes[number][0].start, components.boxes[number][0].stop - 1) == lesion.slices_k
    ]
    if not own:
        return None
    number = min(own, key=lambda n: float(np.linalg.norm(components.centres[n] - centre)))
    box = components.boxes[number]
    mark = mask_mark(components.labels[box] == number)
    return None if mark is None else Mark(*(int(part.start) + at for part, at in zip(box, mark, strict=True)))


def _nearest_mark(
    lesion: Lesion, components: _Components, centre: npt.NDArray[np.float64], volume: Volume
) -> Mark | None:
    """Return the voxel on a lesion's slices that is nearest to its centre; None where that is too far to be of the lesion."""
    first, last = lesion.slices_k
    voxels = np.argwhere(components.labels[first : last + 1]) + np.array((first, 0, 0))
    if not len(voxels):
        return None
    distances_mm = np.linalg.norm((voxels - centre) * volume.spacing_mm, axis=1)
    nearest = int(distances_mm.argmin())
    diameter_mm = 2 * np.cbrt(0.75 * lesion.volume_mm3 / np.pi)
    if distances_mm[nearest] > diameter_mm + max(volume.spacing_mm):
        return None
    return Mark(*map(int, voxels[nearest]))


def _voxel_of(point: Point, volume: Volume) -> npt.NDArray[np.float64]:
    """Return the voxel coordinates (k, j, i) of a point, mm, LPS."""
    inverse = np.linalg.inv(volume.affine)
    ijk = inverse[:3, :3] @ np.asarray(point, dtype=np.float64) + inverse[:3, 3]
    return np.asarray(ijk[::-1])
