"""The sentences and numbers of the reports, in one place, so that no two objects say different things."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import lesion_count, site_name, total_volume_interval, total_volume_mm3
from dicom_node.results.provenance import (
    is_synthetic,
    model_named,
    segmenting_model,
    training_remark,
)
from pipelines.types import Findings, Hypothesis, Lesion, Measurement, ModelCard, Rule, Segment, SiteFinding

LESIONS_LISTED = 50
"""Lesions that the reports list, largest first; the rest are counted only."""
DIGEST_SHOWN = 12
INTERVALS = (
    "An interval tells how far a result moves when the analysis is varied, or where the truth lay in cases with known lesions, "
    "as is stated beside it; it is no confidence interval, and the truth may lie outside."
)
RATING = "A rating rules a lesion neither in nor out, and its probability is not calibrated."


CANDIDATE = (
    "A candidate region is the part of the nerve on which the rating rests most; it is no outline of a lesion, and its volume "
    "is not the volume of one."
)


def rounded_mm3(volume_mm3: float) -> float:
    """Return a volume as the structured report states it, in mm3."""
    return round(float(volume_mm3), 3)


def rounded_probability(probability: float) -> float:
    """Return a probability as the structured report states it."""
    return round(float(probability), 3)


def volume_text(volume_mm3: float) -> str:
    """Return a volume in mL with two decimals, from the value in mm3 that the structured report states."""
    return f"{rounded_mm3(volume_mm3) / 1000:.2f} mL"


def probability_text(probability: float) -> str:
    """Return a probability with two decimals, from the value that the structured report states."""
    return f"{rounded_probability(probability):.2f}"


def listed_lesions(findings: Findings) -> list[Lesion]:
    """Return the lesions that the reports list: the largest, largest first, ties by ID."""
    return sorted(findings.lesions, key=lambda lesion: (-lesion.volume_mm3, lesion.id))[:LESIONS_LISTED]


def shown_hypotheses(findings: Findings, context: ResultContext) -> tuple[Hypothesis, ...]:
    """Return the hypotheses that may be shown at all."""
    return () if context.differential == "off" else findings.hypotheses


def coded_hypotheses(findings: Findings, context: ResultContext) -> tuple[Hypothesis, ...]:
    """Return the hypotheses that may be coded: never while any of the weights were trained on synthetic data."""
    if context.differential != "coded" or not findings.models or any(map(is_synthetic, findings.models)):
        return ()
    return findings.hypotheses


def outcome_sentences(findings: Findings) -> list[str]:
    """Return what was found, in sentences."""
    if findings.status == "unsuitable":
        return [f"The series was not analysed, because it is not suitable: {_sentence(findings.reason)}"]
    if findings.status == "failed":
        return [f"The analysis failed and gave no result: {_sentence(findings.reason)}"]
    sentences = [*_count_sentences(findings), *map(site_sentence, findings.sites)]
    if any(site.probability is not None for site in findings.sites):
        sentences += rating_remarks(segmenting_model(findings))
    if findings.reason:
        sentences.append(_sentence(findings.reason))
    return sentences + [text for item in findings.measurements if (text := _measurement_sentence(item))]


def _count_sentences(findings: Findings) -> list[str]:
    """Return how many lesions there are and how much, for pipelines that count them."""
    count, volume_mm3 = lesion_count(findings), total_volume_mm3(findings)
    volume = volume_text(volume_mm3 or 0.0)
    if count is None:
        return [] if volume_mm3 is None else [f"The findings have a total volume of {volume}."]
    interval = total_volume_interval(findings)
    between = ""
    if interval is not None:
        low, high = volume_text(interval.low).removesuffix(" mL"), volume_text(interval.high)
        between = f"interval {low} to {high} {interval.basis}"
    if count == 0:
        return [
            f"No lesion was found ({'; '.join(filter(None, (f'0 lesions, total volume {volume}', between)))})."
        ]
    noun = "lesion was" if count == 1 else "lesions were"
    return [f"{count} {noun} found, with a total volume of {volume}{between and f' ({between})'}."]


def site_sentence(site: SiteFinding) -> str:
    """Return the answer for one side in one sentence."""
    name = site_name(site).capitalize()
    if site.probability is None or site.threshold is None:
        return f"{name}: not analysed, because {_sentence(site.reason)}"
    # a rating by a network, in words that nobody takes for a reader's own: "no sign of" would say that someone looked
    rated = "rated suspicious" if site.status == "positive" else "not rated suspicious"
    shown, limit = probability_text(site.probability), probability_text(site.threshold)
    if shown == limit and site.status == "negative":  # two decimals would not tell them apart
        shown, limit = f"{site.probability:.3f}", f"{site.threshold:.3f}"
    relation = "at or above" if site.status == "positive" else "below"
    return f"{name}: {rated} for a lesion, probability {shown}{_spread(site)}, {relation} the threshold of {limit}."


def segment_remark(segment: Segment) -> str:
    """Return what a segment must not be taken for: in a nerve that was only rated, no lesion was outlined."""
    return CANDIDATE if segment.laterality and segment.code == "lesion" else ""


def rating_remarks(model: ModelCard | None) -> list[str]:
    """Return what is to be thought of a rating, to stand beside it: what it is, and what the model has learnt from."""
    return [text for text in (RATING, training_remark(model)) if text]


def _spread(site: SiteFinding) -> str:
    if site.interval is None:
        return ""
    low, high = probability_text(site.interval.low), probability_text(site.interval.high)
    return f" ({low} to {high} {site.interval.basis})"


def site_remark(site: SiteFinding) -> str:
    """Return how well one side was seen: who located it, how much of it was analysed, and where the model looked."""
    if site.status == "not analysed":
        return ""
    parts = ["located by a point that a person gave" if site.located == "manual" else "located automatically"]
    if site.coverage is not None:
        parts.append(f"{100 * site.coverage:.0f} % of its course (as far as it was followed) analysed")
    if site.saliency_share is not None:
        parts.append(f"{100 * site.saliency_share:.0f} % of the saliency inside the nerve")
    return f"{site_name(site).capitalize()}: {', '.join(parts)}."


def _measurement_sentence(item: Measurement) -> str:
    """Return a measurement of a side or region in words; the totals are in the first sentence already."""
    site = " ".join(filter(None, (item.laterality, (item.region or "").replace("_", " ")))) or "brain"
    if item.code == "probability":
        return f"{site.capitalize()}: probability of a lesion {probability_text(item.value)}."
    if item.code == "fractional_change":
        return f"{site.capitalize()}: change of volume since the prior study {100 * item.value:+.0f} %."
    if not (item.region or item.laterality):
        return ""
    if item.code == "volume":
        return f"{site.capitalize()}: volume {volume_text(item.value * (1000 if item.unit == 'mL' else 1))}."
    if item.code == "lesion_count":
        return f"{site.capitalize()}: {round(item.value)} lesions."
    return f"{site.capitalize()}: {item.code.replace('_', ' ')} {item.value:g} {item.unit}."


def lesion_line(lesion: Lesion, images: str) -> str:
    """Return one line of the lesion table; ``images`` are the source's image numbers."""
    parts = [
        f"{volume_text(lesion.volume_mm3)} ({rounded_mm3(lesion.volume_mm3):.0f} mm3)",
        f"probability {probability_text(lesion.probability)}{_probability_interval(lesion)}",
        lesion.region.replace("_", " ") if lesion.region else "",
        lesion.change or "",
        images,
    ]
    return f"Lesion {lesion.id}: {', '.join(filter(None, parts))}"


