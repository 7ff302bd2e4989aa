"""Measurement groups (PS3.16 TID 1501) of the sides that a classifier judged, one for each."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr

from dicom_node.results import wording
from dicom_node.results.manifest import site_name
from dicom_node.results.provenance import mask_models, segmenting_model
from dicom_node.results.quantities import number_item
from dicom_node.results.report_items import (
    Group,
    ReportInput,
    algorithm,
    evaluation,
    finding_site,
    tracking,
    with_comments,
    with_mark,
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
    """Return a group for each side that has a place: its outcome, the numbers behind it, and the report's sentence on it."""
    marks = given.marks.sides
    return [
        with_mark(_group(given, site), given, marks[site.laterality])
        for site in given.findings.sites
        if site.laterality in marks
    ]


def unplaced_sites(given: ReportInput) -> list[SiteFinding]:
    """Return the sides that have no place in the images, such as those that were not analysed."""
    return [site for site in given.findings.sites if site.laterality not in given.marks.sides]


def unplaced_items(site: SiteFinding) -> list[sr.CodeContentItem]:
    """Return a side's outcome as coded statements, with the side below each."""
    items = []
    for item in _evaluations(site):
        item[0].ContentSequence = sr.ContentSequence([finding_site(site.site, site.laterality)])
        items.append(item[0])
    return items


def side_measurements(
    site: SiteFinding, finding_sites: Sequence[sr.FindingSite] | None = None
) -> list[sr.Measurement]:
    """Return the numbers of one side."""
    return [
        number_item(
            code,
            value,
            "1",
            interval=site.interval if code is codes.PROBABILITY else None,
            finding_sites=finding_sites,
        )
        for code, value in (
            (codes.PROBABILITY, site.probability),
            (codes.THRESHOLD, site.threshold),
            (codes.COVERAGE, site.coverage),
            (codes.SALIENCY_SHARE, site.saliency_share),
        )
        if value is not None
    ]


def _evaluations(site: SiteFinding) -> list[sr.QualitativeEvaluation]:
    status = _STATUS[site.status]
    evaluations = [evaluation(codes.SUMMARY, codes.SUMMARY_BY_STATUS[status])]
    if status in codes.ANALYSIS_BY_STATUS:
        evaluations.append(evaluation(codes.SUMMARY_OF_ANALYSES, codes.ANALYSIS_BY_STATUS[status]))
    if site.located:
        evaluations.append(evaluation(codes.LOCATED, codes.LOCATED_BY[site.located]))
    return evaluations


def _group(given: ReportInput, site: SiteFinding) -> Group:
    name = f"{site_name(site).capitalize()} assessment"
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking(given, name, "judged", site.site, site.laterality),
        finding_type={"findings": codes.PRESENT, "none": codes.ABSENT}.get(_STATUS[site.status]),
        algorithm_id=algorithm(mask_models(given.findings)),
        finding_sites=[finding_site(site.site, site.laterality)],
        measurements=side_measurements(site),
        qualitative_evaluations=_evaluations(site),
    )
    remarks = [] if site.probability is None else wording.rating_remarks(segmenting_model(given.findings))
    return with_comments(group, [wording.site_sentence(site), *remarks])
