"""Change since an earlier study on the page and in the reports of a study: fixed sentences, in one order, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forbidden_words import forbidden_in
from pydicom import dcmread
from result_factories import coded, measurement_groups, numbers, sentences, texts, tool

from dicom_node.results import change_wording
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.tracking import TrackedLesion
from dicom_node.study import page as drawing
from dicom_node.study.canvas import Canvas
from dicom_node.study.change import told_change
from dicom_node.study.content import CHANGE, StudyContent
from dicom_node.study.objects import build_summary
from dicom_node.study.sentences import headline, limits_lines, quality_lines
from pipelines.comparison import Change, Comparability, LesionChange, SelfGrade
from pipelines.types import Findings
from tests.dicom_node.study.conftest import change_part

FALSE_FINDING = "Error - Missing attribute for Type 2C Conditional - Element=<Laterality>"
"""Of dciodvfy, on every Secondary Capture."""


def lesion(number: int, change: Change, possible: bool = False, **told: Any) -> LesionChange:
    return LesionChange(number, change, possible, 120.0, 0.0, (0.0, 0.0, 0.0), (1, 2), **told)


def record_of(*changes: LesionChange, grade: str = "B", **told: Any) -> ComparisonRecord:
    base = ComparisonRecord(
        "1.2.3",
        date(2026, 11, 30),
        date(2025, 3, 1),
        Comparability(grade, () if grade == "A" else ("the software differs",)),  # type: ignore[arg-type]
        changes=changes,
        lesions={one.number: TrackedLesion("1.2", f"L{one.number:02d}") for one in changes},
        volume_mm3=3200.0,
        prior_volume_mm3=2860.0,
    )
    return replace(base, **told)


MANY = (lesion(1, "new"), lesion(2, "new"), lesion(3, "new", True), lesion(4, "smaller"))


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (
            record_of(*MANY),
            "2 new lesions since 2025-03-01 (comparability B). 1 possible. None enlarging. 1 smaller.",
        ),
        (record_of(grade="A"), "No new lesion since 2025-03-01 (comparability A). None enlarging."),
        (
            record_of(lesion(1, "new"), lesion(2, "enlarging", True), lesion(3, "resolved")),
            "1 new lesion since 2025-03-01 (comparability B). None enlarging (1 possible). 1 resolved.",
        ),
        (
            record_of(lesion(1, "new", True), grade="C"),
            "Nothing certain since 2025-03-01 (comparability C). 1 possible new lesion.",
        ),
        (
            record_of(grade="D", not_compared="the prior shows the neck"),
            "Not compared with 2025-03-01: the prior shows the neck.",
        ),
    ],
)
def test_sentence_on_change_word_for_word(record: ComparisonRecord, told: str) -> None:
    assert change_wording.change_sentence(record) == told


def test_self_grade_and_missing_prior_word_for_word() -> None:
    graded = record_of(self_grade=SelfGrade(12, 9, 0))
    assert change_wording.self_grade_sentence(graded) == (
        "Of 12 lesions painted into this prior 9 were found, 0 false."
    )
    assert change_wording.self_grade_sentence(record_of()) == ""
    assert change_wording.no_prior_sentence("") == "No prior FLAIR found."
    assert change_wording.no_prior_sentence("the birth date differs") == (
        "No prior FLAIR found: the birth date differs."
    )


@pytest.mark.parametrize(
    ("now", "then", "within", "told"),
    [
        (3200.0, 2860.0, True, "+12 %, within measurement error (below 15 % of the mean of both)."),
        (4000.0, 2860.0, False, "+40 %, beyond measurement error (15 % of the mean of both)."),
        (2000.0, 2860.0, False, "-30 %, beyond measurement error (15 % of the mean of both)."),
        (90.0, 60.0, False, "0.06 mL on 2025-03-01, 0.09 mL now."),
    ],
)
def test_total_volume_is_told_with_its_error(now: float, then: float, within: bool, told: str) -> None:
    record = record_of(volume_mm3=now, prior_volume_mm3=then, is_within_error=within)
    assert change_wording.volume_sentence(record).endswith(told)


MakeStudy = Callable[..., StudyContent]


@pytest.fixture(scope="module")
def with_change(study: StudyContent, tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    """Return what makes the study with a comparison of one grade beside its results."""
    folder = tmp_path_factory.mktemp("change")
    flair = study.flair
    assert flair is not None

    def make(grade: str = "B", **changes: Any) -> StudyContent:
        part = change_part(flair, folder / f"{grade}-{len(list(folder.iterdir()))}", grade, **changes)
        return StudyContent((*study.parts, part), study.context)

    return make


def test_headline_is_change_then_sites_then_nerves(with_change: MakeStudy, study: StudyContent) -> None:
    lines = headline(with_change())
    assert lines[0].startswith("1 new lesion since 2025-03-01 (comparability B). 1 possible. 1 enlarging.")
    assert lines[1:] == headline(study)[1:]
    assert len(lines) == 3


def test_headline_of_grade_d_says_why_beside_the_result(with_change: MakeStudy, study: StudyContent) -> None:
    told = "Not compared with 2025-03-01: the prior shows another part of the head."
    assert headline(with_change("D")) == [f"{headline(study)[0]} {told}", *headline(study)[1:]]


def test_comparison_is_no_series_of_its_own(with_change: MakeStudy) -> None:
    content = with_change()
    assert content.others == ()
    assert [part.pipeline for part in content.shown] == ["flair", "fatsat"]
    assert content.change is not None
    assert content.change.pipeline == CHANGE


def test_comparison_of_another_series_is_not_told(with_change: MakeStudy) -> None:
    content = with_change()
    part = content.parts[-1]
    assert part.comparison is not None
    other = replace(part, comparison=replace(part.comparison, series_uid="9.9.9"))
    assert told_change(StudyContent((*content.parts[:-1], other), content.context)) is None


def test_what_was_not_looked_at_names_the_missing_prior_only_where_one_was_searched(
    with_change: MakeStudy, study: StudyContent
) -> None:
    assert "change since an earlier study were not examined" in limits_lines(study)[1]
    searched = StudyContent(study.parts, study.context, no_prior="the birth date differs")
    assert limits_lines(searched)[1].endswith("No prior FLAIR found: the birth date differs.")
    assert "earlier study" not in limits_lines(with_change())[1]
    waiting = StudyContent(study.parts, study.context, awaited=(CHANGE,))
    assert "still awaited" in limits_lines(waiting)[1]


def test_of_two_flair_series_the_better_compared_one_is_shown(with_change: MakeStudy) -> None:
    content = with_change()
    flair, change = content.flair, content.change
    assert flair is not None and change is not None and change.comparison is not None
    source = deepcopy(flair.source)
    source.SeriesInstanceUID, source.SeriesNumber = "9.9.9", 1  # would come first by its number
    other = replace(flair, source=source, job_id="0" * 32)
    worse = replace(
        change,
        comparison=replace(change.comparison, series_uid="9.9.9", comparability=Comparability("C")),
    )
    two = StudyContent((other, worse, *content.parts), content.context)
    assert two.flair is flair
    assert told_change(two) is change.comparison


def test_comparison_that_failed_is_told_with_its_reason(with_change: MakeStudy, study: StudyContent) -> None:
    failed = replace(
        with_change().parts[-1], comparison=None, findings=Findings("failed", "the prior can't be read")
    )
    content = StudyContent((*study.parts, failed), study.context)
    assert "Not compared with an earlier study: the prior can't be read." in quality_lines(content)
    assert headline(content) == headline(study)


@pytest.mark.slow
def test_objects_of_the_study_tell_the_change_in_the_order_of_the_page(
    with_change: MakeStudy, tmp_path: Path
) -> None:
    content = with_change()
    made = {item.role: tmp_path / item.path for item in build_summary(content, tmp_path)}
    said = " ".join(sentences(dcmread(made["summary-text"])))
    order = [
        "1 new lesion since 2025-03-01",
        "639 days before: comparability B, the slice thickness differs.",
        "L01 new: periventricular, left",
        "2 lesions in the brain",
        "On 2025-03-01 2.90 mL: +7 %, within measurement error (below 15 % of the mean of both).",
        "Right optic nerve: suspicious",
        "Acquisition then and now: slice thickness 4 mm and 3 mm",
        "Of 12 lesions painted into this prior 9 were found, 0 false.",
    ]
    tables = (
        "Lesions of 3 mm",
        "Volume and longest axis",
        "Acquisition then and now",
        *(f"L{n:02d} " for n in range(9)),
    )
    prose = [text for text in sentences(dcmread(made["summary-text"])) if not text.startswith(tables)]
    assert len(" ".join(prose).split()) <= 300
    places = [said.index(text) for text in order]
    assert places == sorted(places)
    report = dcmread(made["summary-sr"])
    group = measurement_groups(report)["Change since the prior study"]
    assert coded(group)["comparability"] == "comparability-b"
    assert numbers(group)["prior-volume"] == 2900.0
    assert any(text == order[-1] for text in texts(group))
    for role, path in made.items():
        done = tool("dciodvfy", path)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert [line for line in errors if not line.startswith(FALSE_FINDING)] == [], role
        assert not forbidden_in(" ".join(texts(dcmread(path))))
        assert dcmread(path).StudyInstanceUID == content.source.StudyInstanceUID
    referred = {
        str(reference.ReferencedSOPInstanceUID)
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    roles = ("change-seg", "change-sr", "change-text")
    returned = {item.sop_instance_uid for item in content.parts[-1].objects if item.role in roles}
    assert len(returned) == 3
    assert returned <= referred


@pytest.mark.slow
@pytest.mark.parametrize("grade", ["A", "B", "C", "D"])
@pytest.mark.parametrize("has_nerves", [True, False])
def test_page_with_change_stays_above_its_foot(
    with_change: MakeStudy, monkeypatch: pytest.MonkeyPatch, grade: str, has_nerves: bool
) -> None:
    content = with_change(grade)
    if not has_nerves:
        content = StudyContent(
            tuple(part for part in content.parts if part.pipeline != "fatsat"), content.context
        )
    foot: list[int] = []
    lowest: list[int] = []
    provenance, text = drawing._provenance, Canvas.text

    def noted(canvas: Canvas, told: StudyContent) -> int:
        foot.append(provenance(canvas, told))
        return foot[0]

    def placed(canvas: Canvas, *arguments: Any, **options: Any) -> int:
        bottom = text(canvas, *arguments, **options)
        if foot:
            lowest.append(bottom)
        return bottom

    monkeypatch.setattr(drawing, "_provenance", noted)
    monkeypatch.setattr(Canvas, "text", placed)
    page = drawing.draw_page(content)
    assert page.shape == (1754, 1240, 3)
    assert max(lowest) <= foot[0] + 24
    assert np.all(page[:, :60] == 255)
