"""Heatmaps lie where their source slices lie, say what they are, and show the map over the source in their pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from result_factories import CONTEXT, REAL, SYNTHETIC, Case

from dicom_node.errors import ResultError
from dicom_node.results.colours import FAINT, colour_scale, grey, overlay, window_of
from dicom_node.results.differential import may_name_class
from dicom_node.results.heatmap import ShownMap, remarks_of, shown_maps, slices_shown, title_of
from dicom_node.results.margin import Margin, Remark, edge_letters, lines_needed, with_margin
from dicom_node.standard.geometry import orientation_letters
from pipelines.types import Findings, ModelCard

pytestmark = pytest.mark.slow

DECIDED = replace(REAL, undecided=(0.3, 0.7))


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
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
            assert vector(heatmap, keyword) == vector(source, keyword), keyword
        assert heatmap.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert heatmap.InstanceNumber == source.InstanceNumber
        assert vector(heatmap, "PixelSpacing") == [pytest.approx(0.9 * 64 / 512)] * 2
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
    assert heatmap.ImageComments.startswith("RESEARCH. map of the image reader; localisation map of joint. ")
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
    assert {str(ds.DerivationDescription).split(" over")[0] for ds in heatmaps(case)} == {"saliency"}


@pytest.mark.parametrize(
    ("model", "probability", "named"),
    [
        (SYNTHETIC, 0.9, False),
        (replace(DECIDED, classes_trained_on="synthetic"), 0.9, False),
        (REAL, 0.9, False),
        (DECIDED, 0.65, False),
        (DECIDED, 0.3, False),
        (DECIDED, 0.9, True),
        (None, 0.9, False),
    ],
    ids=[
        "synthetic",
        "classes synthetic",
        "no band",
        "undecided",
        "at the band's edge",
        "decided",
        "no card",
    ],
)
def test_class_is_named_when_it_is_decided_by_real_data_alone(
    plain: Case, tmp_path: Path, model: ModelCard | None, probability: float, named: bool
) -> None:
    of = {"multiple_sclerosis": probability, "neuromyelitis_optica": 1 - probability}
    hypotheses = tuple(replace(item, probability=of[item.code]) for item in plain.findings.hypotheses)
    models = () if model is None else (model,)
    found = replace(plain.findings, hypotheses=hypotheses, models=models)
    for name in ("MS", "Multiple sclerosis"):
        assert may_name_class(found, model, name, probability) is named
    assert not may_name_class(found, model, "NMOSD", 1 - probability)
    if model is None:
        return
    maps = tuple(replace(item, probability=probability) for item in plain.findings.heatmaps)
    case = Case.make(tmp_path, model=model, findings={"heatmaps": maps, "hypotheses": hypotheses})
    (shown,) = shown_maps(case.findings, CONTEXT)
    said = [item.text for item in remarks_of(shown, case.findings, 3, 4)]
    assert ("MS" in " ".join(said)) is named
    for ds in heatmaps(case):
        told = f"{ds.SeriesDescription} {ds.ImageComments} {ds.DerivationDescription}"
        assert ('class "MS"' in told) is named
        assert named or "MS" not in told
        assert ds.SeriesDescription == "RESEARCH 15 maps: FLAIR lesions"


def test_what_is_no_disease_is_named_without_a_probability() -> None:
    nothing = Findings("findings")
    assert may_name_class(nothing, REAL, "lesion", None)
    assert not may_name_class(nothing, REAL, "MS", None)


def test_margin_says_what_a_map_is_and_what_it_is_not(plain: Case) -> None:
    (heatmap,) = plain.findings.heatmaps

    def told(values: np.ndarray, status: str = "findings", **changes: object) -> list[str]:
        shown = ShownMap((replace(heatmap, values=values, **changes),), SYNTHETIC)  # type: ignore[arg-type]
        findings = replace(plain.findings, status=status)  # type: ignore[arg-type]
        return [item.text for item in remarks_of(shown, findings, 3, 4)]

    usual = [
        "RESEARCH USE",
        "map of the image reader, image 4",
        "localisation map, joint 1.2.0",
        "trained on synthetic data",
    ]
    assert told(heatmap.values) == told(heatmap.values, resolution_mm=9.6) == usual
    assert told(heatmap.values, resolution_mm=48.0) == [*usual, "coarse map: one value for each 48 mm"]
    assert told(heatmap.values, "none") == [*usual, "nothing was found"]
    assert told(heatmap.values * 0.3) == [*usual, "nothing above 0.35 on this slice"]


def test_title_names_both_sides(plain: Case) -> None:
    (heatmap,) = plain.findings.heatmaps
    sides = tuple(
        replace(heatmap, laterality=side, class_name="lesion", probability=0.9) for side in ("right", "left")
    )
    assert title_of(ShownMap(sides, SYNTHETIC), plain.findings) == "map of the image reader: right and left"
    assert (
        title_of(ShownMap(sides, DECIDED), plain.findings)
        == 'map: right class "lesion" 0.90, left class "lesion" 0.90'
    )


def test_maps_are_one_series_of_the_finest_map_of_each_model(plain: Case, tmp_path: Path) -> None:
    (first,) = plain.findings.heatmaps
    coarse = replace(first, name="Grad-CAM", resolution_mm=48.0, model="five-slices")
    fine = replace(coarse, name="slice map", resolution_mm=3.0)
    findings = replace(plain.findings, heatmaps=(first, coarse, fine))
    names = [item.first.name for item in shown_maps(findings, CONTEXT)]
    assert names == ["localisation map", "slice map"]
    every = shown_maps(findings, replace(CONTEXT, heatmap_slices="all"))
    assert [item.first.name for item in every] == ["localisation map", "Grad-CAM", "slice map"]
    found = heatmaps(Case.make(tmp_path, findings={"heatmaps": (first, coarse, fine)}))
    assert {(int(ds.SeriesNumber), str(ds.SeriesInstanceUID)) for ds in found} == {
        (9015, str(found[0].SeriesInstanceUID))
    }
    assert len({ds.SOPInstanceUID for ds in found}) == len(found) == 4


def test_five_key_slices_that_show_most_are_kept_and_none_that_shows_nothing(plain: Case) -> None:
    (heatmap,) = plain.findings.heatmaps
    values = np.zeros_like(heatmap.values)
    values[:10] = np.linspace(0.1, 1.0, 10, dtype=np.float32)[:, None, None]
    shown = ShownMap((replace(heatmap, values=values, key_slices_k=tuple(range(10))),), REAL)
    assert slices_shown(shown, plain.findings, CONTEXT) == [5, 6, 7, 8, 9]
    few = ShownMap((replace(heatmap, values=values, key_slices_k=(0, 1, 4)),), REAL)
    assert slices_shown(few, plain.findings, CONTEXT) == [4]
    none = ShownMap((replace(heatmap, values=values, key_slices_k=(0, 1)),), REAL)
    assert slices_shown(none, plain.findings, CONTEXT) == [0], "one, which says that it shows nothing"


def test_map_on_another_grid_is_refused(plain: Case, tmp_path: Path) -> None:
    wrong = replace(plain.findings.heatmaps[0], values=np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ResultError, match="heatmap 'localisation map' has shape"):
        Case.make(tmp_path / "2", findings={"heatmaps": (wrong,)})


def test_pixels_show_source_where_the_map_is_low_and_colour_where_it_is_high(tmp_path: Path) -> None:
    case = Case.make(tmp_path, shape=(12, 512, 512), spacing=(3.0, 0.45, 0.45))
    volume = case.series.volume
    assert volume is not None
    heatmap = next(ds for ds in heatmaps(case) if ds.InstanceNumber == 4)
    pixels = heatmap.pixel_array
    expected = grey(volume.array[3], window_of(volume.array))
    # The map fills rows 10 to 39 and columns 20 to 49, rising with the column.
    assert (pixels[50:512] == expected[50:]).all(), "no text and no colour on the rest of the slice"
    assert (pixels[10:40, 20:30] == expected[10:40, 20:30]).all(), "low values are transparent"
    strongest = pixels[30, 49].astype(int)
    assert strongest[0] - strongest[2] > 40


def test_letters_are_those_of_the_patient() -> None:
    assert edge_letters((1, 0, 0, 0, 1, 0)) == ("R", "L")
    assert edge_letters((0, 1, 0, 0, 0, -1)) == ("A", "P")
    assert orientation_letters((0, 0.8, 0.6)) == "PH"
    assert orientation_letters((0.99, 0.1, 0.0)) == "L"


def test_colour_scale_grows_lighter_all_the_way() -> None:
    luminance = colour_scale(np.linspace(0, 1, 256)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[0] > 20, "no black, no purple"
    assert luminance[-1] > 230


def test_overlay_leaves_the_source_alone_where_the_map_is_nothing() -> None:
    background = np.full((4, 4, 3), 90, np.uint8)
    assert (overlay(background, np.zeros((4, 4), np.float32)) == background).all()
    assert (overlay(background, np.full((4, 4), np.nan, np.float32)) == background).all()

    assert (overlay(background, np.full((4, 4), FAINT, np.float32)) == background).all()


@pytest.mark.parametrize("width", [300, 512, 900])
def test_margin_holds_long_texts_whatever_the_width(width: int) -> None:
    image = np.zeros((40, width, 3), np.uint8)
    margin = Margin((Remark("a very long line " * 20), Remark("RESEARCH USE")), ("R", "L"), has_bar=True)
    drawn = with_margin(image, margin)
    assert drawn.shape == (40 + 19 * lines_needed(margin, width) + 10, width, 3)
    assert not drawn[:40].any() and not drawn[:, -3:].any() and drawn[40:].any()
