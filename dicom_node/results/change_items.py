"""Coded items and evidence that the report of a comparison and the page of its study have in common."""

from __future__ import annotations

from collections.abc import Iterable

from highdicom import sr
from pydicom.dataset import Dataset

from dicom_node.results import change_wording
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.provenance import code_item
from dicom_node.results.quantities import number_item
from dicom_node.results.report_items import evaluation
from dicom_node.results.wording import model_lines, rounded_mm3
from dicom_node.standard import codes
from pipelines.comparison import CHANGES
from pipelines.types import Findings


def time_point(record: ComparisonRecord) -> sr.TimePointContext:
    """Return the current time point (TID 1502): its day, that it is the second of two, and the days since the first."""
    day = record.day.isoformat() if record.day else "current study"
    offset = None
    if record.days is not None:
        offset = sr.LongitudinalTemporalOffsetFromEvent(record.days, codes.unit_code("d"), codes.PRIOR_STUDY)
    return sr.TimePointContext(
        time_point=day,
        time_point_order=2,
        subject_time_point_identifier=day,
        temporal_offset_from_event=offset,
    )


def comparison_evaluations(record: ComparisonRecord) -> list[sr.QualitativeEvaluation]:
    """Return coded whether there was a comparison, how far it goes, and whether the total volume has changed."""
    said = [
        evaluation(codes.COMPARISON_DONE, codes.YES if record.is_compared else codes.NO),
        evaluation(codes.COMPARABILITY, codes.COMPARABILITY_BY_GRADE[record.comparability.grade]),
    ]
    if change_wording.total_change(record) is not None:
        within = codes.WITHIN_ERROR if record.is_within_error else codes.BEYOND_ERROR
        said.append(evaluation(codes.TOTAL_CHANGE, within))
    return said


def total_measurements(record: ComparisonRecord) -> list[sr.Measurement]:
    """Return the number of certain changes of each kind and of unchanged lesions, and the total volume with its change."""
    if not record.is_compared:
        return []
    numbers = []
    kinds: list[tuple[str, int]] = [(kind, record.count(kind)) for kind in CHANGES]
    if record.counts_unchanged:
        kinds.append(("unchanged", len(record.unchanged)))
    for kind, count in kinds:
        counted = number_item(codes.LESION_COUNT, count, "{lesions}")
        modifier = sr.CodeContentItem(
            codes.CHANGE, codes.change_code(kind), sr.RelationshipTypeValues.HAS_CONCEPT_MOD
        )
        content = counted[0].get("ContentSequence") or sr.ContentSequence()
        content.append(modifier)
        counted[0].ContentSequence = content
        numbers.append(counted)
    numbers += [
        number_item(codes.VOLUME, rounded_mm3(record.volume_mm3), "mm3", derivation=codes.TOTAL),
        number_item(codes.PRIOR_VOLUME, rounded_mm3(record.prior_volume_mm3), "mm3", derivation=codes.TOTAL),
    ]
    fraction = change_wording.total_change(record)
    if fraction is not None:
        numbers.append(number_item(codes.FRACTIONAL_CHANGE, fraction, "1", derivation=codes.TOTAL))
    return numbers


def comparison_comments(record: ComparisonRecord) -> list[str]:
    """Return the comparison in sentences, in the order of the page."""
    return [
        text
        for text in (
            change_wording.change_sentence(record),
            change_wording.comparability_sentence(record),
            change_wording.counts_sentence(record),
            change_wording.volume_sentence(record),
            change_wording.acquisition_sentence(record),
            *change_wording.warning_sentences(record),
            change_wording.self_grade_sentence(record),
        )
        if text
    ]


def model_text(record: ComparisonRecord) -> list[str]:
    """Return the models behind a comparison, one a line, under a heading."""
    return model_lines(record.models, Findings("none", models=record.models))


def name_temporal_predecessors(ds: Dataset, study_uid: str) -> None:
    """Say of the evidence of other studies than the document's own that it is what came before (PS3.3 C.17.2.3)."""
    for study in ds.get("PertinentOtherEvidenceSequence") or ():
        if str(study.StudyInstanceUID) != study_uid:
            for series in study.ReferencedSeriesSequence:
                for reference in series.ReferencedSOPSequence:
                    reference.PurposeOfReferenceCodeSequence = [code_item(codes.TEMPORAL_PREDECESSOR)]


def prior_evidence(prior: Iterable[Dataset]) -> list[Dataset]:
    """Return the items of Pertinent Other Evidence Sequence (0040,A385) for a prior's images, as temporal predecessors."""
    studies: dict[str, dict[str, list[Dataset]]] = {}
    for image in prior:
        reference = Dataset()
        reference.ReferencedSOPClassUID = image.SOPClassUID
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        reference.PurposeOfReferenceCodeSequence = [code_item(codes.TEMPORAL_PREDECESSOR)]
        by_series = studies.setdefault(str(image.StudyInstanceUID), {})
        by_series.setdefault(str(image.SeriesInstanceUID), []).append(reference)
    items = []
    for study_uid, by_series in studies.items():
        item = Dataset()
        item.StudyInstanceUID = study_uid
        item.ReferencedSeriesSequence = []
        for series_uid, references in by_series.items():
            of_series = Dataset()
            of_series.SeriesInstanceUID = series_uid
            of_series.ReferencedSOPSequence = references
            item.ReferencedSeriesSequence.append(of_series)
        items.append(item)
    return items
