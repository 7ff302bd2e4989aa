"""The page's figures in codes (PS3.16 TID 1500): of the whole brain, of each region and of each nerve.

Everything that was returned of the series is evidence of it, so that it is the root of the study's results; the figures of
single lesions stand there. It is titled as a diagnostic report, for viewers look for points in images in what is titled as a
measurement report (CID 7021 is extensible), and show any other as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.results.change_items import (
    comparison_comments,
    comparison_evaluations,
    time_point,
    total_measurements,
)
from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import lesion_count, site_name, total_volume_interval, total_volume_mm3
from dicom_node.results.provenance import (
    DISCLAIMER,
    MANUFACTURER,
    MODEL_NAME,
    mask_models,
    state_coding_scheme,
)
from dicom_node.results.quantities import number_item, percentile_properties
from dicom_node.results.report_items import Group, algorithm, evaluation, finding_site, with_comments
from dicom_node.results.source import without_name
from dicom_node.results.wording import rounded_mm3, rounded_probability
from dicom_node.standard import codes
from dicom_node.study import sentences
from dicom_node.study.change import told_change
from dicom_node.study.content import Part, StudyContent
from pipelines.types import Findings, RegionLoad, SiteFinding


def coded_summary(
    content: StudyContent, evidence: Sequence[Dataset], uids: tuple[str, str], *, enhanced: bool = False
) -> Dataset:
    """Return the TID 1500 report, not finished yet; ``enhanced``: as Enhanced SR.

    Parameters
    ----------
    evidence : sequence of Dataset
        One image of each series, first that of the study itself, then the objects that the report refers to.
    uids : tuple of str
        Of the series and of the instance.
    """
    kind = sr.EnhancedSR if enhanced else sr.Comprehensive3DSR
    ds: Dataset = kind(
        evidence=without_name(list(evidence)),
        content=_report(content)[0],
        series_instance_uid=uids[0],
        series_number=1,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        record_evidence=True,
    )
    state_coding_scheme(ds)
    return ds


def _report(content: StudyContent) -> sr.MeasurementReport:
    context = content.context
    groups = [_overall(content)]
    record = told_change(content)
    if record is not None:
        groups.append(_change(context, record))
    if content.flair is not None:
        anatomy = content.flair.findings.anatomy
        shown = (
            []
            if anatomy is None
            else [load for load in anatomy.loads if load.region not in anatomy.not_covered]
        )
        groups += [_region(context, content.flair, load) for load in shown]
    if content.fatsat is not None:
        groups += [_nerve(context, content.fatsat, site) for site in content.fatsat.findings.sites]
    observer = sr.ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=context.node_uid, name=context.node_id, manufacturer_name=MANUFACTURER, model_name=MODEL_NAME
        ),
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.MR_OF_BRAIN if content.flair else codes.MR_IMAGING,
        imaging_measurements=groups,
        title=codes.REPORT,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            Code("en", "RFC5646", "English")
        ),
    )


def _overall(content: StudyContent) -> Group:
    """Return the group on the whole study: how the analyses went, how many lesions and how much."""
    context, flair = content.context, content.flair
    measurements: list[Any] = []
    if flair is not None and flair.was_analysed:
        measurements = _total(flair.findings)
    analysed = [part for part in content.shown if part.was_analysed]
    has_findings = any(part.findings.status == "findings" for part in analysed)
    status = "findings" if has_findings else "none"
    table = codes.SUMMARY_BY_STATUS if len(analysed) == len(content.shown) else codes.SUMMARY_OF_PART
    summary = table[status] if analysed else codes.SUMMARY_BY_STATUS["failed"]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context, "Study summary", "overall"),
        algorithm_id=algorithm(mask_models(flair.findings)) if flair is not None else None,
        finding_sites=[sr.FindingSite(codes.BRAIN)] if flair is not None else None,
        measurements=measurements,
        qualitative_evaluations=[evaluation(codes.SUMMARY, summary)],
    )
    comments = [*sentences.headline(content), *sentences.limits_lines(content)]
    return with_comments(group, [*comments, *sentences.quality_lines(content), DISCLAIMER])


def _total(findings: Findings) -> list[sr.Measurement]:
    if findings.not_typical:
        return [number_item(codes.VOLUME, total_volume_mm3(findings) or 0.0, "mm3", derivation=codes.TOTAL)]
    return [
        number_item(codes.LESION_COUNT, lesion_count(findings) or 0, "{lesions}"),
        number_item(
            codes.VOLUME,
            total_volume_mm3(findings) or 0.0,
            "mm3",
            derivation=codes.TOTAL,
            interval=total_volume_interval(findings),
            properties=percentile_properties(findings),
        ),
    ]


def _change(context: ResultContext, record: ComparisonRecord) -> Group:
    """Return the group on what has changed: how many lesions in which way, the total volume, and how far that goes."""
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context, "Change since the prior study", "change"),
        time_point_context=time_point(record),
        algorithm_id=algorithm(record.models),
        finding_sites=[sr.FindingSite(codes.BRAIN)],
        measurements=total_measurements(record),
        qualitative_evaluations=comparison_evaluations(record),
    )
    return with_comments(group, comparison_comments(record))


def _region(context: ResultContext, part: Part, load: RegionLoad) -> Group:
    """Return the group on one region: number of lesions, their volume, and the longest axis among them."""
    measurements = [number_item(codes.LESION_COUNT, load.lesions, "{lesions}")]
    if load.lesions:
        measurements += [
            number_item(codes.VOLUME, rounded_mm3(load.volume_mm3), "mm3", derivation=codes.TOTAL),
            number_item(
                codes.LONG_AXIS,
                round(load.long_axis_mm, 1),
                "mm",
                derivation=codes.derivation_code("maximum"),
            ),
        ]
    name = codes.site_code(load.region).meaning
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context, name, "region", load.region),
        finding_type=codes.LESION_OF_BRAIN,
        algorithm_id=algorithm(mask_models(part.findings)),
        finding_sites=[finding_site(load.region, None)],
        measurements=measurements,
    )
    return with_comments(group, [f"{load.borderline} of them borderline"] if load.borderline else [])


def _nerve(context: ResultContext, part: Part, site: SiteFinding) -> Group:
    """Return the group on one optic nerve: its rating, or that there is none."""
    status = {"positive": "findings", "negative": "none", "not analysed": "unsuitable"}[site.status]
    evaluations = [evaluation(codes.SUMMARY, codes.SUMMARY_BY_STATUS[status])]
    if status in codes.ANALYSIS_BY_STATUS:
        evaluations.append(evaluation(codes.SUMMARY_OF_ANALYSES, codes.ANALYSIS_BY_STATUS[status]))
    measurements = []
    if site.probability is not None:
        rounded = rounded_probability(site.probability)
        measurements.append(number_item(codes.PROBABILITY, rounded, "1", interval=site.interval))
    if site.coverage is not None:
        measurements.append(number_item(codes.COVERAGE, site.coverage, "1"))
    name = site_name(site).capitalize()
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context, name, "nerve", site.laterality),
        algorithm_id=algorithm(mask_models(part.findings)),
        finding_sites=[finding_site(site.site, site.laterality)],
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )
    return with_comments(group, [f"{name}: {site.reason}"] if site.reason else [])


def _tracking(context: ResultContext, name: str, *index: object) -> sr.TrackingIdentifier:
    return sr.TrackingIdentifier(uid=context.derive_uid("tracking", *index), identifier=name)
