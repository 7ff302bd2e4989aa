"""The report as Basic Text SR (PS3.3 A.35.1, PS3.16 TID 2000): what a radiologist reads first, and what every PACS shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_node.results import wording
from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import DISCLAIMER, MODEL_NAME, finish, time_of
from dicom_node.results.source import slice_of
from dicom_node.results.structured_report import add_predecessors
from dicom_node.results.text_document import (
    ADDENDUM,
    CONCLUSIONS,
    FINDINGS,
    IMPRESSIONS,
    LINE_END,
    PROCEDURE,
    in_lines,
    section,
    text_document,
)
from pipelines.types import Findings, Lesion

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "text-sr"
SERIES_OFFSET = 2


def build_text_report(
    findings: Findings,
    series: LoadedSeries,
    sources: list[Dataset],
    segmentation: Dataset | None,
    context: ResultContext,
) -> Dataset:
    """Return the text report; its numbers are those of the structured report."""
    ds = text_document(
        report_sections(findings, series, sources, context),
        [*sources, *([segmentation] if segmentation else [])],
        context,
    )
    finish(
        ds,
        source=sources[0],
        context=context,
        models=findings.models,
        role=ROLE,
        what="report",
        series_number=context.series_number_base + SERIES_OFFSET,
    )
    add_predecessors(ds, context)
    return ds


def report_sections(
    findings: Findings, series: LoadedSeries, sources: list[Dataset], context: ResultContext
) -> list[Dataset]:
    """Return the sections of the report, in the order in which they are read."""
    lesions = [_lesion_text(lesion, series, sources) for lesion in wording.listed_lesions(findings)]
    outcome = wording.outcome_sentences(findings)
    found = [
        *map(in_lines, outcome if findings.sites else [" ".join(outcome)]),
        LINE_END.join(filter(None, [*lesions, wording.not_listed_sentence(findings)])),
    ]
    sections = [
        section(PROCEDURE, [analysed_sentence(sources, context)]),
        section(FINDINGS, found),
        section(IMPRESSIONS, wording.hypothesis_paragraphs(findings, context)),
        section(ADDENDUM, [f"Note: {text}" for text in wording.remark_sentences(findings, context)]),
        section(ADDENDUM, [f"Model: {wording.model_line(model)}" for model in findings.models]),
        section(CONCLUSIONS, [DISCLAIMER]),
    ]
    return [item for item in sections if item is not None]


def analysed_sentence(sources: list[Dataset], context: ResultContext) -> str:
    """Return which series was analysed, by what, and when."""
    source = sources[0]
    number = source.get("SeriesNumber")
    images = int(source.NumberOfFrames) if source.get("NumberOfFrames") else len(sources)
    name = f"Series {number}" if number not in (None, "") else "A series"
    description = f' "{source.SeriesDescription}"' if source.get("SeriesDescription") else ""
    when = time_of(context, source).strftime("%Y-%m-%d %H:%M %Z")
    return (
        f"{name}{description} with {images} images was analysed automatically for {context.title} on {when} "
        f"by {MODEL_NAME} {context.node_version} (job {context.job_id[:8]}, run {context.run})."
    )


def _lesion_text(lesion: Lesion, series: LoadedSeries, sources: list[Dataset]) -> str:
    numbers = [slice_of(series, sources, k).image_number for k in lesion.slices_k]
    return wording.lesion_line(lesion, wording.image_range(numbers))
