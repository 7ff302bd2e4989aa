"""Lesions with region, side and long axis; loads and segments of the regions."""

from __future__ import annotations

import numpy as np

from pipelines.regions.parts import parts_of
from pipelines.regions.sorting import REGIONS, Sorted, region_segments, sort_lesions
from pipelines.types import BoolArray, Counting
from tests.pipelines.regions.brains import ball, brain, grid, lesion


def sort(*masks: BoolArray) -> tuple[np.ndarray, Sorted]:  # type: ignore[type-arg]
    labels = np.zeros(grid().shape_kji, np.int32)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    lesions = [lesion(number, mask) for number, mask in enumerate(masks, start=1)]
    return labels, sort_lesions(labels, lesions, grid(), brain())


def test_lesions_get_region_side_and_long_axis() -> None:
    _, found = sort(ball(35, 30, 20, 4), ball(35, 30, 47, 3), ball(44, 30, 30, 2.5))
    assert [of.region for of in found.lesions] == ["periventricular", "deep_white_matter", "periventricular"]
    assert [of.laterality for of in found.lesions] == ["right", "left", None]
    assert [of.segment for of in found.lesions][1] == "Lesion, deep white matter"
    assert found.lesions[1].long_axis_mm is not None
    assert 6 < found.lesions[1].long_axis_mm < 8.5
    loads = {load.region: load for load in found.loads}
    assert tuple(loads) == REGIONS
    assert loads["periventricular"].lesions == 2
    assert loads["infratentorial"].lesions == 0
    assert sum(load.volume_mm3 for load in found.loads) == sum(of.volume_mm3 for of in found.lesions)


def test_confluent_lesion_is_counted_by_its_parts_and_lies_whole_in_one_segment() -> None:
    confluent = ball(35, 46, 14, 7) | ball(35, 34, 20, 5) | ball(35, 40, 17, 2)
    parts = parts_of(confluent, grid().spacing_mm)
    assert parts.max() == 2
    assert ((parts > 0) == confluent).all()
    labels, found = sort(confluent)
    (one,) = found.lesions
    assert one.also_reaches
    assert sum(load.lesions for load in found.loads) == 2
    (segment,) = region_segments(labels, found.lesions, confluent.astype(np.float32))
    assert segment.region == one.region
    assert segment.name == one.segment
    assert (segment.mask == confluent).all()


def test_normal_rim_is_told_apart_from_the_lesions() -> None:
    rim = np.zeros(grid().shape_kji, bool)
    rim[32:38, 22:38, 22:24] = True
    _, found = sort(rim, ball(35, 30, 47, 3))
    assert [of.id for of in found.lesions] == [1]
    assert [of.id for of in found.rims] == [1]
    assert (found.labels > 0).sum() == (ball(35, 30, 47, 3)).sum()
    counted = found.counting(Counting(3.0, 4.0, 0.6, left_out=1, left_out_mm3=2.0))
    assert (counted.left_out, counted.left_out_mm3) == (2, 2.0 + rim.sum())


def test_each_region_has_a_colour_of_its_own() -> None:
    labels, found = sort(ball(35, 30, 20, 4), ball(35, 30, 47, 3), ball(8, 45, 20, 3))
    segments = region_segments(labels, found.lesions, np.zeros(labels.shape, np.float32))
    assert len({of.colour_rgb for of in segments}) == 3
    assert not np.logical_and.reduce([of.mask for of in segments]).any()
