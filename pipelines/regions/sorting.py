"""Lesions sorted into regions: the fields of each, the load of each region, a segment for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.brain.long_axis import long_axis_mm
from pipelines.regions.brain_map import BrainMap
from pipelines.regions.cleaning import cleaned, on_map
from pipelines.regions.parts import parts_of
from pipelines.regions.rules import Place, Surroundings
from pipelines.types import (
    Anatomy,
    BoolArray,
    Counting,
    FloatArray,
    Laterality,
    Lesion,
    Region,
    RegionLoad,
    Segment,
)

REGIONS: Final[tuple[Region, ...]] = get_args(Region)
SEGMENT_NAMES: Final[Mapping[Region, str]] = {
    "periventricular": "Lesion, periventricular",
    "juxtacortical": "Lesion, juxtacortical or cortical",
    "infratentorial": "Lesion, infratentorial",
    "deep_white_matter": "Lesion, deep white matter",
    "deep_grey_matter": "Lesion, deep grey matter",
}
COLOURS: Final[Mapping[Region, tuple[int, int, int]]] = {
    "periventricular": (255, 64, 64),
    "juxtacortical": (64, 160, 255),
    "infratentorial": (255, 200, 0),
    "deep_white_matter": (64, 220, 96),
    "deep_grey_matter": (210, 96, 255),
}
ONE_SIDE = 0.8
"""Share of a lesion on one side from which on it is said to be there."""
IDs = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Part:
    """One counted part of a lesion."""

    place: Place
    volume_mm3: float
    long_axis_mm: float


@dataclass(frozen=True)
class Sorted:
    """Lesions by region.

    Parameters
    ----------
    labels : int32 array, shape (k, j, i)
        IDs of the lesions.
    lesions : tuple of Lesion
        Those that were given, in their order, without normal rims and caps, numbered anew.
    loads : tuple of RegionLoad
        One for each region; confluent lesions by their parts.
    rims : tuple of Lesion
        What is a normal rim or cap of the ventricles, by the IDs that were given.
    """

    labels: IDs
    lesions: tuple[Lesion, ...]
    loads: tuple[RegionLoad, ...]
    rims: tuple[Lesion, ...] = ()

    def anatomy(self, not_covered: tuple[Region, ...]) -> Anatomy:
        """Return what a report says of the regions."""
        return Anatomy(self.loads, not_covered)

    def counting(self, before: Counting) -> Counting:
        """Return what was left out, normal rims and caps included."""
        volume_mm3 = sum(rim.volume_mm3 for rim in self.rims)
        return replace(
            before,
            left_out=before.left_out + len(self.rims),
            left_out_mm3=before.left_out_mm3 + volume_mm3,
        )


def sort_lesions(labels: IDs, lesions: Sequence[Lesion], grid: Grid, brain: BrainMap) -> Sorted:
    """Return lesions with region, side, long axis, what else they reach, and whether they are borderline.

    Normal rims and caps of the ventricles are taken out.

    Parameters
    ----------
    labels : int32 array, shape (k, j, i)
        The ID of the lesion in its voxels, 0 elsewhere.
    lesions : sequence of Lesion
    grid : Grid
        Of the labels.
    brain : BrainMap
    """
    inside = on_map(labels > 0, grid, brain.grid)
    brain = replace(brain, structures=cleaned(brain.structures, inside, brain.grid.voxel_volume_mm3))
    surroundings = Surroundings(brain, grid)
    boxes = ndimage.find_objects(labels)
    sorted_lesions, rims, counted = [], [], []
    for lesion in lesions:
        box = boxes[lesion.id - 1]
        mask = labels[box] == lesion.id
        first = (box[0].start, box[1].start, box[2].start)
        parts = _parts(mask, first, grid, surroundings)
        if not parts:
            rims.append(lesion)
            continue
        counted += parts
        sorted_lesions.append(
            replace(
                lesion,
                **_region_of(parts),  # type: ignore[arg-type]
                laterality=_side(grid, np.argwhere(mask) + first, brain),
                long_axis_mm=long_axis_mm(mask, grid.spacing_mm),
            )
        )
    numbers = np.zeros(len(boxes) + 1, np.int32)
    for number, lesion in enumerate(sorted_lesions, start=1):
        numbers[lesion.id] = number
    renumbered = tuple(replace(lesion, id=int(numbers[lesion.id])) for lesion in sorted_lesions)
    return Sorted(numbers[labels], renumbered, _loads(counted), tuple(rims))


def _parts(
    mask: BoolArray, first: tuple[int, int, int], grid: Grid, surroundings: Surroundings
) -> list[_Part]:
    """Return the parts of a lesion; none where all of it is a normal rim."""
    numbers = parts_of(mask, grid.spacing_mm)
    found = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        part = numbers[box] == number
        start = (first[0] + box[0].start, first[1] + box[1].start, first[2] + box[2].start)
        place = surroundings.contact(part, start).place()
        volume_mm3 = float(np.count_nonzero(part)) * grid.voxel_volume_mm3
        found.append(_Part(place, volume_mm3, long_axis_mm(part, grid.spacing_mm)))
    if all(part.place.region is None for part in found):
        return []
    # A thin part of a larger lesion is no rim.
    return [
        replace(part, place=Place("periventricular")) if part.place.region is None else part for part in found
    ]


def _region_of(parts: Sequence[_Part]) -> dict[str, object]:
    """Return the region of a lesion, that of most of its volume, with what else it reaches."""
    volumes = dict.fromkeys(REGIONS, 0.0)
    for part in parts:
        if part.place.region is not None:
            volumes[part.place.region] += part.volume_mm3
    region = max(volumes, key=lambda name: volumes[name])
    others = {name for part in parts for name in (part.place.region, *part.place.also_reaches)} - {
        region,
        None,
    }
    return {
        "region": region,
        "segment": SEGMENT_NAMES[region],
        "also_reaches": tuple(name for name in REGIONS if name in others),
        "borderline": all(part.place.borderline for part in parts if part.place.region == region),
    }


def _loads(parts: Sequence[_Part]) -> tuple[RegionLoad, ...]:
    loads = []
    for region in REGIONS:
        own = [part for part in parts if part.place.region == region]
        loads.append(
            RegionLoad(
                region,
                lesions=len(own),
                borderline=sum(part.place.borderline for part in own),
                volume_mm3=sum(part.volume_mm3 for part in own),
                long_axis_mm=max((part.long_axis_mm for part in own), default=0.0),
            )
        )
    return tuple(loads)


def _side(grid: Grid, voxels: npt.NDArray[np.intp], brain: BrainMap) -> Laterality | None:
    """Return the side of a lesion; None where it lies on the midline."""
    left = float((brain.midline.left_mm(grid.positions_lps(voxels)) > 0).mean())
    return "left" if left >= ONE_SIDE else "right" if left <= 1 - ONE_SIDE else None


def region_segments(labels: IDs, lesions: Sequence[Lesion], probability: FloatArray) -> tuple[Segment, ...]:
    """Return a segment for each region that has lesions; a confluent lesion lies whole in that of its own region."""
    table: list[Region | None] = [None] * (int(labels.max(initial=0)) + 1)
    for lesion in lesions:
        table[lesion.id] = lesion.region
    segments = []
    for region in REGIONS:
        own = np.array([name == region for name in table])
        if own.any():
            mask = np.asarray(own[labels])
            segments.append(
                Segment(
                    SEGMENT_NAMES[region],
                    "lesion_of_brain",
                    mask,
                    probability,
                    COLOURS[region],
                    region=region,
                )
            )
    return tuple(segments)
