"""Items of the structured report on the whole analysis: outcome and remarks as statements, totals as measurements."""

from __future__ import annotations

from highdicom import sr
from pydicom.dataset import Dataset

from dicom_node.results import wording
from dicom_node.results.differential import differential_line
from dicom_node.results.manifest import lesion_count, total_volume_interval, total_volume_mm3
from dicom_node.results.provenance import DISCLAIMER, model_named, models_behind
from dicom_node.results.quantities import measurement_item, number_item, percentile_properties
from dicom_node.results.report_items import ReportInput, evaluation, finding_site
from dicom_node.results.report_sites import side_measurements, unplaced_items, unplaced_sites
from dicom_node.results.source import age_years
from dicom_node.standard import codes
from pipelines.types import ModelCard, Task

CONTAINS = sr.RelationshipTypeValues.CONTAINS
HAS_PROPERTIES = sr.RelationshipTypeValues.HAS_PROPERTIES


def outcome_items(given: ReportInput) -> list[Dataset]:
    """Return how the analysis went, whether anything was found, and what is to be known of it (TID 1500, row 12)."""
    findings, analysed = given.findings, given.findings.status in ("findings", "none")
    in_part = analysed and any(site.status == "not analysed" for site in findings.sites)
    summary = codes.SUMMARY_OF_PART if in_part else codes.SUMMARY_BY_STATUS
    items: list[Dataset] = [evaluation(codes.SUMMARY, summary[findings.status])[0]]
    if not analysed:
        items.append(evaluation(codes.SUMMARY_OF_ANALYSES, codes.ANALYSIS_BY_STATUS[findings.status])[0])
    elif findings.status == "findings":
        items.append(evaluation(codes.FINDING, codes.PRESENT)[0])
    elif not in_part:  # nothing is said to be absent where a part was not looked at
        items.append(evaluation(codes.FINDING, codes.ABSENT)[0])
    for site in unplaced_sites(given):
        items += unplaced_items(site)
    items += _hypotheses(given)
    return [*items, *(sr.TextContentItem(codes.COMMENT, text, CONTAINS) for text in _comments(given))]


def total_items(given: ReportInput) -> list[Dataset]:
    """Return the numbers that belong to no single finding: counts and volumes in all, and those of a side or region."""
    findings = given.findings
    if findings.status not in ("findings", "none"):
        return []
    brain = [sr.FindingSite(codes.BRAIN)] if given.context.pipeline == "flair" else None
    count, volume_mm3 = lesion_count(findings), total_volume_mm3(findings)
    numbers: list[sr.Measurement] = []
    if count is not None and not findings.not_typical:
        numbers.append(number_item(codes.LESION_COUNT, count, "{lesions}", finding_sites=brain))
    if volume_mm3 is not None:
        # An interval tells how far off the mask is in demyelination.
        interval = None if findings.not_typical else total_volume_interval(findings)
        numbers.append(
            number_item(
                codes.VOLUME,
                volume_mm3,
                "mm3",
                derivation=codes.TOTAL,
                interval=interval,
                finding_sites=brain,
                properties=percentile_properties(findings),
            )
        )
    for item in findings.measurements:
        if item.region or item.laterality:
            where = finding_site(item.region or "optic_nerve", item.laterality)
            numbers.append(measurement_item(item, [where]))
        elif item.code not in ("lesion_count", "volume"):
            numbers.append(measurement_item(item, brain))
    for site in unplaced_sites(given):
        numbers += side_measurements(site, [finding_site(site.site, site.laterality)])
    return [number[0] for number in numbers]


def _comments(given: ReportInput) -> list[str]:
    findings, context = given.findings, given.context
    placed = {wording.site_sentence(site) for site in findings.sites if site.laterality in given.marks.sides}
    said = wording.finding_sentences(findings, age_years(given.sources[0]))
    comments = [
        wording.headline(findings),
        DISCLAIMER,
        *(text for text in said if text not in placed),
        differential_line(findings, context) if wording.coded_hypotheses(findings, context) else "",
        wording.counting_sentence(findings),
        *wording.remark_sentences(findings, context),
        wording.intervals_sentence(findings),
        wording.not_listed_sentence(findings),
        wording.replaced_sentence(context),
        *wording.model_lines(models_of_report(given), findings),
    ]
    return list(dict.fromkeys(filter(None, comments)))


def models_of_report(given: ReportInput) -> tuple[ModelCard, ...]:
    """Return the models whose results the structured report holds."""
    findings = given.findings
    tasks: list[Task] = ["mask"]
    if any(lesion.region for lesion in findings.lesions) or findings.anatomy is not None:
        tasks.append("regions")
    if any(lesion.probability_interval for lesion in findings.lesions):
        tasks.append("intervals")
    if wording.coded_hypotheses(findings, given.context):
        tasks.append("differential")
    return models_behind(findings, *tasks)


def _hypotheses(given: ReportInput) -> list[Dataset]:
    """Return each disease with its probability below it, where the settings and the weights' origin allow it coded."""
    items: list[Dataset] = []
    for hypothesis in wording.coded_hypotheses(given.findings, given.context):
        model = model_named(given.findings, hypothesis.model)
        disease = codes.disease_code(hypothesis.code, given.context.snomed_scheme)
        item = evaluation(codes.DIFFERENTIAL, disease)[0]
        probability = sr.NumContentItem(
            codes.PROBABILITY,
            wording.rounded_probability(hypothesis.probability),
            codes.unit_code("1"),
            relationship_type=HAS_PROPERTIES,
        )
        said = f"{hypothesis.model}, {wording.calibration_text(hypothesis.calibrated, model)}"
        comment = sr.TextContentItem(codes.COMMENT, said, HAS_PROPERTIES)
        item.ContentSequence = sr.ContentSequence([probability, comment])
        items.append(item)
    return items
