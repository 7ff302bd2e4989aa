"""Outlines lie where their source slices lie, enclose the mask in its colour, and bear the numbers of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import affine_for
from pydicom import Dataset, dcmread
from result_factories import BOXES, Case

from dicom_node.results.colours import NO_REGION, REGION_COLOURS
from dicom_node.results.lesion_voxels import lesion_voxels
from dicom_node.results.outline_slices import LARGEST_SERIES_BYTES, chosen_slices, grid_and_step
from dicom_node.results.picture_grid import PictureGrid
from pipelines.types import Findings, Lesion, Segment, Volume


def outlines(case: Case) -> dict[int, Dataset]:
    return {int(ds.InstanceNumber): ds for ds in map(dcmread, case.paths("outline"))}


def vector(ds: Dataset, keyword: str) -> list[float]:
    return [float(value) for value in ds[keyword].value]


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"orientation": "oblique", "spacing": (3.0, 0.9, 0.45)},
        {"feet_first": True, "reversed": True, "interleaved": True},
    ],
    ids=["axial", "oblique, pixels not square", "feet first, reversed"],
)
def test_each_slice_has_its_outlines_exactly_on_it(tmp_path: Path, series: dict[str, object]) -> None:
    case = Case.make(tmp_path, **series)
    sources = {str(ds.SOPInstanceUID): ds for ds in map(dcmread, case.sources)}
    found = outlines(case)
    assert len(found) == len(sources)
    for number, outline in found.items():
        (reference,) = outline.SourceImageSequence
        source = sources[reference.ReferencedSOPInstanceUID]
        assert number == source.InstanceNumber
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            assert vector(outline, keyword) == vector(source, keyword), keyword
        assert outline.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert float(outline.SliceThickness) == float(source.SliceThickness)
        across, down = vector(outline, "PixelSpacing")
        assert across == down == pytest.approx(max(64 * s for s in vector(source, "PixelSpacing")) / 512)
        assert outline.Columns == round(64 * vector(source, "PixelSpacing")[1] / across)
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert (outline.BurnedInAnnotation, outline.ConversionType) == ("YES", "WSD")


def test_outline_of_an_enhanced_source_names_the_frame(tmp_path: Path) -> None:
    case = Case.make(tmp_path, enhanced=True, reversed=True)
    source = dcmread(case.sources[0])
    for number, outline in outlines(case).items():
        assert int(outline.SourceImageSequence[0].ReferencedFrameNumber) == number
        position = source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        assert vector(outline, "ImagePositionPatient") == vector(position, "ImagePositionPatient")


def test_line_encloses_the_mask_and_leaves_it_free(plain: Case) -> None:
    pixels = outlines(plain)[4].pixel_array[:512].astype(int)
    line = (pixels == NO_REGION).all(axis=-1)
    rows, columns = np.nonzero(line[:, :303])  # right of it stands the number, in the same colour
    # the larger lesion fills rows 20 to 25 and columns 30 to 37, each pixel eight times as large
    assert (rows.min(), rows.max()) == (pytest.approx(155, abs=2), pytest.approx(205, abs=2))
    assert (columns.min(), columns.max()) == (pytest.approx(235, abs=2), pytest.approx(301, abs=2))
    assert not line[162:198, 242:294].any()
    assert (pixels[10:120] == pixels[10:120, :, :1]).all(), "grey where nothing was found"


def test_lesions_have_the_colours_of_their_regions(plain: Case, tmp_path: Path) -> None:
    first, second = plain.findings.lesions
    lesions = (replace(first, region="periventricular"), replace(second, region="infratentorial"))
    found = outlines(Case.make(tmp_path, findings={"lesions": lesions}))
    for number, region in ((4, "periventricular"), (9, "infratentorial")):
        shown = found[number].pixel_array[:512].astype(int)
        present = [key for key, colour in REGION_COLOURS.items() if (shown == colour).all(axis=-1).sum() > 20]
        assert present == [region]


def test_text_lies_below_the_image(plain: Case) -> None:
    for ds in outlines(plain).values():
        assert ds.Rows > 512 and ds.Columns == 512
        assert ds.pixel_array[512:].max() > 200
    first = outlines(plain)[1].pixel_array
    assert (first[:512] == first[:512, :, :1]).all(), "a slice without findings is grey alone"


def test_lesion_is_known_by_its_centre_also_where_a_slice_was_left_out() -> None:
    volume = Volume(np.zeros((12, 64, 64), np.float32), affine_for())
    masks = []
    lesions = []
    for number, box in enumerate(BOXES, start=1):
        mask = np.zeros(volume.array.shape, bool)
        mask[box] = True
        x, y, z = volume.position_lps(np.argwhere(mask).mean(axis=0))
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        lesions.append(Lesion(10 - number, "Lesion", 1.0, (x, y, z), 0.9, (int(slices[0]), int(slices[-1]))))
        masks.append(mask)
    masks[0][4] = False
    segments = tuple(Segment("Lesion", "lesion_of_brain", mask) for mask in masks)
    labels = lesion_voxels(Findings("findings", segments=segments, lesions=tuple(lesions)), volume)
    assert [set(np.unique(labels[mask])) for mask in masks] == [{9}, {8}]
    assert np.count_nonzero(labels) == sum(mask.sum() for mask in masks)
    assert not lesion_voxels(Findings("none"), volume).any()


@pytest.mark.parametrize(
    ("shape", "spacing", "rows", "step"),
    [
        ((20, 256, 256), (0.9, 0.9), 512, 1),
        ((48, 320, 320), (0.7, 0.7), 512, 1),
        ((24, 640, 512), (0.4, 0.4), 640, 1),
        ((60, 1024, 1024), (0.25, 0.25), 512, 1),
        ((192, 512, 512), (0.5, 0.5), 512, 3),
        ((200, 256, 256), (1.0, 1.0), 512, 3),
    ],
)
def test_series_stays_small(
    shape: tuple[int, int, int], spacing: tuple[float, float], rows: int, step: int
) -> None:
    grid, found = grid_and_step(shape, spacing)
    assert (grid.rows, found) == (rows, step)
    assert -(-shape[0] // step) * 3 * (grid.rows + 90) * grid.columns <= LARGEST_SERIES_BYTES


def test_lesion_between_the_slices_that_are_shown_gets_one_of_its_own() -> None:
    assert chosen_slices(12, 3, [[1, 2], [5]], most=6) == [2, 5, 8, 11], "where most lesions are met"
    assert chosen_slices(12, 3, [[3], [6], [4]], most=6) == [0, 3, 4, 6, 9]
    assert chosen_slices(12, 3, [[3], [6], [4]], most=4) == [0, 3, 6, 9], "no room for more"
    assert chosen_slices(4, 1, [], most=99) == [0, 1, 2, 3]


def test_first_pixel_stays_where_it_was_and_values_lie_between_their_neighbours() -> None:
    grid = PictureGrid.over((4, 4), (1.0, 1.0))
    ramp = np.repeat(np.arange(4, dtype=np.float32)[:, None], 4, axis=1)
    values = grid.values(ramp)
    assert values[0, 0] == pytest.approx(0.0, abs=0.01)
    assert values[128, 7] == pytest.approx(1.0, abs=0.01), "128 pixels on lies the next one"
    assert values[192, 7] == pytest.approx(1.5, abs=0.01)
    assert grid.place(1.0, 2.0) == (128.0, 256.0)
