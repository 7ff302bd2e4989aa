"""Previews are made from the returned files alone, and state the volume that the SEG holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from result_factories import CONTEXT, REAL, SYNTHETIC, Case

from dicom_node.errors import ResultError
from dicom_node.results import preview
from dicom_node.results.manifest import manifest_of
from dicom_node.results.picture import AMBER
from dicom_node.results.preview import (
    last_of_each_side,
    mask_frames,
    most_lit_first,
    segment_colours,
    segment_volumes_ml,
    write_previews,
)
from dicom_node.standard import codes


@pytest.mark.parametrize(
    "series", [{}, {"enhanced": True}, {"orientation": "sagittal", "spacing": (5.0, 1.0, 0.5)}]
)
def test_previews_of_mask_and_heatmaps_are_written(tmp_path: Path, series: dict[str, object]) -> None:
    case = Case.make(tmp_path, **series)
    manifest_of(case.findings, CONTEXT, case.objects).write(case.out)
    written = write_previews(case.out, case.sources, tmp_path / "png")
    assert [path.name for path in written] == ["mask.png", "heatmap-1-0004.png", "heatmap-1-0006.png"]
    for path in written:
        with Image.open(path) as picture:
            assert max(picture.size) >= 640


def test_mask_is_outlined_in_the_segments_colour_at_its_place(tmp_path: Path) -> None:
    case = Case.make(tmp_path)
    manifest_of(case.findings, CONTEXT, case.objects).write(case.out)
    picture = np.asarray(Image.open(write_previews(case.out, case.sources, tmp_path / "png")[0])).astype(int)
    # below it stands the colour again, as the key to it
    rows, columns = np.nonzero(np.abs(picture[:640] - [255, 64, 64]).sum(axis=-1) < 16)
    # 64 pixels become 640; the larger lesion fills rows 20 to 25 and columns 30 to 37.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (199, 260, 299, 380)


def test_volumes_come_from_voxels_and_positions(tmp_path: Path) -> None:
    seg = Case.make(tmp_path, wrong_spacing_between_slices=0.3).read("seg")
    assert segment_volumes_ml(mask_frames(seg), (0.9, 0.9)) == {1: pytest.approx(0.3645)}


def test_colour_survives_the_way_through_cielab(plain: Case) -> None:
    colour = segment_colours(plain.read("seg"))[1]
    assert np.abs(np.array(colour) - [255, 64, 64]).max() <= 5


def test_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    case = Case.make(tmp_path)
    manifest_of(case.findings, CONTEXT, case.objects).write(case.out)
    best = {5, 4, 6}
    rest = [path for path in case.sources if int(dcmread(path).InstanceNumber) not in best]
    with pytest.raises(ResultError, match="not among the files"):
        write_previews(case.out, rest, tmp_path / "png")


def test_picture_of_the_mask_says_what_it_is_for(tmp_path: Path) -> None:
    case = Case.make(tmp_path)
    manifest_of(case.findings, CONTEXT, case.objects).write(case.out)
    picture = np.asarray(Image.open(write_previews(case.out, case.sources, tmp_path / "png")[0]))
    assert (picture[500:640] == np.array(AMBER)).all(axis=-1).sum() > 100


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


@pytest.mark.parametrize("origin", ["synthetic", "real and synthetic", "real"])
def test_picture_of_a_mask_names_what_its_own_model_has_learnt_from(tmp_path: Path, origin: str) -> None:
    own, other = replace(REAL, trained_on=origin), replace(SYNTHETIC, name="other")
    case = Case.make(tmp_path, model=own, findings={"models": (own, other)})
    caption = preview._mask_caption(case.read("seg"))
    assert caption.bottom == ("RESEARCH USE", *(() if origin == "real" else (f"trained on {origin} data",)))
