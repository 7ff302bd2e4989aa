"""The report as Basic Text SR (PS3.3 A.35.1, PS3.16 TID 2000): what a radiologist reads first, and what every PACS shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_node.results import wording
from dicom_node.results.context import ResultContext
from dicom_node.results.differential import differential_line
from dicom_node.results.finding_marks import Marks
from dicom_node.results.plausibility import noun_of
from dicom_node.results.provenance import MODEL_NAME, RESEARCH_ONLY, finish, models_behind, time_of
from dicom_node.results.source import age_years, slice_of
from dicom_node.results.structured_report import add_predecessors
from dicom_node.results.text_document import (
    ADDENDUM,
    FINDINGS,
    IMPRESSIONS,
    LINE_END,
    PROCEDURE,
    in_lines,
    section,
    text_document,
)
from pipelines.types import Findings, ModelCard, Task

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "text-sr"


def build_text_report(
    findings: Findings,
    series: LoadedSeries,
    sources: list[Dataset],
    segmentation: Dataset | None,
    context: ResultContext,
    marks: Marks,
) -> Dataset:
    """Return the text report; its numbers are those of the structured report."""
    ds = text_document(
        report_sections(findings, series, sources, context, marks),
        [*sources, *([segmentation] if segmentation else [])],
        context,
    )
    finish(
        ds,
        source=sources[0],
        context=context,
        models=models_of_text(findings, context),
        role=ROLE,
    )
    add_predecessors(ds, context)
    return ds


def report_sections(
    findings: Findings, series: LoadedSeries, sources: list[Dataset], context: ResultContext, marks: Marks
) -> list[Dataset | None]:
    """Return the sections of the report in the order in which they are read: the result first, the models last."""
    said = wording.finding_sentences(findings, age_years(sources[0]))
    models = wording.model_lines(models_of_text(findings, context), findings)
    return [
        section(
            FINDINGS,
            [
                wording.headline(findings),
                RESEARCH_ONLY,
                *map(in_lines, said),
                lesion_table(findings, series, sources, marks),
            ],
        ),
        section(IMPRESSIONS, [in_lines(differential_line(findings, context))]),
        section(ADDENDUM, wording.remark_sentences(findings, context)),
        section(PROCEDURE, [analysed_sentence(sources, context)]),
        section(ADDENDUM, models),
    ]


def models_of_text(findings: Findings, context: ResultContext) -> tuple[ModelCard, ...]:
    """Return the models whose results the text report holds."""
    tasks: list[Task] = ["mask", "regions", "intervals"]
    if differential_line(findings, context):
        tasks.append("differential")
    return models_behind(findings, *tasks)


def lesion_table(findings: Findings, series: LoadedSeries, sources: list[Dataset], marks: Marks) -> str:
    """Return a line for each lesion that has one, the largest first, and one for the smaller ones."""
    lines = []
    for lesion in sorted(findings.lesions, key=lambda item: (-item.volume_mm3, item.id)):
        if wording.has_line(lesion):
            mark = marks.lesions.get(lesion.id)
            k = mark.k if mark else sum(lesion.slices_k) // 2
            lines.append(
                wording.lesion_line(lesion, slice_of(series, sources, k).image_number, noun_of(findings))
            )
    return LINE_END.join(
        filter(None, [*lines, wording.smaller_line(findings), *wording.legend_lines(findings)])
    )


def analysed_sentence(sources: list[Dataset], context: ResultContext) -> str:
    """Return which series was analysed, by what, and when."""
    source = sources[0]
    number = source.get("SeriesNumber")
    images = int(source.NumberOfFrames) if source.get("NumberOfFrames") else len(sources)
    name = f"Series {number}" if number not in (None, "") else "A series"
    description = f' "{source.SeriesDescription}"' if source.get("SeriesDescription") else ""
    when = time_of(context, source).strftime("%Y-%m-%d %H:%M %Z")
    return (
        f"{name}{description}, {images} images, analysed {when} by {MODEL_NAME} {context.node_version} "
        f"(job {context.job_id[:8]}, run {context.run})."
    )
