"""Previews are the pictures as they were returned, where there is most to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code
from result_factories import CONTEXT, Case

from dicom_node.errors import ResultError
from dicom_node.results.manifest import manifest_of
from dicom_node.results.preview import found_on_each_side, most_lit_first, write_png, write_previews
from dicom_node.results.provenance import code_item
from dicom_node.standard import codes


@pytest.mark.parametrize("series", [{}, {"enhanced": True}])
def test_previews_of_outlines_and_maps_are_written(tmp_path: Path, series: dict[str, object]) -> None:
    case = Case.make(tmp_path, **series)
    manifest_of(case.findings, CONTEXT, case.objects).write(case.out)
    written = write_previews(case.out, tmp_path / "png")
    assert [path.name for path in written] == ["outlines.png", "heatmap-1-0004.png", "heatmap-1-0006.png"]
    with Image.open(written[0]) as picture:
        shown = np.asarray(picture)
    assert any((shown == dcmread(path).pixel_array).all() for path in case.paths("outline")[3:6])


def test_picture_that_can_not_be_written_is_one_clear_error(plain: Case, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file or directory"):
        write_png(plain.paths("outline")[0], tmp_path / "nowhere" / "a.png")


def segments(*described: tuple[str, Code]) -> Dataset:
    seg = Dataset()
    seg.SegmentSequence = []
    for number, (side, category) in enumerate(described, start=1):
        item, region = Dataset(), Dataset()
        item.SegmentNumber = number
        item.SegmentedPropertyCategoryCodeSequence = [code_item(category)]
        if side:
            region.AnatomicRegionModifierSequence = [code_item(codes.LATERALITY[side])]
        item.AnatomicRegionSequence = [region]
        seg.SegmentSequence.append(item)
    return seg


def test_what_was_found_on_each_side_is_shown_and_not_the_structure_around_it() -> None:
    nerve, found = codes.ANATOMICAL_STRUCTURE, codes.ABNORMAL_STRUCTURE
    seg = segments(("right", nerve), ("right", found), ("left", nerve), ("left", found))
    assert found_on_each_side(seg) == {"right": {2}, "left": {4}}


def test_lesions_of_all_regions_are_shown() -> None:
    found = codes.ABNORMAL_STRUCTURE
    assert found_on_each_side(segments(("", found), ("", found), ("", found))) == {"": {1, 2, 3}}


def test_structure_without_a_finding_is_shown() -> None:
    assert found_on_each_side(segments(("left", codes.ANATOMICAL_STRUCTURE))) == {"left": {1}}


def test_most_lit_picture_of_a_map_comes_first(tmp_path: Path) -> None:
    paths = Case.make(tmp_path).paths("heatmap")
    dark = dcmread(paths[0])
    dark.PixelData = bytes(len(dark.PixelData))
    dark.save_as(paths[0])
    assert most_lit_first(paths) == [paths[1], paths[0]]
