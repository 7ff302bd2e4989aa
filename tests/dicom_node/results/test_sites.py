"""What is returned of a classifier that judges sides: each eye by itself, with its side, and no word of brain lesions."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from factories import mr_series
from forbidden_words import forbidden_in
from pydicom import dcmread
from result_factories import (
    CONTEXT,
    SYNTHETIC,
    Case,
    coded,
    concept,
    measurement_groups,
    numbers,
    outcome,
    own_texts,
    sentences,
    texts,
    tool,
    totals,
)

from dicom_node.results.colours import LINE
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import manifest_of
from dicom_node.results.provenance import SYNTHETIC as SYNTHETIC_REMARK
from dicom_node.results.wording import CANDIDATE, RATING, site_sentence
from dicom_node.series.volume import load_series
from pipelines.types import Heatmap, Interval, Segment, SiteFinding

PROBABILITY, THRESHOLD, VOLUME = "122157", "122411", "118565006"
SITE, SUMMARY, FINDING = "363698007", "111017", "121071"
SHAPE = (14, 64, 64)
ORBITS: dict[str, Any] = {
    "shape": SHAPE,
    "orientation": "coronal",
    "spacing": (3.0, 0.5, 0.5),
    "SeriesDescription": "t2_tse_fs_cor_orbita",
    "InversionTime": None,
}
RIGHT = SiteFinding(
    "right", "positive", "", 0.914, Interval(0.84, 0.97, "over 32 networks"), 0.5, 0.92, 0.61, "automatic"
)
LEFT = SiteFinding(
    "left",
    "negative",
    "",
    0.12,
    Interval(0.05, 0.2, "over 32 networks"),
    0.5,
    0.9,
    0.3,
    "manual",
    point_lps=(-6.0, -12.0, -32.5),
)
"""Its point is voxel (6, 32, 44)."""
LOST = SiteFinding("left", "not analysed", "the eye was not found")
FALSE_FINDING = "Error - Missing attribute Type 2C Conditional Element=<Laterality> Module=<GeneralSeries>"
"""Of dciodvfy, on every Secondary Capture."""
MODEL = replace(SYNTHETIC, name="fatsat", purpose="optic-nerve lesions on FAT-SAT")
CONTEXT_FATSAT = replace(CONTEXT, pipeline="fatsat", title="FAT-SAT optic nerves")


def box(k: slice, j: slice, i: slice) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[k, j, i] = True
    return mask


def findings(sites: tuple[SiteFinding, ...] = (RIGHT, LEFT)) -> dict[str, Any]:
    """The right nerve with a candidate region of 12 voxels, and a map for each eye; brain results of the factory go."""
    positive = any(site.status == "positive" for site in sites)
    nerve, candidate = (
        box(slice(4, 9), slice(30, 35), slice(18, 23)),
        box(slice(6, 7), slice(31, 34), slice(19, 23)),
    )
    edge = box(slice(4, 9), slice(20, 44), slice(10, 34))
    edge[:, 21:43, 11:33] = False
    heat = np.zeros(SHAPE, np.float32)
    heat[6, 31:34, 19:23] = 1.0
    maps = tuple(
        Heatmap(
            "saliency",
            "Paper.",
            "lesion" if site.status == "positive" else "no lesion",
            site.probability if site.status == "positive" else 1 - site.probability,
            heat,
            (6,),
            "fatsat",
            outline=edge,
            laterality=site.laterality,
        )
        for site in sites
        if site.probability is not None
    )
    segments = (
        Segment("optic nerve", "optic_nerve", nerve, laterality="right"),
        Segment("candidate region (salient part inside the nerve)", "lesion", candidate, laterality="right"),
    )
    return {
        "status": "findings" if positive else "none",
        "segments": segments if positive else (),
        "lesions": (),
        "measurements": (),
        "hypotheses": (),
        "heatmaps": maps,
        "sites": sites,
    }


def make(tmp_path: Path, context: ResultContext = CONTEXT_FATSAT, **changes: Any) -> Case:
    sources = mr_series(tmp_path / "source", **ORBITS)
    return Case.of(tmp_path, sources, load_series(sources), context, MODEL, **{**findings(), **changes})


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make(tmp_path_factory.mktemp("sites"))


@pytest.mark.parametrize("role", ["sr", "sr-enhanced"])
def test_each_eye_has_a_group_with_its_side_and_its_numbers(case: Case, role: str) -> None:
    groups = measurement_groups(case.read(role))
    assert list(groups) == [
        "Right optic nerve assessment",
        "Left optic nerve assessment",
        "Right optic nerve",
        "Right candidate region (salient part inside the nerve)",
    ]
    right, left = groups["Right optic nerve assessment"], groups["Left optic nerve assessment"]
    assert numbers(right) == {PROBABILITY: 0.914, THRESHOLD: 0.5, "coverage": 0.92, "saliency-share": 0.61}
    assert numbers(left) == {PROBABILITY: 0.12, THRESHOLD: 0.5, "coverage": 0.9, "saliency-share": 0.3}
    assert (coded(right)[SUMMARY], coded(right)[FINDING]) == ("111242", "52101004")
    assert (coded(left)[SUMMARY], coded(left)[FINDING]) == ("111241", "272519000")
    assert (coded(right)["located"], coded(left)["located"]) == ("automatic", "manual")
    for group, side in ((right, "24028007"), (left, "7771000")):
        site = next(item for item in group.ContentSequence if concept(item) == SITE)
        assert site.ConceptCodeSequence[0].CodeValue == "18234004"
        assert site.ContentSequence[0].ConceptCodeSequence[0].CodeValue == side


def test_spread_of_the_ensemble_is_stated_below_and_above(case: Case) -> None:
    group = measurement_groups(case.read("sr"))["Right optic nerve assessment"]
    (item,) = [item for item in group.ContentSequence if concept(item) == PROBABILITY]
    reach = [float(child.MeasuredValueSequence[0].NumericValue) for child in item.ContentSequence]
    assert reach == [0.074, 0.056]


def test_totals_count_no_lesions(case: Case) -> None:
    report = case.read("sr")
    assert totals(report) == {}
    assert coded(outcome(report))[SUMMARY] == "111242"


@pytest.mark.parametrize("role", ["sr", "sr-enhanced"])
def test_every_group_opens_on_its_nerve(case: Case, role: str) -> None:
    places = {}
    numbers_of = {str(ds.SOPInstanceUID): k for k, ds in enumerate(case.series.datasets)}
    for name, group in measurement_groups(case.read(role)).items():
        (place,) = [item for item in group.ContentSequence if item.ValueType == "SCOORD"]
        uid = place.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        i, j = map(int, place.GraphicData)
        places[name.split(" (")[0]] = (numbers_of[uid], j, i)
    assert places == {
        "Right optic nerve assessment": (4, 32, 20),
        "Left optic nerve assessment": (6, 32, 44),
        "Right optic nerve": (5, 32, 20),
        "Right candidate region": (6, 32, 20),
    }


def test_no_report_speaks_of_the_brain_or_counts_lesions(case: Case) -> None:
    for role in ("sr", "text-sr", "sr-enhanced", "seg", "outline", "heatmap"):
        written = case.read(role).to_json()
        assert not re.search(
            r"Brain|brain|total volume|lesions? (was|were) found|LESIONS|lesion mask", written
        ), role
        assert "12738006" not in written


def test_text_report_has_one_sentence_for_each_eye(case: Case) -> None:
    said = sentences(case.read("text-sr"))
    assert (
        "Right optic nerve: rated suspicious for a lesion, probability 0.91 (0.84 to 0.97 over 32 networks), at or above the "
        "threshold of 0.50."
    ) in said
    assert (
        "Left optic nerve: not rated suspicious for a lesion, probability 0.12 (0.05 to 0.20 over 32 networks), below the "
        "threshold of 0.50."
    ) in said
    assert any(
        "Left optic nerve: located by a point that a person gave, 90 % of its course (as far as it was followed) analysed"
        in text
        for text in said
    )
    assert (
        said[1]
        == "Optic nerves: right rated suspicious, left not, by a classifier that has never seen a patient."
    )
    assert RATING in said


@pytest.mark.parametrize("role", ["sr", "sr-enhanced"])
def test_what_the_network_learnt_from_stands_beside_its_ratings(case: Case, role: str) -> None:
    for side in ("Right", "Left"):
        group = measurement_groups(case.read(role))[f"{side} optic nerve assessment"]
        assert texts(group)[-2:] == [RATING, f"This model was {SYNTHETIC_REMARK}."]


def test_nothing_is_said_of_ratings_where_there_are_none(tmp_path: Path) -> None:
    both = (replace(LOST, laterality="right"), LOST)
    case = make(tmp_path, **{**findings(both), "status": "none"})
    assert RATING not in sentences(case.read("text-sr"))


def test_threshold_and_probability_that_look_alike_are_told_apart() -> None:
    near = replace(LEFT, probability=0.497, interval=None)
    assert "probability 0.497, below the threshold of 0.500." in site_sentence(near)


def test_eye_that_was_not_analysed_says_why(tmp_path: Path) -> None:
    case = make(tmp_path, **findings((RIGHT, LOST)))
    report = case.read("sr")
    assert "Left optic nerve assessment" not in measurement_groups(report)
    (summary,) = [item for item in outcome(report).ContentSequence if concept(item) == "111065"]
    assert summary.ConceptCodeSequence[0].CodeValue == "111225"
    (site,) = summary.ContentSequence
    assert (concept(site), coded(site)["272741003"]) == (SITE, "7771000")
    sentence = "Left optic nerve: not analysed, because the eye was not found."
    assert sentence in sentences(case.read("text-sr"))
    assert sentence in sentences(report)


def test_eye_that_was_not_analysed_is_no_absence_of_a_lesion(tmp_path: Path) -> None:
    found = outcome(make(tmp_path / "1", **findings((RIGHT, LOST))).read("sr")).ContentSequence
    assert found[0].ConceptCodeSequence[0].CodeValue == "111244"
    assert found[1].ConceptCodeSequence[0].CodeValue == "52101004"
    healthy = replace(RIGHT, status="negative", probability=0.2)
    nothing = outcome(make(tmp_path / "2", **findings((healthy, LOST))).read("sr"))
    assert nothing.ContentSequence[0].ConceptCodeSequence[0].CodeValue == "111243"
    assert FINDING not in coded(nothing)


def test_negative_series_has_no_seg_and_shows_its_maps(tmp_path: Path) -> None:
    case = make(tmp_path, **findings((replace(RIGHT, status="negative", probability=0.2), LEFT)))
    assert case.paths("seg") == []
    assert len(case.paths("heatmap")) == 1, "both sides stand in one picture"
    assert coded(outcome(case.read("sr")))[SUMMARY] == "111241"


def test_seg_holds_the_nerve_and_the_candidate_region_with_their_side(case: Case, tmp_path: Path) -> None:
    seg = case.read("seg")
    nerve, candidate = seg.SegmentSequence
    assert (seg.ContentLabel, seg.SeriesDescription) == (
        "OPTIC_NERVES",
        "RESEARCH 22 nerve, candidate region: FAT-SAT optic nerves",
    )
    assert nerve.SegmentLabel == "Right optic nerve"
    assert nerve.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    (kind,) = nerve.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue) == (
        "18234004",
        "24028007",
    )
    assert candidate.SegmentLabel == "Right candidate region (salient part inside the nerve)"
    assert candidate.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    region = candidate.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeValue) == ("18234004", "24028007")
    tool(
        "segimage2itkimage", "--inputDICOM", case.paths("seg")[0], "--outputDirectory", tmp_path, "-t", "nrrd"
    )
    images = [sitk.ReadImage(str(tmp_path / f"{n}.nrrd")) for n in (1, 2)]
    assert [int((sitk.GetArrayFromImage(image) > 0).sum()) for image in images] == [125, 12]
    np.testing.assert_allclose(images[0].GetSpacing(), (0.5, 0.5, 3.0), atol=1e-5)


def test_candidate_region_is_said_to_be_no_lesion_wherever_it_is(case: Case) -> None:
    nerve, candidate = case.read("seg").SegmentSequence
    assert candidate.SegmentDescription == CANDIDATE
    assert "SegmentDescription" not in nerve
    assert CANDIDATE in texts(case.read("text-sr"))
    groups = measurement_groups(case.read("sr"))
    assert CANDIDATE in texts(groups["Right candidate region (salient part inside the nerve)"])
    assert CANDIDATE not in texts(groups["Right optic nerve"])


def test_dcmqi_reads_both_sides(case: Case, tmp_path: Path) -> None:
    for role in ("sr", "sr-enhanced"):
        out = tmp_path / f"{role}.json"
        done = tool("tid1500reader", "--inputDICOM", case.paths(role)[0], "--outputMetadata", out)
        assert done.returncode == 0, done.stderr
        read = {item["TrackingIdentifier"]: item for item in json.loads(out.read_text())["Measurements"]}
        values = {
            name: {m["quantity"]["CodeValue"]: float(m["value"]) for m in item["measurementItems"]}
            for name, item in read.items()
        }
        assert values["Right optic nerve assessment"][PROBABILITY] == 0.914
        assert values["Left optic nerve assessment"][PROBABILITY] == 0.12
        assert values["Right optic nerve"] == {VOLUME: pytest.approx(125 * 0.75)}
        assert read["Right optic nerve"]["ReferencedSegment"] == 1
        candidate = read["Right candidate region (salient part inside the nerve)"]
        assert candidate["ReferencedSegment"] == 2


@pytest.mark.parametrize("role", ["outline", "seg", "sr", "text-sr", "heatmap", "sr-enhanced"])
def test_dciodvfy_finds_no_errors_and_no_word_is_forbidden(case: Case, role: str) -> None:
    assert forbidden_in(own_texts(case.read(role))) == []
    done = tool("dciodvfy", case.paths(role)[0])
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert [line for line in errors if line != FALSE_FINDING] == [], done.stderr


def test_dcentvfy_finds_no_dangling_reference(case: Case) -> None:
    kept = [case.out / item.path for item in case.objects if item.role != "sr-enhanced"]
    done = tool("dcentvfy", *case.sources, *kept)
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_map_of_both_sides_is_one_picture_with_the_crops_lines(case: Case) -> None:
    (picture,) = (dcmread(path) for path in case.paths("heatmap"))
    assert picture.ImageComments.startswith(
        "RESEARCH. map of the image reader: right optic nerve and left optic nerve; saliency of fatsat."
    )
    assert "class" not in picture.ImageComments
    assert picture.SeriesDescription == "RESEARCH 25 maps: FAT-SAT optic nerves"
    drawn = (picture.pixel_array == np.array(LINE)).all(axis=-1)
    zoom = 512 / SHAPE[2]
    rows, columns = np.nonzero(drawn[:512])
    assert abs(rows.min() - 20 * zoom) < zoom and abs(rows.max() - 43 * zoom) < zoom
    assert abs(columns.min() - 10 * zoom) < zoom and abs(columns.max() - 33 * zoom) < zoom


def test_outlines_show_nerve_and_candidate_without_numbers(case: Case) -> None:
    pictures = {int(ds.InstanceNumber): ds for ds in map(dcmread, case.paths("outline"))}
    assert len(pictures) == SHAPE[0]
    assert "Numbers" not in pictures[1].ImageComments
    colours = (pictures[7].pixel_array[:512].astype(int) == [255, 64, 64]).all(axis=-1)
    assert colours.sum() > 50, "nerve and candidate region in the colours of their segments"


def test_manifest_has_one_line_on_both_eyes_and_their_numbers(case: Case) -> None:
    figures = manifest_of(case.findings, CONTEXT_FATSAT, ()).figures
    assert figures["sides"] == "right optic nerve positive (0.91), left negative (0.12)"
    assert figures["sites"]["right optic nerve"] == {
        "status": "positive",
        "probability": 0.914,
        "probability_low": 0.84,
        "probability_high": 0.97,
        "threshold": 0.5,
        "coverage": 0.92,
        "saliency_share": 0.61,
        "located": "automatic",
    }
    assert "lesions" not in figures
    assert "volume_ml" not in figures
    lost = manifest_of(replace(case.findings, sites=(RIGHT, LOST)), CONTEXT_FATSAT, ()).figures
    assert lost["sides"] == "right optic nerve positive (0.91), left not analysed"
    assert lost["sites"]["left optic nerve"] == {"status": "not analysed", "reason": "the eye was not found"}
