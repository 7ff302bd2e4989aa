"""Changes as they lie on the current image, with the lesions of both findings that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.brain.long_axis import long_axis_mm
from pipelines.change.rule import Grown, Growth, Limits
from pipelines.comparison import CHANGES, Change, Examined, Grade, LesionChange, LesionMatch
from pipelines.types import Affine, Lesion

LabelArray = npt.NDArray[np.int32]
_REVERSE = np.eye(4)[[2, 1, 0, 3]]


@dataclass(frozen=True)
class Traced:
    """Changes, the largest of each kind first, and their numbers on the grid of the current image."""

    changes: tuple[LesionChange, ...]
    labels: LabelArray


@dataclass(frozen=True)
class _Found:
    """One growth or shrinkage on the common grid."""

    change: Change
    growth: Growth
    region: tuple[npt.NDArray[np.intp], ...]


def nearest(labels: npt.NDArray[np.integer], source: Grid, target: Grid, to_source: Affine) -> LabelArray:
    """Return labels at the voxels of another grid, those of the nearest voxel; 0 beyond.

    Parameters
    ----------
    to_source : float64 array, shape (4, 4)
        A point of the target's space, mm, to the source's.
    """
    matrix = _REVERSE @ np.linalg.inv(source.affine) @ to_source @ target.affine @ _REVERSE
    values = ndimage.affine_transform(
        np.asarray(labels, dtype=np.int32),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape_kji,
        output=np.int32,
        order=0,
        mode="constant",
    )
    return np.asarray(values, dtype=np.int32)


def _inverse(transform: Affine) -> Affine:
    return np.asarray(np.linalg.inv(transform), dtype=np.float64)


def _grid_of(examined: Examined) -> Grid:
    k, j, i = examined.volume.array.shape
    return Grid((k, j, i), np.asarray(examined.volume.affine, dtype=np.float64))


def _found(growth: Grown, shrinkage: Grown, grade: Grade, limits: Limits) -> Iterator[_Found]:
    """Yield what counts at a grade of comparability."""
    kinds: tuple[tuple[Grown, Change, Change], ...] = (
        (growth, "new", "enlarging"),
        (shrinkage, "resolved", "smaller"),
    )
    for grown, new, enlarging in kinds:
        for number, one in enumerate(grown.growths, start=1):
            certain = one.certain
            if grade == "C":
                if not one.is_new or one.volume_mm3 < limits.different_mm3:
                    continue
                certain = False
            judged = Growth(one.is_new, certain, one.volume_mm3, one.earlier_mm3)
            yield _Found(new if one.is_new else enlarging, judged, np.nonzero(grown.labels == number))


def _joined(found: Iterable[_Found], now: LabelArray, then: LabelArray) -> list[_Found]:
    """Join what has changed alike in one lesion."""
    joined: dict[tuple[Change, int], _Found] = {}
    for position, one in enumerate(found):
        lesion = _most((now if one.change in ("new", "enlarging") else then)[one.region])
        key = (one.change, -1 - position if lesion is None else lesion)
        other = joined.get(key)
        if other is not None:
            growth = Growth(
                one.growth.is_new,
                one.growth.certain or other.growth.certain,
                max(one.growth.volume_mm3, other.growth.volume_mm3),
                max(one.growth.earlier_mm3, other.growth.earlier_mm3),
            )
            region = tuple(np.concatenate(axes) for axes in zip(other.region, one.region, strict=True))
            joined[key] = _Found(one.change, growth, region)
        else:
            joined[key] = one
    return list(joined.values())


def changes_of(
    growth: Grown,
    shrinkage: Grown,
    current: Examined,
    prior: Examined,
    grid: Grid,
    to_current: Affine,
    to_prior: Affine,
    grade: Grade,
    limits: Limits,
) -> Traced:
    """Return all changes on the current image.

    Parameters
    ----------
    growth, shrinkage : Grown
        On the common grid; the latter with the roles of both scans swapped.
    grid : Grid
        The common one.
    to_current, to_prior : float64 arrays, shape (4, 4)
        A point of the middle, mm, to the patient positions of each image.
    grade : "A", "B" or "C"
    """
    own = _grid_of(current)
    numbers_now = nearest(current.labels, own, grid, to_current)
    numbers_then = nearest(prior.labels, _grid_of(prior), grid, to_prior)
    found = sorted(
        _joined(_found(growth, shrinkage, grade, limits), numbers_now, numbers_then),
        key=lambda one: (
            CHANGES.index(one.change),
            -max(one.growth.volume_mm3, one.growth.earlier_mm3),
            tuple(int(axis[0]) for axis in one.region),
        ),
    )
    common = np.zeros(grid.shape_kji, dtype=np.int32)
    for number, one in enumerate(found, start=1):
        common[one.region] = number
    labels = nearest(common, grid, own, _inverse(to_current))
    changes = []
    for number, one in enumerate(found, start=1):
        lesion = _most(numbers_now[one.region])
        prior_lesion = _most(numbers_then[one.region])
        if one.change == "new" and lesion is not None:
            _fill(labels, current.labels, lesion, number, numbers_then, numbers_now)
        inside = labels == number
        if not inside.any():
            # Smaller than a voxel of the current image: the voxel of its centre.
            inside = _centre_voxel(one, grid, own, to_current)
            labels[inside] = number
        changes.append(_described(number, one, inside, own, (current, lesion), (prior, prior_lesion)))
    return Traced(tuple(changes), labels)


def _described(
    number: int,
    one: _Found,
    inside: npt.NDArray[np.bool_],
    own: Grid,
    now: tuple[Examined, int | None],
    then: tuple[Examined, int | None],
) -> LesionChange:
    voxels = np.argwhere(inside)
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    x, y, z = (float(c) for c in own.positions_lps(voxels.mean(axis=0)))
    described = _lesion(*now) or _lesion(*then)
    larger, smaller = one.growth.volume_mm3, one.growth.earlier_mm3
    grown = one.change in ("new", "enlarging")
    return LesionChange(
        number=number,
        change=one.change,
        possible=not one.growth.certain,
        volume_mm3=larger if grown else smaller,
        prior_volume_mm3=smaller if grown else larger,
        centre_lps=(x, y, z),
        slices_k=(int(low[0]), int(high[0])),
        lesion=now[1],
        prior_lesion=then[1],
        region=None if described is None else described.region,
        laterality=None if described is None else described.laterality,
        long_axis_mm=long_axis_mm(inside[box], own.spacing_mm),
    )


def _fill(
    labels: LabelArray,
    lesions: LabelArray,
    lesion: int,
    number: int,
    numbers_then: LabelArray,
    numbers_now: LabelArray,
) -> None:
    """Give a new lesion its whole outline, unless a part of it was there before."""
    if not (numbers_then[numbers_now == lesion] > 0).any():
        labels[labels == number] = 0
        labels[lesions == lesion] = number


def _centre_voxel(one: _Found, grid: Grid, own: Grid, to_current: Affine) -> npt.NDArray[np.bool_]:
    middle = grid.positions_lps(np.array([axis.mean() for axis in one.region]))
    point = to_current[:3, :3] @ middle + to_current[:3, 3]
    inverse = np.linalg.inv(own.affine)
    index = np.rint(inverse[:3, :3] @ point + inverse[:3, 3]).astype(int)[::-1]
    inside = np.zeros(own.shape_kji, dtype=bool)
    inside[tuple(np.clip(index, 0, np.array(own.shape_kji) - 1))] = True
    return inside


def _most(numbers: LabelArray) -> int | None:
    """Return the number that most voxels have, None where all are 0; the least of several."""
    counts = np.bincount(numbers[numbers > 0])
    return int(np.argmax(counts)) if counts.size else None


def _lesion(examined: Examined, number: int | None) -> Lesion | None:
    return next((lesion for lesion in examined.lesions if lesion.id == number), None)


def matches_of(
    current: Examined, prior: Examined, grid: Grid, to_current: Affine, to_prior: Affine
) -> tuple[LesionMatch, ...]:
    """Return which lesions of both findings share voxels of the common grid."""
    now = nearest(current.labels, _grid_of(current), grid, to_current)
    then = nearest(prior.labels, _grid_of(prior), grid, to_prior)
    both = (now > 0) & (then > 0)
    pairs, counts = np.unique(np.column_stack([now[both], then[both]]), axis=0, return_counts=True)
    return tuple(
        LesionMatch(int(one), int(other), float(count * grid.voxel_volume_mm3))
        for (one, other), count in zip(pairs, counts, strict=True)
    )
