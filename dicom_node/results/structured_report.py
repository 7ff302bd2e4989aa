"""The TID 1500 report as Comprehensive 3D SR, and the same tree without 3D points as Enhanced SR."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedSRStorage

from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import Marks
from dicom_node.results.provenance import MANUFACTURER, finish, state_coding_scheme
from dicom_node.results.report_items import ReportInput
from dicom_node.results.report_overall import models_of_report
from dicom_node.results.report_tree import measurement_report
from dicom_node.results.segmentation import frames_by_place
from dicom_node.results.series_list import listed_series
from dicom_node.results.source import without_name
from pipelines.types import Findings

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "sr"
ENHANCED_ROLE = "sr-enhanced"


def build_structured_report(
    findings: Findings,
    series: LoadedSeries,
    sources: list[Dataset],
    segmentation: Dataset | None,
    context: ResultContext,
    marks: Marks,
) -> Dataset:
    """Return the TID 1500 report as Comprehensive 3D SR."""
    frames = {} if segmentation is None else frames_by_place(segmentation)
    given = ReportInput(findings, series, sources, segmentation, context, marks, frames)
    ds: Dataset = sr.Comprehensive3DSR(
        evidence=[*without_name(sources), *([segmentation] if segmentation is not None else [])],
        content=measurement_report(given),
        series_instance_uid=context.derive_uid(ROLE, "series"),
        series_number=listed_series(context, ROLE).number,
        sop_instance_uid=context.derive_uid(ROLE, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        record_evidence=True,
    )
    finish(ds, source=sources[0], context=context, models=models_of_report(given), role=ROLE)
    state_coding_scheme(ds)
    add_predecessors(ds, context)
    return ds


def as_enhanced(report: Dataset, context: ResultContext, role: str = ENHANCED_ROLE) -> Dataset:
    """Return the same report without its 3D points, as Enhanced SR, for a PACS that refuses Comprehensive 3D SR.

    Both belong to one series and are never meant to lie in one PACS. What is the same in both is shared, not copied.
    """
    ds = _without_points(report)
    ds.SOPClassUID = EnhancedSRStorage
    ds.SOPInstanceUID = context.derive_uid(role, "instance")
    ds.file_meta = copy(report.file_meta)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if "PredecessorDocumentsSequence" in ds:
        del ds.PredecessorDocumentsSequence
    add_predecessors(ds, context)
    return ds


def _without_points(item: Dataset) -> Dataset:
    """Return a content item, or the document itself, without the SCOORD3D items below it."""
    kept = Dataset()
    for element in item:
        kept.add(element)
    if "ContentSequence" in item:
        kept.ContentSequence = [
            _without_points(below) for below in item.ContentSequence if below.ValueType != "SCOORD3D"
        ]
    return kept


def add_predecessors(ds: Dataset, context: ResultContext) -> None:
    """Name the documents of the same class that this one replaces (PS3.3 C.17.2, Predecessor Documents Sequence)."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for sop_class, instance, series, study in context.replaces:
        if sop_class == ds.SOPClassUID:
            reference = Dataset()
            reference.ReferencedSOPClassUID = sop_class
            reference.ReferencedSOPInstanceUID = instance
            studies.setdefault(study, {}).setdefault(series, []).append(reference)
    if not studies:
        return
    items = []
    for study, by_series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = []
        for series, references in by_series.items():
            of_series = Dataset()
            of_series.SeriesInstanceUID = series
            of_series.ReferencedSOPSequence = references
            item.ReferencedSeriesSequence.append(of_series)
        items.append(item)
    ds.PredecessorDocumentsSequence = items
