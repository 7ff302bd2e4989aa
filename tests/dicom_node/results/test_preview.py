"""Previews are the pictures as they were returned, where there is most to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from result_factories import CONTEXT, Case

from dicom_node.errors import ResultError
from dicom_node.results.manifest import manifest_of
from dicom_node.results.preview import last_of_each_side, most_lit_first, write_png, write_previews
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


def test_each_side_has_its_last_segment() -> None:
    seg = Dataset()
    seg.SegmentSequence = [Dataset() for _ in range(4)]
    for number, (item, side) in enumerate(
        zip(seg.SegmentSequence, ("right", "right", "left", "left"), strict=True)
    ):
        item.SegmentNumber = number + 1
        region, modifier = Dataset(), Dataset()
        modifier.CodeValue = codes.LATERALITY[side].value
        region.AnatomicRegionModifierSequence = [modifier]
        item.AnatomicRegionSequence = [region]
    assert last_of_each_side(seg) == {"right": 2, "left": 4}
    for item in seg.SegmentSequence:
        del item.AnatomicRegionSequence
    assert last_of_each_side(seg) == {"": 4}


def test_most_lit_picture_of_a_map_comes_first(tmp_path: Path) -> None:
    paths = Case.make(tmp_path).paths("heatmap")
    dark = dcmread(paths[0])
    dark.PixelData = bytes(len(dark.PixelData))
    dark.save_as(paths[0])
    assert most_lit_first(paths) == [paths[1], paths[0]]
