"""Marks lie inside of what they mark, on its largest slice, whatever its shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from factories import volume as phantom

from dicom_node.results.finding_marks import (
    Mark,
    free_mark,
    lesion_marks,
    marks_of,
    mask_mark,
    point_mark,
    side_marks,
)
from pipelines.types import BoolArray, Findings, Lesion, Segment, SiteFinding, Volume

VOLUME = phantom(orientation="oblique")


def lesion_of(number: int, mask: BoolArray, volume: Volume = VOLUME) -> Lesion:
    voxels = np.argwhere(mask)
    x, y, z = volume.position_lps(voxels.mean(axis=0))
    slices = (int(voxels[:, 0].min()), int(voxels[:, 0].max()))
    return Lesion(number, "Lesion", len(voxels) * volume.voxel_volume_mm3, (x, y, z), 0.9, slices)


def empty() -> BoolArray:
    return np.zeros(VOLUME.array.shape, dtype=bool)


def test_mark_of_a_ring_lies_in_it_and_not_in_the_lesion_at_its_centre() -> None:
    ring, inner = empty(), empty()
    ring[4:7, 10:31, 10:31] = True
    ring[4:7, 13:28, 13:28] = False
    ring[5, 7:10, 10:31] = True  # the largest slice
    inner[4:7, 19:22, 19:22] = True
    findings = Findings(
        "findings",
        segments=(Segment("Lesion", "lesion_of_brain", ring | inner),),
        lesions=(lesion_of(1, ring), lesion_of(2, inner)),
    )
    marks = lesion_marks(findings, VOLUME)
    assert ring[marks[1]]
    assert marks[1].k == 5
    assert marks[2] == Mark(4, 20, 20)


def test_part_of_a_confluent_lesion_gets_the_voxel_nearest_to_its_own_centre() -> None:
    whole, part = empty(), empty()
    whole[3:8, 20:24, 10:40] = True
    part[3:8, 20:24, 30:40] = True
    findings = Findings(
        "findings", segments=(Segment("Lesion", "lesion_of_brain", whole),), lesions=(lesion_of(1, part),)
    )
    (mark,) = lesion_marks(findings, VOLUME).values()
    assert part[mark]


def test_lesions_of_several_segments_are_found_each_in_its_own() -> None:
    first, second = empty(), empty()
    first[2:4, 5:9, 5:9] = True
    second[8:9, 40:43, 40:43] = True
    lesions = (lesion_of(1, first), replace(lesion_of(2, second), segment="Infratentorial"))
    segments = (
        Segment("Lesion", "lesion_of_brain", first),
        Segment("Infratentorial", "lesion_of_brain", second, region="infratentorial"),
    )
    marks = lesion_marks(Findings("findings", segments=segments, lesions=lesions), VOLUME)
    assert first[marks[1]]
    assert marks[2] == Mark(8, 41, 41)


def test_segment_is_marked_on_a_slice_of_its_own_beside_its_only_lesion() -> None:
    mask = empty()
    mask[3:6, 20:26, 20:26] = True
    mask[4, 20:30, 20:30] = True  # the largest slice
    found = Findings(
        "findings", segments=(Segment("Lesion", "lesion_of_brain", mask),), lesions=(lesion_of(1, mask),)
    )
    marks = marks_of(found, VOLUME)
    segment = marks.segments["Lesion", None]
    assert (marks.lesions[1].k, segment.k) == (4, 3)
    assert mask[segment]


def test_segment_of_one_slice_is_marked_far_from_its_lesion_s_mark() -> None:
    mask = empty()
    mask[4, 20:29, 20:29] = True
    mark = free_mark(mask, [Mark(4, 21, 21), Mark(4, 10, 40)])
    assert mark == Mark(4, 28, 28)


def test_no_voxels_no_mark() -> None:
    assert mask_mark(empty()) is None
    assert free_mark(empty(), [Mark(4, 1, 1)]) is None
    assert lesion_marks(Findings("none"), VOLUME) == {}


def test_point_outside_of_the_volume_is_no_mark() -> None:
    x, y, z = VOLUME.position_lps((7, 30, 20))
    assert point_mark((x, y, z), VOLUME) == Mark(7, 30, 20)
    assert point_mark((500.0, 0.0, 0.0), VOLUME) is None


def test_side_without_a_point_is_marked_in_its_segment() -> None:
    nerve = empty()
    nerve[5, 10:13, 10:13] = True
    x, y, z = VOLUME.position_lps((7, 30, 20))
    sites = (SiteFinding("right", "positive"), SiteFinding("left", "negative", point_lps=(x, y, z)))
    segments = (Segment("nerve", "optic_nerve", nerve, laterality="right"),)
    marks = side_marks(Findings("findings", segments=segments, sites=sites), VOLUME)
    assert marks == {"right": Mark(5, 11, 11), "left": Mark(7, 30, 20)}
    lost = Findings("none", sites=(SiteFinding("left", "not analysed"),))
    assert side_marks(lost, VOLUME) == {}
