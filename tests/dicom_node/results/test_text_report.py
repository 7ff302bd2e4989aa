"""The text report: a radiologist finds what was done, what was found and what it is worth, with the numbers of the SR."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from result_factories import (
    CONTEXT,
    REAL,
    SYNTHETIC,
    Case,
    measurement_groups,
    numbers,
    sentences,
    texts,
    tool,
)

from dicom_node.results.wording import counting_sentence
from pipelines.types import Counting, Criterion, Findings, Hypothesis, Interval, Measurement, Rule

SYNTHETIC_REMARK = "trained on synthetic data; its clinical accuracy is not known"


def whole(case: Case) -> str:
    return "\n".join(sentences(case.read("text-sr")))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    findings = {"warnings": ("Slices are 3 mm thick",), "counting": Counting(3.0, 9.7, 2 / 3, 12, 140.0)}
    context = replace(CONTEXT, note="One slice came late")
    return Case.make(tmp_path_factory.mktemp("text"), series_number=5, findings=findings, context=context)


def test_report_reads_as_written_here(case: Case) -> None:
    assert texts(case.read("text-sr"))[1:] == [
        'Series 5 "t2_tirm_tra_dark-fluid" with 12 images was analysed automatically for FLAIR lesions on 2026-11-21 08:12 UTC '
        "by dicom-node 0.1.0 (job 3f9a1c20, run 1).",
        "2 lesions were found, with a total volume of 0.36 mL.",
        "Lesion 1: 0.35 mL (350 mm3), probability 0.65, images 4 to 6\r\n"
        "Lesion 2: 0.01 mL (15 mm3), probability 0.40, image 9",
        "Probabilities given by the model joint (not calibrated): MS 0.83, NMOSD 0.17. "
        f"This model was {SYNTHETIC_REMARK}, and it may only reflect the assumptions behind that data.",
        "The probabilities support a reader's thinking; they are not a diagnosis.",
        "Note: A region counts as a lesion from 3 mm on in its long axis in the plane of the images, 10 mm3 and a mean "
        "probability of 0.67; 12 regions that do not, 0.14 mL in all, are neither drawn nor listed.",
        "Note: Slices are 3 mm thick.",
        "Note: One slice came late.",
        "Model: joint, version 1.2.0, weights abababababab, for lesion segmentation. "
        f"This model was {SYNTHETIC_REMARK}, and it may only reflect the assumptions behind that data.",
        "Research use only. Made by software without a radiologist; not a medical device, not a diagnosis. "
        "Do not base decisions on patient care on it.",
    ]


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (0, "0.67; nothing was left out."),
        (1, "0.67; 1 region that does not, 0.14 mL in all, is neither drawn nor listed."),
    ],
)
def test_what_counts_as_a_lesion_is_said_once_for_all_that_was_left_out(left_out: int, said: str) -> None:
    findings = Findings("none", counting=Counting(3.0, 9.7, 2 / 3, left_out, 140.0))
    assert counting_sentence(findings).endswith(said)
    assert counting_sentence(Findings("none")) == ""


def test_numbers_equal_those_of_the_structured_report(case: Case) -> None:
    groups = measurement_groups(case.read("sr"))
    text = whole(case)
    overall = numbers(groups["Analysis"])
    said = re.search(r"(\d+) lesions were found, with a total volume of ([\d.]+) mL", text)
    assert said is not None
    assert int(said[1]) == overall["246206008"]
    assert said[2] == f"{overall['118565006'] / 1000:.2f}"
    for name in ("Lesion 1", "Lesion 2"):
        line = re.search(rf"{name}: ([\d.]+) mL \((\d+) mm3\), probability ([\d.]+)", text)
        assert line is not None
        stated = numbers(groups[name])
        assert line[1] == f"{stated['118565006'] / 1000:.2f}"
        assert line[2] == f"{stated['118565006']:.0f}"
        assert line[3] == f"{stated['122157']:.2f}"


def test_root_is_a_diagnostic_imaging_report(case: Case) -> None:
    root = case.read("text-sr").ConceptNameCodeSequence[0]
    assert (root.CodeValue, root.CodingSchemeDesignator) == ("18748-4", "LN")


def test_findings_stand_in_lines_that_a_viewer_without_wrapping_shows_whole(
    plain: Case, tmp_path: Path
) -> None:
    volume = Measurement("volume", 360.0, "mm3", interval=Interval(300.0, 410.0, "over 4 predictions"))
    first = plain.findings
    reason = "Slices are 5 mm thick, which hides small lesions, and two of them were interpolated; look there yourself"
    changes = {"measurements": (first.measurements[0], volume), "reason": reason}
    found = texts(Case.make(tmp_path / "2", findings=changes).read("text-sr"))[2]
    assert found.split("\r\n") == [
        "2 lesions were found, with a total volume of 0.36 mL",
        "(interval 0.30 to 0.41 mL over 4 predictions). Slices are 5 mm thick,",
        "which hides small lesions, and two of them were interpolated; look there yourself.",
    ]


def test_model_trained_on_both_kinds_of_data_says_both(tmp_path: Path) -> None:
    text = whole(Case.make(tmp_path, model=replace(REAL, trained_on="real and synthetic")))
    assert "This model was trained on real and synthetic data; its clinical accuracy is not known" in text
    assert "trained on synthetic data" not in text


def test_model_whose_classes_are_synthetic_says_so_although_its_masks_are_real(tmp_path: Path) -> None:
    model = replace(REAL, trained_on="real and synthetic", classes_trained_on="synthetic")
    text = whole(Case.make(tmp_path, model=model))
    assert "and its classes were trained on synthetic data alone; its clinical accuracy is not known" in text


def test_model_trained_on_real_data_gets_no_synthetic_remark(tmp_path: Path) -> None:
    text = whole(Case.make(tmp_path, model=REAL))
    assert "synthetic" not in text
    assert "Trained on real data." in text


def test_differential_off_leaves_no_disease_anywhere(tmp_path: Path) -> None:
    case = Case.make(tmp_path, context=replace(CONTEXT, differential="off"))
    for role in ("text-sr", "sr"):
        assert not re.search(r"\b(MS|NMOSD)\b", "\n".join(texts(case.read(role))))
    assert case.paths("heatmap") == []


def test_pipeline_that_counts_no_lesions_states_its_probabilities_instead(tmp_path: Path) -> None:
    measurements = (
        Measurement("probability", 0.914, "1", laterality="left"),
        Measurement("probability", 0.12, "1", laterality="right"),
    )
    changes = {"measurements": measurements, "lesions": (), "segments": (), "hypotheses": ()}
    case = Case.make(tmp_path, context=replace(CONTEXT, pipeline="fatsat"), findings=changes)
    assert "Left: probability of a lesion 0.91. Right: probability of a lesion 0.12." in texts(
        case.read("text-sr")
    )
    assert numbers(measurement_groups(case.read("sr"))["Analysis"]) == {}


def with_intervals(findings: Findings) -> dict[str, Any]:
    volume = replace(findings.measurements[1], interval=Interval(300.0, 410.0, "over 4 predictions"))
    first, second = findings.lesions
    lesion = replace(first, probability_interval=Interval(0.58, 0.71, "over 4 predictions"))
    return {"measurements": (findings.measurements[0], volume), "lesions": (lesion, second)}


@pytest.mark.slow
def test_intervals_stand_behind_volume_and_probability_and_say_what_they_are(
    plain: Case, tmp_path: Path
) -> None:
    case = Case.make(tmp_path / "2", findings=with_intervals(plain.findings))
    text = whole(case)
    assert "with a total volume of 0.36 mL (interval 0.30 to 0.41 mL over 4 predictions)." in text
    assert "probability 0.65 (0.58 to 0.71 over 4 predictions), images 4 to 6" in text
    assert "probability 0.40, image 9" in text
    assert "it is no confidence interval" in text
    assert "confidence" not in whole(plain)


def test_interval_of_a_negative_case_is_said_too(tmp_path: Path) -> None:
    volume = Measurement("volume", 0.0, "mm3", interval=Interval(0.0, 52.0, "over 2 predictions"))
    changes = {"status": "none", "segments": (), "lesions": (), "measurements": (volume,)}
    assert (
        "No lesion was found (0 lesions, total volume 0.00 mL; interval 0.00 to 0.05 mL over 2 predictions)."
        in whole(Case.make(tmp_path, findings=changes))
    )


def test_two_models_speak_one_after_the_other_each_with_its_origin(tmp_path: Path) -> None:
    second = replace(SYNTHETIC, name="five-slices", version="2")
    hypotheses = tuple(
        Hypothesis("multiple_sclerosis", "MS", value, True, model)
        for model, value in (("joint", 0.7), ("five-slices", 0.4))
    )
    changes = {"models": (SYNTHETIC, second), "hypotheses": hypotheses}
    text = whole(Case.make(tmp_path, findings=changes))
    remark = f"This model was {SYNTHETIC_REMARK}"
    for name, value in (("joint", "0.70"), ("five-slices", "0.40")):
        assert f"given by the model {name} (calibrated on synthetic cases): MS {value}. {remark}" in text


@pytest.mark.slow
def test_differential_that_does_not_apply_says_why_and_leaves_the_rule(tmp_path: Path) -> None:
    rule = Rule(
        "Matthews' rule",
        "Neurology 2013;80:1330",
        "MS",
        (Criterion("a Dawson's finger", (2,)), Criterion("a U-fibre lesion", ())),
    )
    changes = {"hypotheses": (), "no_differential": "2 lesions, fewer than 3", "rules": (rule,)}
    text = whole(Case.make(tmp_path / "1", findings=changes))
    assert "Probabilities of diseases: not applicable, 2 lesions, fewer than 3." in text
    head = "Matthews' rule (Neurology 2013;80:1330), read from the lesion mask by measures that are not validated"
    assert f"{head}, supports MS: a Dawson's finger (lesion 2)." in text
    unmet = replace(rule, criteria=(Criterion("a Dawson's finger", ()),))
    changes["rules"] = (unmet,)
    text = whole(Case.make(tmp_path / "2", findings=changes))
    assert f"{head}: none of its criteria is met, so it does not point to MS." in text
    off = Case.make(tmp_path / "3", findings=changes, context=replace(CONTEXT, differential="off"))
    assert "MS" not in whole(off)
    assert "not applicable" not in whole(off)


def test_hypothesis_of_an_unknown_model_says_that_its_training_is_unknown(tmp_path: Path) -> None:
    models = (REAL, replace(REAL, name="other"))
    hypothesis = Hypothesis("multiple_sclerosis", "MS", 0.7, True, "third")
    text = whole(Case.make(tmp_path, findings={"models": models, "hypotheses": (hypothesis,)}))
    assert "third (calibrated): MS 0.70. No model card says what this model was trained on." in text


def test_negative_report_says_so(tmp_path: Path) -> None:
    changes = {"status": "none", "segments": (), "lesions": (), "measurements": ()}
    text = whole(Case.make(tmp_path, findings=changes))
    assert "No lesion was found (0 lesions, total volume 0.00 mL)." in text


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("unsuitable", "The series was not analysed, because it is not suitable: fewer than 10 slices."),
        ("failed", "The analysis failed and gave no result: fewer than 10 slices."),
    ],
)
def test_report_of_no_analysis_says_why(tmp_path: Path, status: str, sentence: str) -> None:
    changes = {
        "status": status,
        "reason": "fewer than 10 slices",
        "lesions": (),
        "segments": (),
        "hypotheses": (),
    }
    assert sentence in whole(Case.make(tmp_path, findings=changes))


def test_report_names_what_it_replaces(tmp_path: Path) -> None:
    old = ("1.2.840.10008.5.1.4.1.1.88.11", "1.2.3.5", "1.2.3.6", "1.2.3.7")
    assert "replaces an earlier one of the same series (1 objects). Replaced objects: 1.2.3.5." in whole(
        Case.make(tmp_path, context=replace(CONTEXT, replaces=(old,)))
    )


@pytest.mark.integration
@pytest.mark.parametrize("role", ["sr", "sr-enhanced", "text-sr"])
def test_dcmtk_prints_the_report(case: Case, role: str) -> None:
    assert shutil.which("dsrdump"), "dsrdump is missing: install Debian's dcmtk"
    done = tool("dsrdump", "+Pl", case.paths(role)[0])
    assert done.returncode == 0, done.stderr
    assert "2 lesions were found, with a total volume of 0.36 mL." in done.stdout
    assert "Research use only." in done.stdout
