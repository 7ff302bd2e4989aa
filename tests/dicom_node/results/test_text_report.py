"""The text report: the result first, each remark once, short enough to be read, with the numbers of the structured report."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forbidden_words import forbidden_in
from result_factories import (
    CONTEXT,
    REAL,
    SYNTHETIC,
    Case,
    findings_on,
    measurement_groups,
    numbers,
    plain_series,
    sentences,
    texts,
    tool,
    totals,
)

from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import marks_of
from dicom_node.results.source import sources_of
from dicom_node.results.text_report import build_text_report
from dicom_node.results.wording import LINE_MM3, model_lines
from pipelines.types import (
    Anatomy,
    Counting,
    Criterion,
    Findings,
    Hypothesis,
    Interval,
    Lesion,
    Measurement,
    Region,
    RegionLoad,
    Rule,
    SiteFinding,
)

MOST_WORDS = 250
RESEARCH = "Research use only, made by software alone: not a medical device, not a diagnosis."
REGIONS: tuple[Region, ...] = (
    "periventricular",
    "juxtacortical",
    "infratentorial",
    "deep_white_matter",
    "deep_grey_matter",
)
NNUNET = replace(REAL, name="nnunet", version="0.5.1", trained_on="real and synthetic", device_uid="1.2.3.5")
JOINT = replace(NNUNET, name="joint", version="0.4.1", classes_trained_on="synthetic", device_uid="1.2.3.7")
MODELS = (
    NNUNET,
    replace(NNUNET, name="nnunet-2", version="0.6.0", device_uid="1.2.3.6"),
    JOINT,
    replace(SYNTHETIC, name="five-slices", version="0.3.1", device_uid="1.2.3.8"),
    replace(SYNTHETIC, name="lesion-pattern", version="0.1.0", device_uid="1.2.3.9"),
    replace(SYNTHETIC, name="regions", version="0.1.0", device_uid="1.2.3.10"),
)
RULE = Rule(
    "Matthews' rule", "Neurology 2013;80:1330", "MS", (Criterion("a Dawson's finger", (1, 2, 3, 5, 9)),)
)


def reported(findings: Findings, context: ResultContext = CONTEXT) -> list[str]:
    """The texts of the report on the plain series, the observer left out."""
    _, series = plain_series()
    marks = marks_of(findings, series.volume)
    return texts(build_text_report(findings, series, sources_of(series), None, context, marks))[1:]


def on_plain(**changes: Any) -> Findings:
    return findings_on(plain_series()[1], **changes)


def many_lesions(count: int, seed: int = 1) -> Findings:
    """A patient with lesions of all regions and sizes, as the whole pipeline reports one: all warnings, all models."""
    numbers_of = np.random.default_rng(seed)
    lesions = []
    for number, volume in enumerate(sorted(numbers_of.lognormal(4.3, 1.4, count), reverse=True), start=1):
        low = float(numbers_of.uniform(0.2, 0.7))
        lesions.append(
            Lesion(
                number,
                "Lesion",
                float(volume),
                (0.0, 0.0, 0.0),
                0.8,
                (4, 5),
                region=REGIONS[number % 5],
                laterality="left" if number % 2 else "right",
                probability_interval=Interval(low, 0.9, "over 5 predictions"),
                borderline=number % 4 == 0,
            )
        )
    total = sum(item.volume_mm3 for item in lesions)
    interval = Interval(0.7 * total, 1.1 * total, "that held the truth in 80 % of 184 synthetic cases")
    loads = tuple(RegionLoad(region, count // 5, 1 if count else 0, total / 5, 9.0) for region in REGIONS)
    names = ("joint", "five-slices", "lesion-pattern")
    return on_plain(
        status="findings" if lesions else "none",
        segments=(),
        heatmaps=(),
        lesions=tuple(lesions),
        measurements=(Measurement("volume", total, "mm3", derivation="total", interval=interval),),
        counting=Counting(3.0, 9.7, 2 / 3, 12, 140.0),
        anatomy=Anatomy(loads),
        hypotheses=tuple(
            Hypothesis(code, code, share, True, name)
            for name in names
            for code, share in (("multiple_sclerosis", 0.57), ("neuromyelitis_optica", 0.43))
        )
        if count > 2
        else (),
        no_differential="" if count > 2 else f"{count} lesions found, at least 3 are needed",
        rules=(RULE,) if count else (),
        warnings=("slices are 5.0 mm apart: small lesions may be missed", "echo time not given"),
        models=MODELS,
        tasks={
            "mask": ("nnunet", "nnunet-2"),
            "regions": ("regions",),
            "intervals": ("nnunet", "nnunet-2", "joint"),
            "differential": names,
        },
    )


def nerves(right: SiteFinding, left: SiteFinding) -> Findings:
    model = replace(
        SYNTHETIC, name="fatsat", purpose="Optic-nerve lesions on coronal fat-suppressed T2; research"
    )
    return Findings(
        "findings" if "positive" in (right.status, left.status) else "none",
        sites=(right, left),
        models=(model,),
        warnings=("Left optic nerve: only 61 % of its course lies in the region that the network saw",),
    )


RATED = SiteFinding(
    "right", "positive", "", 0.914, Interval(0.84, 0.97, "over 5 networks"), 0.5, 0.92, 0.61, "automatic"
)
OTHER = SiteFinding(
    "left", "negative", "", 0.12, Interval(0.05, 0.2, "over 5 networks"), 0.5, 0.9, 0.3, "manual"
)
LOST = SiteFinding(
    "left", "not analysed", "the series ends 12 mm behind the left globe, and 20 mm are needed"
)
PATIENTS = {
    **{f"{count} lesions": many_lesions(count) for count in (0, 1, 2, 7, 18, 60, 180)},
    "both nerves": nerves(RATED, OTHER),
    "a nerve lost": nerves(RATED, LOST),
    "unsuitable": Findings("unsuitable", "slices are 9.1 mm apart; at most 8.5 mm can be analysed"),
    "failed": Findings("failed", "out of memory"),
}


@pytest.mark.parametrize("findings", PATIENTS.values(), ids=PATIENTS.keys())
def test_report_is_short_says_nothing_twice_and_nothing_that_it_must_not(findings: Findings) -> None:
    paragraphs = reported(findings, replace(CONTEXT, note="released with a gap by a person"))
    assert paragraphs[1] == RESEARCH
    prose = [text for text in paragraphs if not re.match(r"Lesion \d+:|\d+ lesions?, each", text)]
    assert sum(len(text.split()) for text in prose) <= MOST_WORDS
    said = re.split(r"(?<=[.:]) |\r\n", " ".join(prose))
    repeated = {text for text in said if len(text.split()) > 3 and said.count(text) > 1}
    assert repeated == set()
    assert forbidden_in(" ".join(paragraphs)) == []


def test_report_reads_as_written_here() -> None:
    findings = many_lesions(18)
    lines = "\n".join(reported(findings)).replace("\r\n", "\n").split("\n")
    assert lines[:2] == [
        "18 lesions (9 uncertain), 1.97 mL in all (1.38 to 2.17 mL that held the truth in 80 % of 184 synthetic cases).",
        RESEARCH,
    ]
    table = [line for line in lines if line.startswith("Lesion ")]
    assert table[:2] == [
        "Lesion 1: left juxtacortical or cortical, image 6, 0.26 mL, uncertain",
        "Lesion 2: right infratentorial, image 6, 0.23 mL, uncertain",
    ]
    assert [line for line in lines if " smaller, " in line] == ["and 8 smaller, 0.37 mL in all"]
    assert "uncertain: the interval of its probability reaches below 0.5" in lines
    assert lines[-7:] == [
        "Models and training data (clinical accuracy unknown):",
        "nnunet 0.5.1: mask (ensemble); real and synthetic",
        "nnunet-2 0.6.0: mask (ensemble); real and synthetic",
        "joint 0.4.1: intervals, differential; real and synthetic, classes synthetic",
        "five-slices 0.3.1: differential; synthetic",
        "lesion-pattern 0.1.0: differential; synthetic",
        "regions 0.1.0: regions; synthetic",
    ]


def test_each_line_of_the_table_is_a_lesion_of_a_tenth_of_a_millilitre() -> None:
    findings = many_lesions(60)
    table = next(text for text in reported(findings) if text.startswith("Lesion 1:")).split("\r\n")
    large = [lesion for lesion in findings.lesions if lesion.volume_mm3 >= LINE_MM3]
    assert sum(line.startswith("Lesion ") for line in table) == len(large)
    for line in table[: len(large)]:
        assert re.match(r"Lesion \d+: (left|right) [a-z ]+( \(borderline\))?, image \d+, \d\.\d\d mL", line)


def test_lesion_is_named_with_the_image_on_which_it_is_largest() -> None:
    findings = on_plain()
    first = replace(findings.lesions[0], laterality="left", region="periventricular")
    mask = findings.segments[0].mask.copy()
    mask[5, 18:30, 28:40] = True
    first = replace(first, volume_mm3=first.volume_mm3 + (144 - 48) * 2.43)
    segment = replace(findings.segments[0], mask=mask)
    said = reported(replace(findings, lesions=(first, findings.lesions[1]), segments=(segment,)))
    assert any("Lesion 1: left periventricular, image 6, 0.58 mL" in text for text in said)


def test_small_lesions_alone_have_no_table() -> None:
    findings = on_plain()
    (small,) = (item for item in findings.lesions if item.volume_mm3 < LINE_MM3)
    assert "1 lesion smaller than 0.1 mL" in reported(replace(findings, lesions=(small,)))


def test_lesions_without_regions_are_listed_by_image_and_volume() -> None:
    said = reported(on_plain(anatomy=Anatomy(not_available="the brain is not as large as brains are")))
    assert "Lesion 1: image 4, 0.35 mL\r\nand 1 smaller, 0.01 mL in all" in said
    assert "Regions are not available: the brain is not as large as brains are." in said
    assert "The optic nerves were not examined in this series." in said


@pytest.mark.parametrize(
    ("tags", "says_it"),
    [
        ({"PatientAge": "035Y"}, False),
        ({"PatientAge": "061Y"}, True),
        ({}, True),
        ({"PatientBirthDate": "19900101", "StudyDate": "20261120"}, False),
        ({"PatientBirthDate": "19500101", "StudyDate": "20261120"}, True),
    ],
)
def test_age_counts_where_it_is_known(tags: dict[str, str], says_it: bool) -> None:
    _, series = plain_series()
    sources = sources_of(series)
    for keyword in ("PatientAge", "PatientBirthDate"):
        setattr(sources[0], keyword, "")
    for keyword, value in tags.items():
        setattr(sources[0], keyword, value)
    findings = on_plain()
    report = build_text_report(findings, series, sources, None, CONTEXT, marks_of(findings, series.volume))
    assert any(text.startswith("From 50 years on") for text in texts(report)) == says_it


def test_nerves_are_told_in_the_first_line_and_by_what() -> None:
    said = [text.replace("\r\n", " ") for text in reported(nerves(RATED, OTHER))]
    first = "Optic nerves: right rated suspicious, left not, by a classifier that has never seen a patient."
    assert said[0] == first
    assert (
        "Right optic nerve: rated suspicious for a lesion, probability 0.91 (0.84 to 0.97 over 5 networks), at or above the "
        "threshold of 0.50."
    ) in said
    assert said[-1] == "fatsat 1.2.0: Optic-nerve lesions on coronal fat-suppressed T2; synthetic"


@pytest.mark.parametrize(
    ("status", "first"),
    [
        ("unsuitable", "Not analysed, because the series is not suitable: fewer than 10 slices."),
        ("failed", "The analysis failed and gave no result: fewer than 10 slices."),
    ],
)
def test_report_of_no_analysis_says_why_and_names_no_model(status: Any, first: str) -> None:
    said = reported(Findings(status, "fewer than 10 slices", models=MODELS))
    assert said[:2] == [first, RESEARCH]
    assert not [text for text in said if "nnunet" in text]


def test_report_names_only_models_whose_results_it_holds() -> None:
    said = "\n".join(reported(many_lesions(18), replace(CONTEXT, differential="off")))
    assert "joint 0.4.1: intervals" in said
    assert "five-slices" not in said
    assert not re.search(r"MOGAD|Matthews", said)


def test_models_of_real_data_are_of_no_unknown_accuracy() -> None:
    assert model_lines((REAL,), Findings("none")) == [
        "Models and training data:",
        "joint 1.2.0: lesion segmentation; real",
    ]


def test_report_counts_what_it_replaces() -> None:
    old = ("1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.5", "1.2.3.6", "1.2.3.7")
    said = reported(on_plain(), replace(CONTEXT, replaces=(old,)))
    assert "This result replaces an earlier one of the same series (1 object)." in said


def test_findings_stand_in_lines_that_a_viewer_without_wrapping_shows_whole() -> None:
    reason = "Slices are 5 mm thick, which hides small lesions, and two of them were interpolated; look there yourself"
    assert (
        "Slices are 5 mm thick, which hides small lesions, and two of them were interpolated;\r\nlook there yourself."
    ) in reported(on_plain(reason=reason))


def test_numbers_equal_those_of_the_structured_report(plain: Case) -> None:
    report, text = plain.read("sr"), "\n".join(sentences(plain.read("text-sr")))
    said = re.search(r"(\d+) lesions, ([\d.]+) mL in all", text)
    assert said is not None
    overall = totals(report)
    assert (int(said[1]), said[2]) == (overall["246206008"], f"{overall['118565006'] / 1000:.2f}")
    line = re.search(r"Lesion 1: image 4, ([\d.]+) mL", text)
    assert line is not None
    stated = numbers(measurement_groups(report)["Lesion 1"])
    assert line[1] == f"{stated['118565006'] / 1000:.2f}"


def test_root_is_a_diagnostic_imaging_report(plain: Case) -> None:
    root = plain.read("text-sr").ConceptNameCodeSequence[0]
    assert (root.CodeValue, root.CodingSchemeDesignator) == ("18748-4", "LN")


def test_pipeline_that_counts_no_lesions_states_its_probabilities_instead() -> None:
    measurements = (
        Measurement("probability", 0.914, "1", laterality="left"),
        Measurement("probability", 0.12, "1", laterality="right"),
    )
    said = reported(on_plain(measurements=measurements, lesions=(), segments=(), hypotheses=()))
    assert "Left: probability of a lesion 0.91." in said
    assert "Right: probability of a lesion 0.12." in said


@pytest.mark.integration
@pytest.mark.parametrize("role", ["sr", "sr-enhanced", "text-sr"])
def test_dcmtk_prints_the_report(plain: Case, role: str) -> None:
    assert shutil.which("dsrdump"), "dsrdump is missing: install Debian's dcmtk"
    done = tool("dsrdump", "+Pl", plain.paths(role)[0])
    assert done.returncode == 0, done.stderr
    assert "2 lesions, 0.36 mL in all." in done.stdout
    assert "Research use only" in done.stdout
