"""The page in words, as Basic Text SR: the same sentences in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.results import change_wording
from dicom_node.results.comparison_record import LESS
from dicom_node.results.dissemination import (
    counts_sentence,
    has_regions,
    nerves_sentence,
)
from dicom_node.results.percentile import percentile_sentence
from dicom_node.results.provenance import DISCLAIMER
from dicom_node.results.text_document import (
    ADDENDUM,
    CONCLUSIONS,
    FINDINGS,
    IMPRESSIONS,
    LINE_END,
    in_lines,
    section,
    text_document,
)
from dicom_node.study import sentences
from dicom_node.study.change import compared
from dicom_node.study.content import StudyContent

MOST_CHANGES: Final = 4
"""Changes that have a line of their own here, as many as the page has pictures; the comparison's report has all."""


def text_summary(content: StudyContent, evidence: Sequence[Dataset]) -> Dataset:
    """Return the text SR, not finished yet; ``evidence``: what it speaks of."""
    record = compared(content)
    acquisition = [change_wording.acquisition_sentence(record)] if record is not None else []
    quality = [*acquisition, *sentences.quality_lines(content), *sentences.provenance_lines(content)]
    limits = [*filter(None, [sentences.differential(content)]), *sentences.limits_lines(content)]
    sections = [
        section(IMPRESSIONS, _result(content)),
        section(FINDINGS, [in_lines(text) for text in _findings(content) if text]),
        section(ADDENDUM, [in_lines(text) for text in limits]),
        section(ADDENDUM, [in_lines(text) for text in quality if text]),
        section(CONCLUSIONS, [DISCLAIMER]),
    ]
    return text_document(sections, evidence, content.context)


def _result(content: StudyContent) -> list[str]:
    """Return the result in the first lines, and its use right below."""
    fatsat = content.fatsat
    is_rated = fatsat is not None and fatsat.was_analysed
    nerves = (
        nerves_sentence(content.flair_findings, content.fatsat_findings)
        if is_rated
        else sentences.nerves_line(content)
    )
    lines = [*sentences.result_lines(content), sentences.second_line(content), nerves]
    return [LINE_END.join([*(in_lines(text) for text in lines if text), "Research use only."])]


def _findings(content: StudyContent) -> Iterator[str]:
    """Yield what has changed, the regions, the volume, and each nerve."""
    record = compared(content)
    if record is not None:
        yield change_wording.comparability_sentence(record)
        if any(
            one.possible and one.change in LESS for one in record.changes
        ):  # the first line has all others
            yield change_wording.counts_sentence(record)
        for one in record.changes[:MOST_CHANGES]:
            yield f"{change_wording.change_line(record, one)}."
        if len(record.changes) > MOST_CHANGES:
            left = len(record.changes) - MOST_CHANGES
            told = "further change stands" if left == 1 else "further changes stand"
            yield f"{left} {told} in the report of the comparison."
        if sentences.lesions_line(content) not in sentences.result_lines(content):
            yield sentences.lesions_line(content)
    if content.flair is not None and content.flair.was_analysed:
        findings = content.flair.findings
        yield counts_sentence(findings)
        rows = [row for row in sentences.region_rows(findings)[:-1] if row[2] not in ("", "-")]
        if rows:
            told = "; ".join(f"{name.lower()} {volume}, {longest}" for name, _, volume, longest in rows)
            yield f"Volume and longest axis: {told}."
        # Why there are no regions is in the sentence on their counts.
        yield from sentences.region_remarks(findings) if has_regions(findings) or findings.not_typical else ()
        yield sentences.volume_line(findings)
        if record is not None:
            yield change_wording.prior_volume_sentence(record)
        yield percentile_sentence(findings)
    if content.fatsat is not None and content.fatsat.was_analysed:
        for side, rating, probability, seen in sentences.nerve_rows(content.fatsat.findings.sites):
            if rating != "not analysed":
                yield f"{side} optic nerve: {rating}, probability {probability}, {seen} of the nerve seen."
        yield from sentences.nerve_remarks(content)
