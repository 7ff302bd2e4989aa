"""The content tree of the structured report (PS3.16 TID 1500), for Comprehensive 3D and, without points, Enhanced SR."""

from __future__ import annotations

from typing import Any

import numpy as np
from highdicom import sr
from pydicom.sr.coding import Code

from dicom_node.results import wording
from dicom_node.results.manifest import lesion_count, total_volume_interval, total_volume_mm3
from dicom_node.results.provenance import (
    DISCLAIMER,
    MANUFACTURER,
    MODEL_NAME,
    model_named,
    segmenting_model,
    training_remark,
)
from dicom_node.results.quantities import measurement_item, number_item
from dicom_node.results.report_items import (
    Group,
    ReportInput,
    algorithm,
    evaluation,
    finding_site,
    tracking,
    with_comments,
)
from dicom_node.results.report_sites import judged_groups
from dicom_node.results.segmentation import category_of, segments_shown, tracking_id, tracking_uid
from dicom_node.results.source import slice_of
from dicom_node.standard import codes
from pipelines.types import Lesion, Measurement


def measurement_report(given: ReportInput) -> sr.MeasurementReport:
    """Return the whole tree of TID 1500.

    Raises
    ------
    UnknownCodeError
        The findings use a code key that the node does not know.
    """
    groups = [
        overall_group(given),
        *judged_groups(given),
        *_segment_groups(given),
        *_site_groups(given),
        *(_lesion_group(given, lesion) for lesion in wording.listed_lesions(given.findings)),
        *_hypothesis_groups(given),
    ]
    observer = sr.ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=given.context.node_uid,
            name=given.context.node_id,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL_NAME,
        ),
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=procedure_reported(given),
        imaging_measurements=groups,
        title=Code("126000", "DCM", "Imaging Measurement Report"),
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            Code("en", "RFC5646", "English")
        ),
    )


def procedure_reported(given: ReportInput) -> Code:
    """Return the imaging procedure: as the source codes it, else MR of the brain, or MR."""
    for keyword in ("ProcedureCodeSequence", "PerformedProtocolCodeSequence"):
        for item in given.sources[0].get(keyword) or ():
            if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning"):
                return Code(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)
    return codes.MR_OF_BRAIN if given.context.pipeline == "flair" else codes.MR_IMAGING


def overall_group(given: ReportInput) -> Group:
    """Return the group that says how the analysis went, whether anything was found, how many and how much."""
    findings, analysed = given.findings, given.findings.status in ("findings", "none")
    in_part = analysed and any(site.status == "not analysed" for site in findings.sites)
    summary = codes.SUMMARY_OF_PART if in_part else codes.SUMMARY_BY_STATUS
    evaluations = [evaluation(codes.SUMMARY, summary[findings.status])]
    measurements: list[Any] = []
    finding = None
    if analysed:
        # nothing is said to be absent where a part was not looked at
        absent = None if in_part else codes.ABSENT
        finding = codes.PRESENT if findings.status == "findings" else absent
        count, volume_mm3 = lesion_count(findings), total_volume_mm3(findings)
        if count is not None:
            measurements.append(number_item(codes.LESION_COUNT, count, "{lesions}"))
        if volume_mm3 is not None:
            measurements.append(
                number_item(
                    codes.VOLUME,
                    volume_mm3,
                    "mm3",
                    derivation=codes.TOTAL,
                    interval=total_volume_interval(findings),
                )
            )
        measurements += [
            measurement_item(item)
            for item in findings.measurements
            if not (item.region or item.laterality) and item.code not in ("lesion_count", "volume")
        ]
    else:
        evaluations.append(evaluation(codes.SUMMARY_OF_ANALYSES, codes.ANALYSIS_BY_STATUS[findings.status]))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(given, "Analysis", "overall"),
        finding_type=finding,
        algorithm_id=algorithm(segmenting_model(findings)),
        finding_sites=[sr.FindingSite(codes.BRAIN)] if given.context.pipeline == "flair" else None,
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )
    comments = [*wording.outcome_sentences(findings), *wording.remark_sentences(findings, given.context)]
    comments += [wording.not_listed_sentence(findings), *map(wording.model_line, findings.models), DISCLAIMER]
    return with_comments(group, comments)


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
        if own:
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
            algorithm_id=algorithm(segmenting_model(given.findings)),
            finding_sites=[
                finding_site("optic_nerve" if segment.laterality else "brain", segment.laterality)
            ],
            measurements=measurements,
        )
        groups.append(with_comments(group, [wording.segment_remark(segment)]))
    return groups


def _site_groups(given: ReportInput) -> list[Group]:
    """Return one group for each eye or region that has measurements of its own."""
    by_site: dict[tuple[str, str | None], list[Measurement]] = {}
    for item in given.findings.measurements:
        if item.region or item.laterality:
            by_site.setdefault((item.region or "optic_nerve", item.laterality), []).append(item)
    return [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking(given, " ".join(filter(None, (side, region))), "site", region, side),
            algorithm_id=algorithm(segmenting_model(given.findings)),
            finding_sites=[finding_site(region, side)],
            measurements=[measurement_item(item) for item in items],
        )
        for (region, side), items in by_site.items()
    ]


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
    side = segment.laterality if segment else None
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(given, f"Lesion {lesion.id}", "lesion", lesion.id),
        finding_type=codes.finding_code(segment.code) if segment else codes.LESION,
        finding_category=codes.ABNORMAL_STRUCTURE,
        algorithm_id=algorithm(segmenting_model(given.findings)),
        finding_sites=[finding_site(lesion.region or ("optic_nerve" if side else "brain"), side)],
        measurements=measurements,
        qualitative_evaluations=[evaluation(codes.CHANGE, codes.change_code(lesion.change))]
        if lesion.change
        else None,
        source_images=[_centre_image(given, lesion)],
    )
    if given.points:
        point = sr.Scoord3DContentItem(
            name=codes.CENTRE,
            graphic_type=sr.GraphicTypeValues3D.POINT,
            graphic_data=np.array([lesion.centre_lps], dtype=np.float64),
            frame_of_reference_uid=given.sources[0].FrameOfReferenceUID,
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
        group[0].ContentSequence.append(point)
    return group


def _centre_image(given: ReportInput, lesion: Lesion) -> sr.SourceImageForMeasurementGroup:
    middle = slice_of(given.series, given.sources, sum(lesion.slices_k) // 2)
    return sr.SourceImageForMeasurementGroup(
        referenced_sop_class_uid=middle.source.SOPClassUID,
        referenced_sop_instance_uid=middle.source.SOPInstanceUID,
        referenced_frame_numbers=None if middle.frame is None else [middle.frame],
    )


def _hypothesis_groups(given: ReportInput) -> list[Group]:
    """Return one group for each disease, when the settings and the weights' origin allow it coded."""
    groups = []
    for item in wording.coded_hypotheses(given.findings, given.context):
        model = model_named(given.findings, item.model)
        disease = codes.disease_code(item.code, given.context.snomed_scheme)
        group = sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking(given, item.name, "hypothesis", item.code, item.model),
            algorithm_id=algorithm(model),
            measurements=[number_item(codes.PROBABILITY, wording.rounded_probability(item.probability), "1")],
            qualitative_evaluations=[evaluation(codes.DIFFERENTIAL, disease)],
        )
        remarks = [
            wording.calibration_text(item.calibrated, model),
            training_remark(model),
            DISCLAIMER,
        ]
        groups.append(with_comments(group, remarks))
    return groups
