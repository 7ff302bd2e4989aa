"""The report as Basic Text SR (PS3.3 A.35.1, PS3.16 TID 2000): what a radiologist reads first, and what every PACS shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage

from dicom_node.results import wording
from dicom_node.results.context import ResultContext
from dicom_node.results.differential import differential_line
from dicom_node.results.finding_marks import Marks
from dicom_node.results.provenance import (
    MODEL_NAME,
    RESEARCH_ONLY,
    code_item,
    finish,
    models_behind,
    time_of,
)
from dicom_node.results.source import age_years, slice_of
from dicom_node.results.structured_report import add_predecessors
from dicom_node.standard import codes
from pipelines.types import Findings, ModelCard, Task

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "text-sr"

_LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
_ENGLISH = Code("en", "RFC5646", "English")
_OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
_DEVICE = Code("121007", "DCM", "Device")
_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
_OBSERVER_NAME = Code("121013", "DCM", "Device Observer Name")
_PROCEDURE = (
    Code("121064", "DCM", "Current Procedure Descriptions"),
    Code("121065", "DCM", "Procedure Description"),
)
_FINDINGS = (Code("121070", "DCM", "Findings"), Code("121071", "DCM", "Finding"))
_IMPRESSIONS = (Code("121072", "DCM", "Impressions"), Code("121073", "DCM", "Impression"))
_ADDENDUM = (Code("121078", "DCM", "Addendum"), codes.COMMENT)
_LINE_END = "\r\n"
_LINE = 88
"""Characters after which a finding goes on in a new line, where it has a clause to end: some viewers do not wrap findings."""
_CLAUSE = re.compile(r"(?<=[,.;:]) | (?=\()")


def build_text_report(
    findings: Findings,
    series: LoadedSeries,
    sources: list[Dataset],
    segmentation: Dataset | None,
    context: ResultContext,
    marks: Marks,
) -> Dataset:
    """Return the text report; its numbers are those of the structured report."""
    ds = Dataset()
    ds.SOPClassUID = BasicTextSRStorage
    ds.Modality = "SR"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.ConceptNameCodeSequence = [code_item(codes.REPORT)]
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2000"
    ds.ContentTemplateSequence = [template]
    ds.ContentSequence = [
        _code("HAS CONCEPT MOD", _LANGUAGE, _ENGLISH),
        _code("HAS OBS CONTEXT", _OBSERVER_TYPE, _DEVICE),
        _uid("HAS OBS CONTEXT", _OBSERVER_UID, context.node_uid),
        _text("HAS OBS CONTEXT", _OBSERVER_NAME, f"{MODEL_NAME} {context.node_version}, {context.node_id}"),
        *report_sections(findings, series, sources, context, marks),
    ]
    ds.CurrentRequestedProcedureEvidenceSequence = [
        _evidence([*sources, *([segmentation] if segmentation else [])])
    ]
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
) -> list[Dataset]:
    """Return the sections of the report in the order in which they are read: the result first, the models last."""
    said = wording.finding_sentences(findings, age_years(sources[0]))
    models = wording.model_lines(models_of_text(findings, context), findings)
    sections = [
        _section(
            _FINDINGS,
            [
                wording.headline(findings),
                RESEARCH_ONLY,
                *map(in_lines, said),
                lesion_table(findings, series, sources, marks),
            ],
        ),
        _section(_IMPRESSIONS, [in_lines(differential_line(findings, context))]),
        _section(_ADDENDUM, wording.remark_sentences(findings, context)),
        _section(_PROCEDURE, [analysed_sentence(sources, context)]),
        _section(_ADDENDUM, models),
    ]
    return [section for section in sections if section is not None]


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
            lines.append(wording.lesion_line(lesion, slice_of(series, sources, k).image_number))
    return _LINE_END.join(
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


def in_lines(text: str) -> str:
    """Return a text in lines of some `_LINE` characters that end where a clause does."""
    lines = [""]
    for clause in _CLAUSE.split(text):
        if lines[-1] and len(lines[-1]) + 1 + len(clause) > _LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {clause}".strip()
    return _LINE_END.join(lines)


def _section(heading: tuple[Code, Code], texts: Iterable[str]) -> Dataset | None:
    """Return a section with its paragraphs, or nothing when there is none."""
    name, kind = heading
    items = [_text("CONTAINS", kind, text) for text in texts if text]
    if not items:
        return None
    section = _item("CONTAINS", "CONTAINER", name)
    section.ContinuityOfContent = "SEPARATE"
    section.ContentSequence = items
    return section


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [code_item(name)]
    return item


def _text(relationship: str, name: Code, text: str) -> Dataset:
    item = _item(relationship, "TEXT", name)
    item.TextValue = text
    return item


def _code(relationship: str, name: Code, value: Code) -> Dataset:
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [code_item(value)]
    return item


def _uid(relationship: str, name: Code, uid: str) -> Dataset:
    item = _item(relationship, "UIDREF", name)
    item.UID = uid
    return item


def _evidence(instances: Iterable[Dataset]) -> Dataset:
    """Return the images and masks that the report speaks of, by series (PS3.3 C.17.2.3)."""
    by_series: dict[str, list[Dataset]] = {}
    study = ""
    for instance in instances:
        study = instance.StudyInstanceUID
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        by_series.setdefault(instance.SeriesInstanceUID, []).append(reference)
    evidence = Dataset()
    evidence.StudyInstanceUID = study
    evidence.ReferencedSeriesSequence = []
    for series_uid, references in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedSOPSequence = references
        evidence.ReferencedSeriesSequence.append(item)
    return evidence
