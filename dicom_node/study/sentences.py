"""Sentences and tables of a study's page and its text report, in one place: neither says what the other does not."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from dicom_node.results.change_wording import change_sentence
from dicom_node.results.differential import differential_line
from dicom_node.results.dissemination import (
    NERVES_NOT_EXAMINED,
    REGION_NAMES,
    age_sentence,
    cord_sentence,
    has_regions,
    nerves_rated,
    rating_basis,
    sites_sentence,
    sites_with_nerves,
)
from dicom_node.results.manifest import lesion_count, total_volume_interval, total_volume_mm3
from dicom_node.results.plausibility import NOT_TYPICAL, outlined_sentence, signs_sentence
from dicom_node.results.provenance import MODEL_NAME, segmenting_model
from dicom_node.results.wording import probability_text, volume_text
from dicom_node.study import change
from dicom_node.study.change import told_change
from dicom_node.study.content import FATSAT, FLAIR, Part, StudyContent
from pipelines.types import Findings, RegionLoad, SiteFinding

PARTS_COUNTED: Final = "Confluent lesions are counted by their parts in the regions."
AWAITED: Final = "the answer is still awaited; a revision of this page follows it."
Row = tuple[str, ...]


def headline(content: StudyContent) -> list[str]:
    """Return the result in at most three lines: change since an earlier study, or lesions; sites; optic nerves."""
    return [
        *filter(None, [*result_lines(content), second_line(content)]),
        nerves_line(content),
    ]


def result_lines(content: StudyContent) -> list[str]:
    """Return the first line of the result: what has changed, else how many lesions there are and why nothing was compared.

    Where regions are not known there is room for both.
    """
    record = told_change(content)
    if record is None:
        return [lesions_line(content)]
    told = change_sentence(record)
    if not record.is_compared:
        return [f"{lesions_line(content)} {told}"]
    has_room = not second_line(content)
    return [told, lesions_line(content)] if has_room else [told]


def second_line(content: StudyContent) -> str:
    """Return in how many regions lesions lie, or how much was outlined of what is not like demyelination."""
    findings = content.flair_findings
    return "" if findings is None else outlined_sentence(findings) or sites_sentence(findings)


def lesions_line(content: StudyContent) -> str:
    """Return how many lesions there are and how much, or why it is not known."""
    flair = content.flair
    if flair is None:
        return (
            f"FLAIR: {AWAITED}" if FLAIR in content.awaited else "No FLAIR series of this study was analysed."
        )
    if not flair.was_analysed:
        return not_analysed_line(flair)
    return amount_line(flair.findings)


def amount_line(findings: Findings) -> str:
    """Return the number of lesions and their volume, or that they are not like demyelination."""
    if findings.not_typical:
        return NOT_TYPICAL
    count, volume_mm3 = lesion_count(findings), total_volume_mm3(findings)
    if not count:
        return "No lesion was found in the brain."
    noun = "lesion" if count == 1 else "lesions"
    return f"{count} {noun} in the brain, {volume_text(volume_mm3 or 0.0)} in all."


def nerves_line(content: StudyContent) -> str:
    """Return what was said of the optic nerves, in one line."""
    fatsat = content.fatsat
    if fatsat is None:
        return f"Optic nerves: {AWAITED}" if FATSAT in content.awaited else NERVES_NOT_EXAMINED
    if not fatsat.was_analysed:
        return f"Optic nerves: {not_analysed_line(fatsat)}"
    basis = rating_basis(segmenting_model(fatsat.findings))
    return f"Optic nerves: {nerves_rated(list(fatsat.findings.sites))}{basis and f', {basis}'}."


def not_analysed_line(part: Part) -> str:
    """Return why a series has no result."""
    how = "was not suitable" if part.findings.status == "unsuitable" else "could not be analysed"
    return f"{series_name(part.source)} {how}: {(part.findings.reason or 'no reason was given').rstrip('.')}."


def volume_line(findings: Findings) -> str:
    """Return the total volume with the interval that belongs to it; nothing where it has none, or is not of demyelination."""
    volume_mm3, interval = total_volume_mm3(findings), total_volume_interval(findings)
    if interval is None or findings.not_typical:
        return ""
    said = f"Total lesion volume {volume_text(volume_mm3 or 0.0)}"
    low = volume_text(interval.low).removesuffix(" mL")
    return f"{said}; interval {low} to {volume_text(interval.high)} {interval.basis}."


def region_rows(findings: Findings) -> list[Row]:
    """Return the table of regions: name, number of lesions, volume in mL, largest long axis in mm; then all of them."""
    rows: list[Row] = []
    anatomy = findings.anatomy
    loads = {load.region: load for load in anatomy.loads} if anatomy is not None else {}
    if anatomy is not None and has_regions(findings):
        for region, name in REGION_NAMES.items():
            shown = name[:1].upper() + name[1:]
            if region in anatomy.not_covered:
                rows.append((shown, "not covered", "", ""))
            else:
                rows.append((shown, *_load_cells(loads.get(region))))
    axes = [item.long_axis_mm or 0.0 for item in findings.lesions]
    axes += [load.long_axis_mm for load in loads.values()]
    count, volume_mm3 = lesion_count(findings) or 0, total_volume_mm3(findings) or 0.0
    longest_mm = max(axes, default=0.0)
    longest = f"{longest_mm:.0f} mm" if longest_mm else "-"
    if findings.not_typical:
        return [("Outlined", "", volume_text(volume_mm3), longest)]
    return [*rows, ("All lesions", str(count), volume_text(volume_mm3), longest)]


def region_remarks(findings: Findings) -> list[str]:
    """Return what must be known to read the table."""
    if findings.not_typical:
        return [signs_sentence(findings)]
    remarks = []
    anatomy = findings.anatomy
    if not has_regions(findings):
        reason = anatomy.not_available.rstrip(".") if anatomy is not None else ""
        remarks.append(f"Regions are not available{reason and f': {reason}'}.")
    elif anatomy is not None and sum(load.lesions for load in anatomy.loads) > (lesion_count(findings) or 0):
        remarks.append(PARTS_COUNTED)
    return remarks


def nerve_rows(sites: tuple[SiteFinding, ...]) -> list[Row]:
    """Return the table of optic nerves: side, rating, probability with its range, share of the nerve that was seen."""
    words = {"positive": "suspicious", "negative": "not suspicious"}
    rows: list[Row] = []
    for site in sites:
        probability = "-" if site.probability is None else probability_text(site.probability)
        if site.interval is not None:
            low, high = (probability_text(value) for value in (site.interval.low, site.interval.high))
            probability = f"{probability} ({low} to {high})"
        seen = "-" if site.coverage is None else f"{100 * site.coverage:.0f} %"
        rows.append((site.laterality.capitalize(), words.get(site.status, "not analysed"), probability, seen))
    return rows


def nerve_count_line(content: StudyContent) -> str:
    """Return the count of sites with the nerves; nothing where it is not known."""
    found = sites_with_nerves(content.flair_findings, content.fatsat_findings)
    return f"With the optic nerves, {found[0]} of {found[1]} regions." if found else ""


def nerve_remarks(content: StudyContent) -> list[str]:
    """Return what stood in the way of a rating, and what a rating is."""
    sites = content.fatsat.findings.sites if content.fatsat is not None else ()
    remarks = [
        f"{site.laterality.capitalize()}: {site.reason.rstrip('.')}."
        for site in sites
        if site.reason and site.status == "not analysed"
    ]
    threshold = next((site.threshold for site in sites if site.threshold is not None), None)
    if threshold is not None:
        remarks.append(f"Suspicious from {probability_text(threshold)} on; not calibrated.")
    return remarks


def differential(content: StudyContent) -> str:
    """Return the line on MS and NMOSD, as the reports of the series have it; nothing where nothing was found."""
    findings = content.flair_findings
    if findings is None or findings.status != "findings":
        return ""
    return differential_line(findings, content.context)


def quality_lines(content: StudyContent) -> list[str]:
    """Return what is to be known of the images: protocol of each series, then warnings, each once."""
    lines = [protocol_line(part) for part in content.shown]
    for part in content.shown:
        told = [*part.findings.warnings, part.note]
        lines += [f"{series_name(part.source)}: {text.rstrip('.')}." for text in told if text]
    for part in content.others:
        if not part.was_analysed:
            lines.append(not_analysed_line(part))
            continue
        sites = list(part.findings.sites)
        result = f"{nerves_rated(sites)}." if sites else amount_line(part.findings)
        lines.append(f"{series_name(part.source)} was analysed too, and is not on this page: {result}")
    lines += change.quality_lines(content)
    return list(dict.fromkeys(lines))


def protocol_line(part: Part) -> str:
    """Return which series it is and how it was acquired."""
    source = part.source
    thickness, strength = source.get("SliceThickness"), source.get("MagneticFieldStrength")
    facts = [
        f"{part.images} images",
        str(source.get("MRAcquisitionType") or ""),
        f"slices of {float(thickness):.1f} mm" if thickness else "",
        f"{float(strength):.1f} T" if strength else "",
    ]
    return f"{part.title}: {series_name(source)}, {', '.join(filter(None, facts))}."


def limits_lines(content: StudyContent) -> list[str]:
    """Return what was not examined, and how what was found is to be taken."""
    age = age_sentence(content.flair_findings, content.age_years)
    limits = (cord_sentence(content.flair_findings), change.limits_line(content), age)
    return [text for text in limits if text]


def provenance_lines(content: StudyContent) -> list[str]:
    """Return by what the page was made, for those who ask."""
    context = content.context
    made = context.created_at.strftime("%Y-%m-%d %H:%M %Z").strip()
    again = f", revision {content.revision}" if content.revision else ""
    models = "; ".join(
        f"{model.name} {model.version} ({model.digest.removeprefix('sha256:')[:12]}, trained on {model.trained_on} data)"
        for model in content.models
    )
    lines = [f"Made by {MODEL_NAME} {context.node_version} on {made}, job {context.job_id[:8]}{again}."]
    if models:
        lines.append(f"Models: {models}.")
    return [*lines, *change.provenance_lines(content)]


def series_name(source: Dataset) -> str:
    """Return what a series is called: its number and its description."""
    number = source.get("SeriesNumber")
    name = f"Series {number}" if number not in (None, "") else "A series"
    description = str(source.get("SeriesDescription") or "").strip()
    return f'{name} "{description}"' if description else name


def _load_cells(load: RegionLoad | None) -> tuple[str, str, str]:
    if load is None or load.lesions == 0:
        return "0", "-", "-"
    count = f"{load.lesions} ({load.borderline} borderline)" if load.borderline else str(load.lesions)
    return count, volume_text(load.volume_mm3), f"{load.long_axis_mm:.0f} mm"
