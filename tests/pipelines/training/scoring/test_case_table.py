"""The table of scored cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.training.scoring.case_results import CaseResult, grouped
from pipelines.training.scoring.case_table import case_table
from pipelines.training.scoring.evaluation import lines_of
from pipelines.training.scoring.metrics import score_mask


def result(case: str, drawn: slice, true: slice | None, thick: slice | None = None) -> CaseResult:
    """Return a case of 1 mm voxels whose lesion and mask are parts of one box of 20 x 20 x 20."""

    def scores(found: slice) -> dict[str, float]:
        mask, truth = np.zeros((2, 24, 24, 24), dtype=bool)
        mask[2:22, 2:22, found] = True
        if true is not None:
            truth[2:22, 2:22, true] = True
        return score_mask(mask, truth, (1.0, 1.0, 1.0)).as_dict()

    degraded = {} if thick is None else {5.0: scores(thick)}
    return CaseResult(case, case, "MS", "real", False, scores(drawn), None, None, degraded)


def test_row_has_overlap_volumes_and_false_volume_of_each_case_and_means() -> None:
    results = [result("a", slice(2, 12), slice(2, 7), slice(2, 7)), result("b", slice(2, 7), slice(2, 12))]
    lines = case_table(grouped(results)["real cases"])
    assert [line.split() for line in lines[1:5]] == [
        ["a", "0.67", "0.50", "1.00", "2.0", "4.0", "2.00", "1.00", "2.00"],
        ["b", "0.67", "1.00", "0.50", "4.0", "2.0", "0.50", "1.00", "0.00"],
        ["mean", "0.67", "0.75", "0.75", "3.0", "3.0", "1.25", "1.00", "1.00"],
        ["mean", "at", "5", "mm", "1.00", "1.00", "1.00", "2.0", "2.0", "1.00", "1.00", "0.00"],
    ]
    assert lines[0].split("  ")[-8:] == [
        "Dice",
        "precision",
        "recall",
        "true mL",
        "found mL",
        "found/true",
        "lesion F1",
        "false mL",
    ]


def test_heads_without_lesions_say_how_much_was_found_in_them() -> None:
    results = [result("a", slice(2, 7), None), result("b", slice(2, 2), None)]
    lines = case_table(grouped(results)["real cases"])
    assert lines[1].split() == ["a", "-", "-", "-", "0.0", "2.0", "-", "-", "2.00"]
    assert (
        lines[-1] == "  heads without lesions, 2: found 1.00 mL in the mean, 2.00 mL at most, above 1 mL in 1"
    )


def test_table_stands_under_its_heading_on_the_screen() -> None:
    groups = grouped([result("a", slice(2, 12), slice(2, 7))])
    lines = lines_of({"groups": groups, "targets": []})
    assert lines[0] == "\nreal cases, 1"
    assert lines[1].split()[0] == "Dice"


def test_cases_without_known_lesions_have_no_table() -> None:
    unknown = CaseResult("a", "a", "MS", "real", False, None, None, 1.0)
    assert case_table(grouped([unknown])["real cases"]) == []


def test_intervals_and_lesions_of_a_pipeline_are_summed_up() -> None:
    told = {"interval_low_ml": 1.0, "interval_high_ml": 3.0, "interval_holds_truth": 1.0}
    told |= {"lesions": 4.0, "lesions_sized": 3.0, "lesions_said": 2.5, "lesions_true": 3.0}
    case = result("a", slice(2, 12), slice(2, 7), slice(2, 7))
    assert case.scores is not None
    scores = {**case.scores, **told}
    thick = {5.0: {**case.degraded[5.0], **told, "lesions_sized": 2.0}}
    lines = case_table(grouped([replace(case, scores=scores, degraded=thick)])["real cases"])
    assert lines[-3:] == [
        "  interval of the volume: held the truth in 1 of 1, the upper end 3.00 times the lower one (median)",
        "  listed lesions: 4, by their probabilities 2.5 of them true, 3 share a voxel with one",
        "  lesions of 10 mm3 and more in a: 3, 2 at 5 mm",
    ]
