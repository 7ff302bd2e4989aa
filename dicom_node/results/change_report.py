"""The comparison in codes: TID 1500 (PS3.16) as Comprehensive 3D SR.

Each group is of the current time point and has a point in a current image; the prior's images are evidence alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset

from dicom_node.results import change_wording
from dicom_node.results.change_items import (
    comparison_comments,
    comparison_evaluations,
    model_text,
    name_temporal_predecessors,
    time_point,
    total_measurements,
)
from dicom_node.results.change_segmentation import ChangeSegment
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import Mark, free_mark, mask_mark, point_mark
from dicom_node.results.provenance import DISCLAIMER, MANUFACTURER, finish, state_coding_scheme
from dicom_node.results.quantities import number_item
from dicom_node.results.report_items import (
    Group,
    ReportInput,
    algorithm,
    evaluation,
    finding_site,
    finding_sites,
    with_centre,
    with_comments,
    with_mark,
)
from dicom_node.results.report_tree import report_root
from dicom_node.results.segmentation import frames_by_place, rounded
from dicom_node.results.series_list import listed_series
from dicom_node.results.source import slice_of, without_name
from dicom_node.results.structured_report import add_predecessors
from dicom_node.results.tracking import TrackedLesion
from dicom_node.results.wording import rounded_mm3
from dicom_node.standard import codes
from pipelines.comparison import LabelArray, LesionChange, UnchangedLesion

ROLE: Final = "change-sr"
MOST_LISTED: Final = 50
"""Changes that have a group of their own, the certain ones first; and unchanged lesions, the largest first."""
TIME_POINT_ITEMS: Final = frozenset(
    {("C2348792", "UMLS"), ("126070", "DCM"), ("126073", "DCM"), ("128740", "DCM")}
)
"""Of TID 1502: time point, subject time point identifier, order, days since the prior study."""
CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS


@dataclass(frozen=True)
class ChangeInput:
    """Everything that the report is made from.

    Parameters
    ----------
    given : ReportInput
        Of the current series; its SEG is that of the changes.
    record : ComparisonRecord
    segments : tuple of ChangeSegment
        Those of the SEG, in its order.
    labels : int32 array, shape (k, j, i), or None
        Numbers of the changes.
    prior : list of Dataset
        The prior's images.
    """

    given: ReportInput
    record: ComparisonRecord
    segments: tuple[ChangeSegment, ...]
    labels: LabelArray | None
    prior: list[Dataset]


def build_change_report(given: ChangeInput) -> Dataset:
    """Return the TID 1500 report as Comprehensive 3D SR. Its study is that of the current images."""
    context, sources = given.given.context, given.given.sources
    segmentation = [] if given.given.segmentation is None else [given.given.segmentation]
    ds: Dataset = sr.Comprehensive3DSR(
        # highdicom takes patient and study from the first one: the current study, never the prior's
        evidence=[*without_name(sources), *segmentation, *given.prior],
        content=report_root(
            given.given, _groups(given), _totals(given.record), _outcomes(given.record, context)
        ),
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
    finish(ds, source=sources[0], context=context, models=given.record.models, role=ROLE)
    state_coding_scheme(ds)
    add_predecessors(ds, context)
    name_temporal_predecessors(ds, str(sources[0].StudyInstanceUID))
    return ds


def _totals(record: ComparisonRecord) -> list[Dataset]:
    return [item[0] for item in total_measurements(record)]


def _outcomes(record: ComparisonRecord, context: ResultContext) -> list[Dataset]:
    status = ("findings" if record.changes else "none") if record.is_compared else "unsuitable"
    said = [evaluation(codes.SUMMARY, codes.SUMMARY_BY_STATUS[status])]
    if status in codes.ANALYSIS_BY_STATUS:
        said.append(evaluation(codes.SUMMARY_OF_ANALYSES, codes.ANALYSIS_BY_STATUS[status]))
    said += comparison_evaluations(record)
    others = change_wording.other_priors_sentence(context.other_priors)
    comments = [*comparison_comments(record), *filter(None, [others]), DISCLAIMER, *model_text(record)]
    return [
        *(item[0] for item in said),
        *(sr.TextContentItem(codes.COMMENT, text, CONTAINS) for text in comments),
    ]


def _groups(given: ChangeInput) -> list[Group]:
    frames = {} if given.given.segmentation is None else frames_by_place(given.given.segmentation)
    changes = [_change_group(given, change, frames) for change in given.record.changes[:MOST_LISTED]]
    unchanged = [_unchanged_group(given, lesion) for lesion in given.record.unchanged[:MOST_LISTED]]
    groups = [*filter(None, changes), *filter(None, unchanged), *_segment_groups(given)]
    return [_time_point_last(group) for group in groups]


def _time_point_last(group: Group) -> Group:
    """Put the items of a group's time point behind all others: viewers write its first numbers beside the mark, and no more."""
    items = list(group[0].ContentSequence)
    group[0].ContentSequence = sr.ContentSequence(sorted(items, key=_is_of_time_point))
    return group


