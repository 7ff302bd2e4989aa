"""Measurement groups (PS3.16 TID 1501) of the sides that a classifier judged, one for each."""

from __future__ import annotations

from highdicom import sr

from dicom_node.results import wording
from dicom_node.results.manifest import site_name
from dicom_node.results.provenance import segmenting_model
from dicom_node.results.quantities import number_item
from dicom_node.results.report_items import (
    Group,
    ReportInput,
    algorithm,
    evaluation,
    finding_site,
    tracking,
    with_comments,
)
from dicom_node.standard import codes
from pipelines.types import SiteFinding, SiteStatus, Status

_STATUS: dict[SiteStatus, Status] = {
    "positive": "findings",
    "negative": "none",
    "not analysed": "unsuitable",
}
"""What each side's outcome is called for a whole analysis."""


def judged_groups(given: ReportInput) -> list[Group]:
    """Return a group for each side: its outcome, the numbers behind it, and the report's sentence on it."""
    return [_group(given, site) for site in given.findings.sites]


def _group(given: ReportInput, site: SiteFinding) -> Group:
    status = _STATUS[site.status]
    evaluations = [evaluation(codes.SUMMARY, codes.SUMMARY_BY_STATUS[status])]
    if status in codes.ANALYSIS_BY_STATUS:
        evaluations.append(evaluation(codes.SUMMARY_OF_ANALYSES, codes.ANALYSIS_BY_STATUS[status]))
    if site.located:
        evaluations.append(evaluation(codes.LOCATED, codes.LOCATED_BY[site.located]))
    finding = {"findings": codes.PRESENT, "none": codes.ABSENT}.get(status)
    name = f"{site_name(site).capitalize()} assessment"
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(given, name, "judged", site.site, site.laterality),
        finding_type=finding,
        algorithm_id=algorithm(segmenting_model(given.findings)),
        finding_sites=[finding_site(site.site, site.laterality)],
        measurements=_measurements(site),
        qualitative_evaluations=evaluations,
    )
    remarks = [] if site.probability is None else wording.rating_remarks(segmenting_model(given.findings))
    return with_comments(group, [wording.site_sentence(site), *remarks])


def _measurements(site: SiteFinding) -> list[sr.Measurement]:
    measurements = []
    for code, value in (
        (codes.PROBABILITY, site.probability),
        (codes.THRESHOLD, site.threshold),
        (codes.COVERAGE, site.coverage),
        (codes.SALIENCY_SHARE, site.saliency_share),
    ):
        if value is not None:
            interval = site.interval if code is codes.PROBABILITY else None
            measurements.append(number_item(code, value, "1", interval=interval))
    return measurements
