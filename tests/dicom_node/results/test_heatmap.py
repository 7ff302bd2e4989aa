"""Heatmaps lie where their source slices lie, say what they are, and show the map over the source in their pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from result_factories import CONTEXT, REAL, SYNTHETIC, Case

from dicom_node.errors import ResultError
from dicom_node.results.colours import colour_scale, grey, overlay, window_of
from dicom_node.results.heatmap import caption_of
from dicom_node.results.picture import Caption, draw_caption, orientation_letters, side_letters
from dicom_node.results.source import slice_of, sources_of
from pipelines.types import ModelCard


def heatmaps(case: Case) -> list[Dataset]:
    return [dcmread(path) for path in case.paths("heatmap")]


def vector(ds: Dataset, keyword: str) -> list[float]:
    return [float(value) for value in ds[keyword].value]


@pytest.mark.parametrize(
    "series",
    [{}, {"orientation": "oblique"}, {"feet_first": True}, {"reversed": True, "interleaved": True}],
    ids=["axial", "oblique", "feet first", "reversed"],
)
def test_heatmap_lies_exactly_on_its_source_slice(tmp_path: Path, series: dict[str, object]) -> None:
    case = Case.make(tmp_path, **series)
    sources = {str(ds.SOPInstanceUID): ds for ds in map(dcmread, case.sources)}
    found = heatmaps(case)
    assert len(found) == 2
    for heatmap in found:
        (reference,) = heatmap.SourceImageSequence
        source = sources[reference.ReferencedSOPInstanceUID]
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            assert vector(heatmap, keyword) == vector(source, keyword), keyword
        assert heatmap.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert heatmap.InstanceNumber == source.InstanceNumber
        assert (heatmap.Rows, heatmap.Columns) == (source.Rows, source.Columns)
        assert float(heatmap.SliceThickness) == float(source.SliceThickness)
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        assert reference.SpatialLocationsPreserved == "YES"


def test_heatmap_of_an_enhanced_source_names_the_frame(tmp_path: Path) -> None:
    case = Case.make(tmp_path, enhanced=True, reversed=True)
    source = dcmread(case.sources[0])
    for heatmap in heatmaps(case):
        frame = int(heatmap.SourceImageSequence[0].ReferencedFrameNumber)
        own = source.PerFrameFunctionalGroupsSequence[frame - 1]
        assert heatmap.InstanceNumber == frame
        assert vector(heatmap, "ImagePositionPatient") == vector(
            own.PlanePositionSequence[0], "ImagePositionPatient"
        )


def test_heatmap_says_what_it_is(plain: Case) -> None:
    heatmap = heatmaps(plain)[0]
    assert (heatmap.BurnedInAnnotation, heatmap.ConversionType) == ("YES", "WSD")
    assert (heatmap.PhotometricInterpretation, heatmap.SamplesPerPixel, heatmap.BitsStored) == ("RGB", 3, 8)
    assert heatmap.DerivationDescription == "localisation map over the source image: Paper, equation 9."
    assert "of joint for the class MS, 0.83." in heatmap.ImageComments
    assert "trained on synthetic data" in heatmap.ImageComments
    assert heatmap.ImageComments.startswith("RESEARCH")


def test_key_slices_only_or_all_that_show_something(plain: Case, tmp_path: Path) -> None:
    assert sorted(int(ds.InstanceNumber) for ds in heatmaps(plain)) == [4, 6]
    every = Case.make(tmp_path / "2", context=replace(CONTEXT, heatmap_slices="all"))
    assert sorted(int(ds.InstanceNumber) for ds in heatmaps(every)) == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("class_name", ["MS", "NMOSD", "Multiple sclerosis"])
def test_differential_off_shows_no_map_of_a_disease(plain: Case, tmp_path: Path, class_name: str) -> None:
    disease = replace(plain.findings.heatmaps[0], class_name=class_name)
    lesion = replace(disease, name="saliency", class_name="lesion")
    changes = {"heatmaps": (disease, lesion), "hypotheses": ()}
    case = Case.make(tmp_path / "2", context=replace(CONTEXT, differential="off"), findings=changes)
    assert {str(ds.SeriesDescription) for ds in heatmaps(case)} == {"RESEARCH saliency lesion: FLAIR lesions"}


def test_caption_names_class_probability_map_and_model(plain: Case) -> None:
    place = slice_of(plain.series, sources_of(plain.series), 3)
    (heatmap,) = plain.findings.heatmaps
    caption = caption_of(heatmap, SYNTHETIC, place, plain.findings, 3)
    assert caption.top == ("MS: 0.83", "localisation map", "joint 1.2.0")
    assert caption.bottom == ("RESEARCH USE", "trained on synthetic data")
    assert caption.sides == ("R", "L", "A", "P")
    negative = replace(plain.findings, status="none")
    unsure = replace(heatmap, probability=None)
    assert caption_of(unsure, REAL, place, negative, 3).top[0] == "MS  (nothing found)"
    assert caption_of(unsure, REAL, place, negative, 3).bottom == ("RESEARCH USE",)
    mixed = replace(REAL, trained_on="real and synthetic")
    assert caption_of(unsure, mixed, place, negative, 3).bottom[1] == "trained on real and synthetic data"
    # The map explains a class: what counts is what the class was learnt from.
    told = replace(mixed, classes_trained_on="synthetic")
    assert caption_of(unsure, told, place, negative, 3).bottom[1] == "trained on synthetic data"


def test_slice_without_colour_says_that_it_has_none(plain: Case) -> None:
    place = slice_of(plain.series, sources_of(plain.series), 3)
    (heatmap,) = plain.findings.heatmaps
    values = heatmap.values.copy()
    values[3] *= 0.199 / values[3].max()
    dim = replace(heatmap, values=values)
    caption = caption_of(dim, SYNTHETIC, place, plain.findings, 3)
    assert caption.top == ("MS: 0.83", "localisation map", "joint 1.2.0", "below 0.2 on this slice")
    values[3] *= 0.201 / 0.199
    assert len(caption_of(dim, SYNTHETIC, place, plain.findings, 3).top) == 3


def test_two_maps_are_two_series(plain: Case, tmp_path: Path) -> None:
    second = replace(plain.findings.heatmaps[0], name="Grad-CAM", class_name="NMOSD", probability=None)
    both = Case.make(tmp_path / "2", findings={"heatmaps": (*plain.findings.heatmaps, second)})
    found = heatmaps(both)
    assert sorted({(int(ds.SeriesNumber), str(ds.SeriesDescription)) for ds in found}) == [
        (9004, "RESEARCH localisation map MS: FLAIR lesions"),
        (9005, "RESEARCH Grad-CAM NMOSD: FLAIR lesions"),
    ]
    assert len({ds.SeriesInstanceUID for ds in found}) == 2


def test_map_on_another_grid_is_refused(plain: Case, tmp_path: Path) -> None:
    wrong = replace(plain.findings.heatmaps[0], values=np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ResultError, match="heatmap 'localisation map' has shape"):
        Case.make(tmp_path / "2", findings={"heatmaps": (wrong,)})


def test_pixels_show_source_where_the_map_is_low_and_colour_where_it_is_high(tmp_path: Path) -> None:
    case = Case.make(tmp_path, shape=(12, 256, 256))
    volume = case.series.volume
    assert volume is not None
    heatmap = next(ds for ds in heatmaps(case) if ds.InstanceNumber == 4)
    pixels = heatmap.pixel_array
    expected = grey(volume.array[3], window_of(volume.array))
    # The map fills rows 10 to 39 and columns 20 to 49, rising with the column.
    assert (pixels[150:200, 60:160] == expected[150:200, 60:160]).all()
    strongest = pixels[30, 49].astype(int)
    assert strongest[0] - strongest[2] > 60


@pytest.mark.parametrize("model", [SYNTHETIC, REAL])
def test_research_use_is_burned_into_the_pixels(tmp_path: Path, model: ModelCard) -> None:
    case = Case.make(tmp_path, model=model, shape=(12, 128, 128))
    lower_left = heatmaps(case)[0].pixel_array[-40:, :90].astype(int)
    red, green, blue = lower_left[..., 0], lower_left[..., 1], lower_left[..., 2]
    amber = (red > 150) & (red - green > 20) & (green - blue > 40)
    rows = np.flatnonzero(amber.any(axis=1))
    assert amber.sum() > 60
    # One line of text on weights trained on real data; a second one says "trained on synthetic data".
    assert (np.ptp(rows) > 12) == (model is SYNTHETIC)


def test_letters_are_those_of_the_patient() -> None:
    assert side_letters((1, 0, 0, 0, 1, 0)) == ("R", "L", "A", "P")
    assert side_letters((0, 1, 0, 0, 0, -1)) == ("A", "P", "H", "F")
    assert orientation_letters((0, 0.8, 0.6)) == "PH"
    assert orientation_letters((0.99, 0.1, 0.0)) == "L"


def test_colour_scale_grows_lighter_all_the_way() -> None:
    luminance = colour_scale(np.linspace(0, 1, 256)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[0] < 5
    assert luminance[-1] > 240


def test_overlay_leaves_the_source_alone_where_the_map_is_nothing() -> None:
    background = np.full((4, 4, 3), 90, np.uint8)
    assert (overlay(background, np.zeros((4, 4), np.float32)) == background).all()
    assert (overlay(background, np.full((4, 4), np.nan, np.float32)) == background).all()


@pytest.mark.parametrize("shape", [(64, 64), (128, 96), (320, 320), (640, 512)])
def test_long_captions_stay_inside_the_image(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    drawn = draw_caption(image, Caption(("a very long line " * 20,), ("RESEARCH USE",)), colour_bar=False)
    assert drawn.shape == image.shape
    assert not drawn[:, -1].any()
    assert drawn.any()