def _is_of_time_point(item: Dataset) -> bool:
    name = item.ConceptNameCodeSequence[0]
    return (name.CodeValue, name.CodingSchemeDesignator) in TIME_POINT_ITEMS


def _change_group(
    given: ChangeInput, change: LesionChange, frames: dict[tuple[int, tuple[float, ...]], int]
) -> Group | None:
    """Return TID 1501 of one change; None where it has no place in the current image."""
    mark = _mark(given, change)
    if mark is None:
        return None
    evaluations = [evaluation(codes.CHANGE, codes.change_code(change.change))]
    if change.possible:
        evaluations.append(evaluation(codes.CERTAINTY_OF_CHANGE, codes.POSSIBLE))
    group = _group(
        given, given.record.lesions[change.number], mark, change, _measurements(change), evaluations
    )
    group[0].ContentSequence.extend(_segment_references(given, change, frames))
    return with_comments(
        with_centre(group, given.given, change.centre_lps), [change_wording.change_line(given.record, change)]
    )


def _unchanged_group(given: ChangeInput, lesion: UnchangedLesion) -> Group | None:
    """Return TID 1501 of one unchanged lesion; None where it has no place in the current image."""
    volume = given.given.series.volume
    mark = None if volume is None else point_mark(lesion.point_lps, volume)
    if mark is None:
        return None
    tracked = given.record.unchanged_lesions[lesion.lesion]
    evaluations = [evaluation(codes.CHANGE, codes.change_code("unchanged"))]
    group = _group(given, tracked, mark, lesion, _volumes(lesion), evaluations)
    return with_comments(
        with_centre(group, given.given, lesion.centre_lps), [change_wording.unchanged_line(tracked, lesion)]
    )


def _group(
    given: ChangeInput,
    tracked: TrackedLesion,
    mark: Mark,
    lesion: LesionChange | UnchangedLesion,
    measurements: list[sr.Measurement],
    evaluations: list[sr.QualitativeEvaluation],
) -> Group:
    """Return TID 1501 of one lesion under its identity, with a point in the current image."""
    base = given.given
    place = slice_of(base.series, base.sources, mark.k)
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=tracked.uid, identifier=tracked.identifier),
        time_point_context=time_point(given.record),
        finding_type=codes.LESION_OF_BRAIN,
        finding_category=codes.ABNORMAL_STRUCTURE,
        algorithm_id=algorithm(given.record.models),
        finding_sites=finding_sites(lesion.region or "brain", lesion.laterality),
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=place.source.SOPClassUID,
                referenced_sop_instance_uid=place.source.SOPInstanceUID,
                referenced_frame_numbers=None if place.frame is None else [place.frame],
            )
        ],
    )
    return with_mark(group, base, mark, codes.IMAGE_REGION)