def _probability_interval(lesion: Lesion) -> str:
    interval = lesion.probability_interval
    if interval is None:
        return ""
    low, high = probability_text(interval.low), probability_text(interval.high)
    return f" ({low} to {high} {interval.basis})"


def not_listed_sentence(findings: Findings) -> str:
    """Return how many lesions the list leaves out, or nothing."""
    more = len(findings.lesions) - LESIONS_LISTED
    if more <= 0:
        return ""
    return f"The {LESIONS_LISTED} largest lesions are listed; {more} smaller ones are counted and in the mask only."


def counting_sentence(findings: Findings) -> str:
    """Return what counts as a lesion, and how much was left out for it; nothing where no lesions are counted."""
    rule = findings.counting
    if rule is None:
        return ""
    counts = (
        f"A region counts as a lesion from {rule.long_axis_mm:g} mm on in its long axis in the plane of the images, "
        f"{rule.volume_mm3:.0f} mm3 and a mean probability of {probability_text(rule.probability)}"
    )
    if rule.left_out == 0:
        return f"{counts}; nothing was left out."
    regions = "1 region that does not" if rule.left_out == 1 else f"{rule.left_out} regions that do not"
    verb = "is" if rule.left_out == 1 else "are"
    return f"{counts}; {regions}, {volume_text(rule.left_out_mm3)} in all, {verb} neither drawn nor listed."


