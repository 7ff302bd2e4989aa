"""Change since an earlier study, as the page of a study tells it: when at all, its lines, and what it adds to tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_node.results import change_wording
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.dissemination import REGION_NAMES, has_regions
from dicom_node.study.content import CHANGE, StudyContent
from pipelines.comparison import CHANGES
from pipelines.types import Findings

NOT_LOOKED_AT: Final = (
    "Enhancement, central veins, and change since an earlier study were not examined either."
)
AWAITED: Final = "The comparison with an earlier study is still awaited; a revision of this page follows it."
NOT_ENHANCED: Final = "Enhancement and central veins were not examined either."
NOT_TYPICAL_LIMITS: Final = "Enhancement and central veins were not examined."
"""Stands alone: of what is not like demyelination neither the cord nor an earlier study is spoken of."""
MOST_ACQUISITION_ROWS: Final = 5


def told_change(content: StudyContent) -> ComparisonRecord | None:
    """Return the comparison that page and reports tell of; None where there is none to be told.

    The one place that decides it, for every sentence, table and picture of change.
    """
    flair, part = content.flair, content.change
    if flair is None or not flair.was_analysed or flair.findings.not_typical or part is None:
        return None
    return part.comparison


def compared(content: StudyContent) -> ComparisonRecord | None:
    """Return the comparison that is told, where there is one and it was possible."""
    record = told_change(content)
    return record if record is not None and record.is_compared else None


def limits_line(content: StudyContent) -> str:
    """Return what was not looked at, with the reason why there is no prior where one was searched."""
    if content.flair_findings is not None and content.flair_findings.not_typical:
        return NOT_TYPICAL_LIMITS
    if told_change(content) is not None:
        return NOT_ENHANCED
    if CHANGE in content.awaited:
        return f"{NOT_ENHANCED} {AWAITED}"
    if content.no_prior is None:
        return NOT_LOOKED_AT
    return f"{NOT_ENHANCED} {change_wording.no_prior_sentence(content.no_prior)}"


def count_cells(record: ComparisonRecord) -> list[str]:
    """Return the number of changes of each kind and of unchanged lesions, in short: ``new 2 (1 possible)``."""
    cells = []
    for kind in CHANGES:
        possible = record.count(kind, possible=True)
        cells.append(f"{kind} {record.count(kind)}{f' ({possible} possible)' if possible else ''}")
    if record.counts_unchanged:
        cells.append(f"unchanged {len(record.unchanged)}")
    return cells


def legend(record: ComparisonRecord) -> str:
    """Return what is meant by a possible change and by the numbers of lesions, as far as either is shown."""
    return " ".join(
        text
        for text, is_shown in (
            (change_wording.POSSIBLE, any(one.possible for one in record.changes)),
            (change_wording.TRACKED, bool(record.changes)),
        )
        if is_shown
    )


def quality_lines(content: StudyContent) -> list[str]:
    """Return the warnings of the comparison, or why it failed."""
    record = told_change(content)
    if record is not None:
        return change_wording.warning_sentences(record)
    failed = [
        part.findings.reason
        for part in content.changes
        if part.comparison is None and not part.was_analysed and part.findings.reason
    ]
    return [f"Not compared with an earlier study: {reason.rstrip('.')}." for reason in failed[:1]]


def provenance_lines(content: StudyContent) -> list[str]:
    """Return how the comparison did on itself; nothing where that was not tried."""
    record = compared(content)
    told = change_wording.self_grade_sentence(record) if record is not None else ""
    return [told] if told else []


def new_by_region(content: StudyContent, findings: Findings) -> tuple[str, ...]:
    """Return the column "new" of the table of regions, one cell for each of its rows; empty where it has none.

    At comparability C nothing is certainly new, and the column would say none where some are possible.
    """
    record = compared(content)
    if record is None or record.comparability.grade == "C":
        return ()
    total = str(record.count("new"))
    if not has_regions(findings):
        return (total,)
    anatomy = findings.anatomy
    hidden = anatomy.not_covered if anatomy is not None else ()
    cells = [
        "" if region in hidden else str(change_wording.new_in(record, [region])) for region in REGION_NAMES
    ]
    return (*cells, total)


def with_new(rows: Sequence[tuple[str, ...]], new: Sequence[str]) -> list[tuple[str, ...]]:
    """Return rows of the table of regions with the column "new" behind the number of lesions."""
    return [(*row[:2], cell, *row[2:]) for row, cell in zip(rows, new, strict=True)]