def _measurements(change: LesionChange) -> list[sr.Measurement]:
    """Return the volume of the whole lesion now and then, with the relative change of one that was not tiny."""
    numbers = _volumes(change)
    fraction = change_wording.lesion_fraction(change)
    if fraction is not None:
        numbers.append(number_item(codes.FRACTIONAL_CHANGE, fraction, "1"))
    if change.change == "new" and change.long_axis_mm is not None:
        numbers.append(number_item(codes.LONG_AXIS, round(change.long_axis_mm, 1), "mm"))
    return numbers


def _volumes(lesion: LesionChange | UnchangedLesion) -> list[sr.Measurement]:
    """Return the volume of a whole lesion now and then."""
    now, then = rounded_mm3(lesion.volume_mm3), rounded_mm3(lesion.prior_volume_mm3)
    return [number_item(codes.VOLUME, now, "mm3"), number_item(codes.PRIOR_VOLUME, then, "mm3")]


def _mark(given: ChangeInput, change: LesionChange) -> Mark | None:
    """Return a voxel within a change on its largest slice, or that at its centre."""
    if given.labels is not None:
        first, last = change.slices_k
        mark = mask_mark(given.labels[first : last + 1] == change.number)
        if mark is not None:
            return mark._replace(k=mark.k + first)
    volume = given.given.series.volume
    return None if volume is None else point_mark(change.centre_lps, volume)


def _segment_references(
    given: ChangeInput, change: LesionChange, frames: dict[tuple[int, tuple[float, ...]], int]
) -> list[sr.ImageContentItem]:
    """Return the references to a change's segment in the SEG and to the frames that show it; none without a SEG."""
    base = given.given
    number = next((n for n, one in enumerate(given.segments, start=1) if change in one.changes), None)
    if base.segmentation is None or number is None:
        return []
    first, last = change.slices_k
    places = [rounded(slice_of(base.series, base.sources, k).position) for k in range(first, last + 1)]
    shown = sorted(frames[number, place] for place in places if (number, place) in frames)
    if not shown:
        return []
    seg = (base.segmentation.SOPClassUID, base.segmentation.SOPInstanceUID)
    # one reference names either frames or segments (PS3.3 Table 10-3)
    return [
        sr.ImageContentItem(
            codes.SEGMENT, *seg, referenced_segment_numbers=number, relationship_type=CONTAINS
        ),
        sr.ImageContentItem(
            codes.SEGMENTATION_FRAMES, *seg, referenced_frame_numbers=shown, relationship_type=CONTAINS
        ),
    ]


def _segment_groups(given: ChangeInput) -> Sequence[Group]:
    """Return TID 1411 for each segment of the SEG: how many changes it holds, and the volume of its voxels."""
    base, groups = given.given, []
    marks = [mark for change in given.record.changes[:MOST_LISTED] if (mark := _mark(given, change))]
    if base.segmentation is None or base.series.volume is None:
        return []
    for number, segment in enumerate(given.segments, start=1):
        volume_mm3 = rounded_mm3(int(segment.mask.sum()) * base.series.volume.voxel_volume_mm3)
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(segment.tracking_uid(base.context), segment.name),
            time_point_context=time_point(given.record),
            referenced_segment=sr.ReferencedSegment.from_segmentation(
                base.segmentation, segment_number=number
            ),
            finding_type=codes.LESION_OF_BRAIN,
            finding_category=codes.ABNORMAL_STRUCTURE,
            algorithm_id=algorithm(given.record.models),
            finding_sites=[finding_site("brain", None)],
            measurements=[
                number_item(codes.VOLUME, volume_mm3, "mm3", derivation=codes.TOTAL),
                number_item(codes.LESION_COUNT, len(segment.changes), "{lesions}"),
            ],
        )
        mark = free_mark(segment.mask, marks)
        marks += [] if mark is None else [mark]
        groups.append(group if mark is None else with_mark(group, base, mark))
    return groups
