"""The content tree of the structured report (PS3.16 TID 1500), with a 3D point for each lesion."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.results import wording
from dicom_node.results.finding_marks import Mark
from dicom_node.results.plausibility import noun_of
from dicom_node.results.provenance import MANUFACTURER, MODEL_NAME, mask_models
from dicom_node.results.quantities import number_item
from dicom_node.results.report_items import (
    Group,
    ReportInput,
    algorithm,
    evaluation,
    finding_sites,
    tracking,
    with_centre,
    with_comments,
    with_mark,
)
from dicom_node.results.report_overall import outcome_items, total_items
from dicom_node.results.report_sites import judged_groups
from dicom_node.results.segmentation import category_of, rounded, segments_shown, tracking_id, tracking_uid
from dicom_node.results.source import slice_of
from dicom_node.standard import codes
from pipelines.types import Lesion, Segment


def measurement_report(given: ReportInput) -> sr.ContainerContentItem:
    """Return the root of TID 1500 with the whole tree below it.

    Every group of the imaging measurements has a point in an image (`with_mark`), for viewers open each group on its image, the
    first one first; so lesions stand before the segments that they are in;
    what has no place stands in the derived measurements and the qualitative evaluations. A report without any group is titled
    as a diagnostic report (CID 7021 is extensible), by which viewers show it as text.

    Raises
    ------
    UnknownCodeError
        The findings use a code key that the node does not know.
    """
    groups = [
        *judged_groups(given),
        *(_lesion_group(given, lesion) for lesion in wording.listed_lesions(given.findings)),
        *_segment_groups(given),
    ]
    return report_root(given, groups, total_items(given), outcome_items(given))


def report_root(
    given: ReportInput, groups: Sequence[Group], totals: Sequence[Dataset], outcomes: Sequence[Dataset]
) -> sr.ContainerContentItem:
    """Return the root of TID 1500 over measurement groups, derived measurements and qualitative evaluations."""
    # Viewers open a measurement report on its first group, and show nothing where there is none; other reports as text.
    title = codes.MEASUREMENT_REPORT if groups else codes.REPORT
    root = sr.ContainerContentItem(title, template_id="1500")
    root.ContentSequence = sr.ContentSequence()
    english = sr.LanguageOfContentItemAndDescendants(Code("en", "RFC5646", "English"))
    root.ContentSequence.extend(english)
    root.ContentSequence.extend(sr.ObservationContext(observer_device_context=_observer(given)))
    root.ContentSequence.append(
        sr.CodeContentItem(
            Code("121058", "DCM", "Procedure Reported"),
            procedure_reported(given),
            sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
    )
    for name, items in (
        (codes.IMAGING_MEASUREMENTS, [group[0] for group in groups]),
        (codes.DERIVED_MEASUREMENTS, totals),
        (codes.QUALITATIVE_EVALUATIONS, outcomes),
    ):
        if items:
            container = sr.ContainerContentItem(name, relationship_type=sr.RelationshipTypeValues.CONTAINS)
            container.ContentSequence = sr.ContentSequence(items)
            root.ContentSequence.append(container)
    return root


def _observer(given: ReportInput) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=given.context.node_uid,
            name=given.context.node_id,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
        ),
    )


def procedure_reported(given: ReportInput) -> Code:
    """Return the imaging procedure: as the source codes it, else MR of the brain, or MR."""
    for keyword in ("ProcedureCodeSequence", "PerformedProtocolCodeSequence"):
        for item in given.sources[0].get(keyword) or ():
            if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning"):
                return Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
    return codes.MR_OF_BRAIN if given.context.pipeline in ("flair", "change") else codes.MR_IMAGING


def _segment_groups(given: ReportInput) -> list[Group]:
    """Return TID 1411 for each segment of the SEG: volume recomputed from the voxels that the SEG holds."""
    if given.segmentation is None or given.series.volume is None:
        return []
    voxel_mm3 = given.series.volume.voxel_volume_mm3
    groups = []
    for number, segment in enumerate(segments_shown(given.findings), start=1):
        own = [lesion for lesion in given.findings.lesions if lesion.segment == segment.name]
        # one side's structure is no total of anything
        derivation = None if segment.laterality else codes.TOTAL
        volume_mm3 = int(segment.mask.sum()) * voxel_mm3
        measurements = [number_item(codes.VOLUME, volume_mm3, "mm3", derivation=derivation)]
        if own and not given.findings.not_typical:
            measurements.append(number_item(codes.LESION_COUNT, len(own), "{lesions}"))
        group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                tracking_uid(segment, given.context), tracking_id(segment)
            ),
            referenced_segment=sr.ReferencedSegment.from_segmentation(
                given.segmentation, segment_number=number
            ),
            finding_type=codes.finding_code(segment.code),
            finding_category=category_of(segment),
            algorithm_id=algorithm(mask_models(given.findings)),
            finding_sites=sites_of_segment(segment),
            measurements=measurements,
        )
        mark = given.marks.segments.get((segment.name, segment.laterality))
        if mark is not None:
            with_mark(group, given, mark)
        groups.append(with_comments(group, [wording.segment_remark(segment)]))
    return groups


def sites_of_segment(segment: Segment) -> list[sr.FindingSite]:
    """Return where all of a segment lies: an optic nerve, a region of the brain, or the brain."""
    key = segment.region or ("optic_nerve" if segment.laterality else "brain")
    return finding_sites(key, segment.laterality)


def _lesion_group(given: ReportInput, lesion: Lesion) -> Group:
    segment = next((item for item in given.findings.segments if item.name == lesion.segment), None)
    measurements = [
        number_item(codes.VOLUME, wording.rounded_mm3(lesion.volume_mm3), "mm3"),
        number_item(
            codes.PROBABILITY,
            wording.rounded_probability(lesion.probability),
            "1",
            interval=lesion.probability_interval,
        ),
    ]
    if lesion.long_axis_mm is not None:
        measurements.append(number_item(codes.LONG_AXIS, lesion.long_axis_mm, "mm"))
    side = lesion.laterality or (segment.laterality if segment else None)
    in_nerve = segment is not None and segment.laterality is not None
    mark = given.marks.lesions[lesion.id]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(given, f"{noun_of(given.findings)} {lesion.id}", "lesion", lesion.id),
        finding_type=codes.finding_code(segment.code) if segment else codes.LESION,
        finding_category=codes.ABNORMAL_STRUCTURE,
        algorithm_id=algorithm(mask_models(given.findings)),
        finding_sites=finding_sites(lesion.region or ("optic_nerve" if in_nerve else "brain"), side),
        measurements=measurements,
        qualitative_evaluations=_evaluations(lesion) or None,
        source_images=[_source_image(given, mark)],
    )
    with_mark(group, given, mark, codes.IMAGE_REGION)
    group[0].ContentSequence.extend(_frames_of(given, lesion))
    return with_centre(group, given, lesion.centre_lps)


def _evaluations(lesion: Lesion) -> list[sr.QualitativeEvaluation]:
    """Return what is coded of a lesion beside its numbers: its change, and how sure its region is."""
    said = [evaluation(codes.CHANGE, codes.change_code(lesion.change))] if lesion.change else []
    if lesion.borderline:
        said.append(evaluation(codes.REGION_CERTAINTY, codes.BORDERLINE))
    return said + [evaluation(codes.ALSO_REACHES, codes.site_code(region)) for region in lesion.also_reaches]


def _source_image(given: ReportInput, mark: Mark) -> sr.SourceImageForMeasurementGroup:
    place = slice_of(given.series, given.sources, mark.k)
    return sr.SourceImageForMeasurementGroup(
        referenced_sop_class_uid=place.source.SOPClassUID,
        referenced_sop_instance_uid=place.source.SOPInstanceUID,
        referenced_frame_numbers=None if place.frame is None else [place.frame],
    )


def _frames_of(given: ReportInput, lesion: Lesion) -> list[sr.ImageContentItem]:
    """Return the reference to the lesion's segment in the SEG, by its frames; none without a SEG."""
    shown = [item.name for item in segments_shown(given.findings)]
    if given.segmentation is None or lesion.segment not in shown:
        return []
    number = shown.index(lesion.segment) + 1
    first, last = lesion.slices_k
    places = [slice_of(given.series, given.sources, k).position for k in range(first, last + 1)]
    frames = sorted(
        given.frames[key] for key in ((number, rounded(place)) for place in places) if key in given.frames
    )
    if not frames:
        return []
    seg = (given.segmentation.SOPClassUID, given.segmentation.SOPInstanceUID)
    contains = sr.RelationshipTypeValues.CONTAINS
    # one reference names either frames or segments (PS3.3 Table 10-3)
    return [
        sr.ImageContentItem(
            codes.SEGMENT, *seg, referenced_segment_numbers=number, relationship_type=contains
        ),
        sr.ImageContentItem(
            codes.SEGMENTATION_FRAMES, *seg, referenced_frame_numbers=frames, relationship_type=contains
        ),
    ]
