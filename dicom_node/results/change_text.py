"""The comparison in words, as Basic Text SR: what has changed first, then each change, and how far that can be relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset

from dicom_node.results import change_wording
from dicom_node.results.change_items import model_text, prior_evidence
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import RESEARCH_ONLY, finish
from dicom_node.results.structured_report import add_predecessors
from dicom_node.results.text_document import (
    ADDENDUM,
    FINDINGS,
    LINE_END,
    PROCEDURE,
    in_lines,
    section,
    text_document,
)
from dicom_node.results.text_report import analysed_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

ROLE: Final = "change-text"
NOT_JUDGED: Final = "Enhancement and the spinal cord were not examined."


def build_change_text(
    record: ComparisonRecord,
    sources: list[Dataset],
    prior: Sequence[Dataset],
    segmentation: Dataset | None,
    context: ResultContext,
) -> Dataset:
    """Return the text report; its numbers are those of the coded one."""
    ds = text_document(
        _sections(record, sources, context),
        [*sources, *([segmentation] if segmentation is not None else [])],
        context,
    )
    ds.PertinentOtherEvidenceSequence = prior_evidence(prior)
    finish(ds, source=sources[0], context=context, models=record.models, role=ROLE)
    add_predecessors(ds, context)
    return ds


def _sections(
    record: ComparisonRecord, sources: list[Dataset], context: ResultContext
) -> list[Dataset | None]:
    found = [
        change_wording.change_sentence(record),
        RESEARCH_ONLY,
        change_wording.comparability_sentence(record),
    ]
    if record.is_compared:
        found += [
            change_wording.counts_sentence(record),
            LINE_END.join(change_wording.change_lines(record)),
            change_wording.volume_sentence(record),
        ]
    quality = [
        change_wording.acquisition_sentence(record),
        change_wording.other_priors_sentence(context.other_priors),
        *change_wording.warning_sentences(record),
    ]
    return [
        section(FINDINGS, [text if LINE_END in text else in_lines(text) for text in found if text]),
        section(ADDENDUM, [in_lines(text) for text in (*quality, NOT_JUDGED) if text]),
        section(PROCEDURE, [analysed_sentence(sources, context)]),
        section(ADDENDUM, [change_wording.self_grade_sentence(record), *model_text(record)]),
    ]