def hypothesis_paragraphs(findings: Findings, context: ResultContext) -> list[str]:
    """Return what each model says of the diseases, or why nothing is said, what is to be thought of it, and the rules."""
    if context.differential == "off":
        return []
    hypotheses = shown_hypotheses(findings, context)
    paragraphs = []
    for model_name in dict.fromkeys(item.model for item in hypotheses):
        own = [item for item in hypotheses if item.model == model_name]
        values = ", ".join(f"{item.name} {probability_text(item.probability)}" for item in own)
        model = model_named(findings, model_name)
        calibrated = calibration_text(all(item.calibrated for item in own), model)
        said = f"Probabilities given by the model {model_name} ({calibrated}): {values}."
        paragraphs.append(f"{said} {training_remark(model)}".rstrip())
    if paragraphs:
        paragraphs.append("The probabilities support a reader's thinking; they are not a diagnosis.")
    if findings.no_differential:
        paragraphs.append(f"Probabilities of diseases: not applicable, {_sentence(findings.no_differential)}")
    return [*paragraphs, *map(rule_sentence, findings.rules)]


def calibration_text(calibrated: bool, model: ModelCard | None) -> str:
    """Return whether probabilities are calibrated, and on what where it was not on real cases."""
    if not calibrated:
        return "not calibrated"
    return "calibrated on synthetic cases" if model is not None and is_synthetic(model) else "calibrated"


def rule_sentence(rule: Rule) -> str:
    """Return what a rule says of the lesions, with the criteria that are met and by which of them."""
    head = f"{rule.name} ({rule.source}), read from the lesion mask by measures that are not validated"
    if not rule.met:
        return f"{head}: none of its criteria is met, so it does not point to {rule.disease}."
    met = [
        f"{item.name} ({'lesion' if len(item.lesions) == 1 else 'lesions'} {', '.join(map(str, item.lesions))})"
        for item in rule.criteria
        if item.lesions
    ]
    return f"{head}, supports {rule.disease}: {'; '.join(met)}."


def model_line(model: ModelCard) -> str:
    """Return name, version, digest, purpose and origin of one model's weights."""
    trained = training_remark(model) or f"Trained on {model.trained_on} data."
    return (
        f"{model.name}, version {model.version}, weights {model.digest.removeprefix('sha256:')[:DIGEST_SHOWN]}, "
        f"for {model.purpose}. {trained}"
    )


def remark_sentences(findings: Findings, context: ResultContext) -> list[str]:
    """Return the warnings on quality, the job's note, and which result this one replaces."""
    sentences = [text for site in findings.sites if (text := site_remark(site))]
    sentences += filter(None, [counting_sentence(findings)])
    sentences += [_sentence(text) for text in (*findings.warnings, context.note) if text]
    sentences += dict.fromkeys(text for item in findings.segments if (text := segment_remark(item)))
    intervals = [item.probability_interval for item in findings.lesions]
    intervals += [total_volume_interval(findings), *(site.interval for site in findings.sites)]
    if any(intervals):
        sentences.append(INTERVALS)
    if context.replaces:
        sentences.append(
            f"This result replaces an earlier one of the same series ({len(context.replaces)} objects). "
            f"Replaced objects: {', '.join(item[1] for item in context.replaces)}."
        )
    return sentences


def image_range(numbers: Sequence[int]) -> str:
    """Return the images that a lesion is seen on, as viewers number them."""
    first, last = min(numbers), max(numbers)
    return f"image {first}" if first == last else f"images {first} to {last}"


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return "no reason was given."
    return text if text.endswith((".", "!", "?")) else f"{text}."
