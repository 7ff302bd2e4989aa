"""The sentences and numbers of the reports, in one place, so that no two objects say different things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dicom_node.results.context import ResultContext
from dicom_node.results.dissemination import (
    NERVES_NOT_EXAMINED,
    REGION_NAMES,
    age_sentence,
    cord_sentence,
    counts_sentence,
    nerves_rated,
    rating_basis,
    sites_sentence,
)
from dicom_node.results.manifest import lesion_count, site_name, total_volume_interval, total_volume_mm3
from dicom_node.results.percentile import percentile_sentence
from dicom_node.results.plausibility import NOT_TYPICAL, noun_of, outlined_sentence, signs_sentence
from dicom_node.results.provenance import (
    is_synthetic,
    mask_models,
    segmenting_model,
    training_remark,
)
from pipelines.types import Findings, Hypothesis, Lesion, Measurement, ModelCard, Segment, SiteFinding, Task

LESIONS_LISTED = 50
"""Lesions that the structured report lists, largest first; the rest are counted only."""
LINE_MM3 = 100.0
"""A lesion has a line of its own in the text report from this volume on."""
UNCERTAIN_BELOW = 0.5
"""A lesion is uncertain where the interval of its probability reaches below this."""
INTERVALS = (
    "An interval tells how far a result moves when the analysis or the cases behind it are varied, or where the truth lay in "
    "cases with known lesions; it is no confidence interval."
)
UNCERTAIN = "uncertain: the interval of its probability reaches below 0.5"
BORDERLINE = "borderline: near enough to another region to belong to it"
"""What the words of the lesion table mean."""
MODELS_UNKNOWN = "Models and training data (clinical accuracy unknown):"
MODELS = "Models and training data:"
TASKS: Mapping[Task, str] = {
    "mask": "mask",
    "regions": "regions",
    "intervals": "intervals",
    "differential": "differential",
}
RATING = "A rating rules a lesion neither in nor out. Its probability is not calibrated, its range no confidence interval."
CANDIDATE = (
    "A candidate region is the part of the nerve on which the rating rests most; it is no outline of a lesion, nor is its "
    "volume that of one."
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


def coded_hypotheses(findings: Findings, context: ResultContext) -> tuple[Hypothesis, ...]:
    """Return the hypotheses that may be coded: never while any of the weights were trained on synthetic data."""
    if context.differential != "coded" or not findings.models or any(map(is_synthetic, findings.models)):
        return ()
    return findings.hypotheses


def headline(findings: Findings) -> str:
    """Return the result in one line."""
    if findings.status in ("unsuitable", "failed"):
        not_suitable = findings.status == "unsuitable"
        said = (
            "Not analysed, because the series is not suitable"
            if not_suitable
            else "The analysis failed and gave no result"
        )
        return f"{said}: {_sentence(findings.reason)}"
    if findings.not_typical:
        return NOT_TYPICAL
    if findings.sites:
        model = segmenting_model(findings)
        rated = any(site.probability is not None for site in findings.sites)
        basis = rating_basis(model) if rated else ""
        return f"Optic nerves: {nerves_rated(list(findings.sites))}{basis and f', {basis}'}."
    count, volume_mm3 = lesion_count(findings), total_volume_mm3(findings)
    volume = volume_text(volume_mm3 or 0.0)
    if count is None:
        return f"Findings of {volume} in all." if volume_mm3 is not None else "Analysed."
    between = _volume_interval(findings)
    if count == 0:
        return f"No lesion found{between and f' ({between})'}."
    unsure = sum(map(is_uncertain, findings.lesions))
    counted = "1 lesion" if count == 1 else f"{count} lesions"
    sure = f" ({unsure} uncertain)" if unsure else ""
    return f"{counted}{sure}, {volume} in all{between and f' ({between})'}."


def _volume_interval(findings: Findings) -> str:
    interval = total_volume_interval(findings)
    if interval is None:
        return ""
    low, high = volume_text(interval.low).removesuffix(" mL"), volume_text(interval.high)
    return f"{low} to {high} {interval.basis}"


def is_uncertain(lesion: Lesion) -> bool:
    """Tell whether the interval of a lesion's probability reaches below one half."""
    interval = lesion.probability_interval
    return interval is not None and rounded_probability(interval.low) < UNCERTAIN_BELOW


def finding_sentences(findings: Findings, age_years: float | None) -> list[str]:
    """Return what was found, beside the headline: of each side, or of the regions of the brain, and what was not examined."""
    if findings.status not in ("findings", "none"):
        return []
    said = [site_sentence(site) for site in findings.sites]
    said += [outlined_sentence(findings), signs_sentence(findings)]
    if any(site.probability is not None for site in findings.sites):
        said.append(RATING)
    if lesion_count(findings) is not None:
        said += [
            percentile_sentence(findings),
            counts_sentence(findings),
            sites_sentence(findings),
            f"{NERVES_NOT_EXAMINED.removesuffix('.')} in this series.",
            cord_sentence(findings),
            age_sentence(findings, age_years),
        ]
    if findings.reason:
        said.append(_sentence(findings.reason))
    return [text for text in (*said, *map(_measurement_sentence, findings.measurements)) if text]


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


def has_line(lesion: Lesion) -> bool:
    """Tell whether a lesion is large enough for a line of its own in the text report."""
    return rounded_mm3(lesion.volume_mm3) >= LINE_MM3


def lesion_line(lesion: Lesion, image_number: int, noun: str = "Lesion") -> str:
    """Return one line of the lesion table; the image, as viewers number it, is the one on which it is largest."""
    parts = [
        place_text(lesion),
        f"image {image_number}",
        volume_text(lesion.volume_mm3),
        lesion.change or "",
        "uncertain" if is_uncertain(lesion) else "",
    ]
    return f"{noun} {lesion.id}: {', '.join(filter(None, parts))}"


def place_text(lesion: Lesion) -> str:
    """Return side and region of a lesion, and whether it is at the border of another region."""
    region = REGION_NAMES[lesion.region] if lesion.region else ""
    place = " ".join(filter(None, (lesion.laterality, region)))
    return f"{place} (borderline)" if lesion.borderline else place


def smaller_line(findings: Findings) -> str:
    """Return how many lesions have no line of their own, and how much they are; nothing where there are none."""
    small = [lesion for lesion in findings.lesions if not has_line(lesion)]
    if not small:
        return ""
    volume = volume_text(sum(lesion.volume_mm3 for lesion in small))
    noun = noun_of(findings).lower()
    if len(small) < len(findings.lesions):
        return f"and {len(small)} smaller, {volume} in all"
    each = f"1 {noun}" if len(small) == 1 else f"{len(small)} {noun}s, each"
    return f"{each} smaller than {LINE_MM3 / 1000:.1f} mL"


def legend_lines(findings: Findings) -> list[str]:
    """Return what the words of the lesion table mean, as far as they stand in it."""
    shown = [lesion for lesion in findings.lesions if has_line(lesion)]
    told = {
        UNCERTAIN: any(map(is_uncertain, shown)),
        BORDERLINE: any(lesion.borderline for lesion in shown),
    }
    return [text for text, stands in told.items() if stands]


def not_listed_sentence(findings: Findings) -> str:
    """Return how many lesions the list of the structured report leaves out, or nothing."""
    more = len(findings.lesions) - LESIONS_LISTED
    if more <= 0:
        return ""
    nouns = f"{noun_of(findings).lower()}s"
    return f"The {LESIONS_LISTED} largest {nouns} are listed; {more} smaller ones are counted and in the mask only."


def counting_sentence(findings: Findings) -> str:
    """Return what counts as a lesion, and how much was left out for it; nothing where no lesions are counted."""
    rule = findings.counting
    if rule is None:
        return ""
    counts = (
        f"A lesion counts from {rule.long_axis_mm:g} mm long axis, {rule.volume_mm3:.0f} mm3 and a mean probability of "
        f"{probability_text(rule.probability)} on"
    )
    if rule.left_out == 0:
        return f"{counts}; nothing was left out."
    spots = "1 spot was" if rule.left_out == 1 else f"{rule.left_out} spots were"
    return f"{counts}; {spots} left out ({volume_text(rule.left_out_mm3)})."


def calibration_text(calibrated: bool, model: ModelCard | None) -> str:
    """Return whether probabilities are calibrated, and on what where it was not on real cases."""
    if not calibrated:
        return "not calibrated"
    return "calibrated on synthetic cases" if model is not None and is_synthetic(model) else "calibrated"


def left_out_sentence(findings: Findings) -> str:
    """Return how much was too little or too faint to count as a lesion; nothing where that is nothing."""
    rule = findings.counting
    if rule is None or rule.left_out == 0:
        return ""
    spots = "1 smaller or fainter spot" if rule.left_out == 1 else f"{rule.left_out} smaller or fainter spots"
    return f"Not counted: {spots}, {volume_text(rule.left_out_mm3)}."


def model_lines(models: Sequence[ModelCard], findings: Findings) -> list[str]:
    """Return a heading and, for each model, its name, version, task and what its weights were trained on."""
    if not models:
        return []
    heading = MODELS_UNKNOWN if any(map(is_synthetic, models)) else MODELS
    return [heading, *(_model_line(model, findings) for model in models)]


def _model_line(model: ModelCard, findings: Findings) -> str:
    is_alone = model.classes_trained_on in (None, model.trained_on)
    classes = "" if is_alone else f", classes {model.classes_trained_on}"
    return f"{model.name} {model.version}: {_task_text(model, findings)}; {model.trained_on}{classes}"


def _task_text(model: ModelCard, findings: Findings) -> str:
    """Return what a model was asked for; where the findings do not say it, its purpose."""
    told = [task for task, names in findings.tasks.items() if model.name in names]
    if not told:
        return model.purpose.split(";")[0]
    if "mask" in told:  # what a mask's model says moves the intervals too
        told = [task for task in told if task != "intervals"]
    named = [TASKS[task] for task in TASKS if task in told]
    return ", ".join(named) + (" (ensemble)" if told == ["mask"] and len(mask_models(findings)) > 1 else "")


def remark_sentences(findings: Findings, context: ResultContext) -> list[str]:
    """Return what is to be known of the result: what was left out, how well it was seen, warnings, and what it replaces."""
    sentences = [left_out_sentence(findings), *map(site_remark, findings.sites)]
    sentences += [
        _sentence(text[:1].upper() + text[1:]) for text in (*findings.warnings, context.note) if text
    ]
    sentences += map(segment_remark, findings.segments)
    if context.replaces:
        count = "1 object" if len(context.replaces) == 1 else f"{len(context.replaces)} objects"
        sentences.append(f"This result replaces an earlier one of the same series ({count}).")
    return list(dict.fromkeys(filter(None, sentences)))


def intervals_sentence(findings: Findings) -> str:
    """Return what an interval is; nothing where there is none."""
    intervals = [item.probability_interval for item in findings.lesions]
    intervals += [total_volume_interval(findings), *(site.interval for site in findings.sites)]
    return INTERVALS if any(intervals) else ""


def replaced_sentence(context: ResultContext) -> str:
    """Return the objects that this result replaces; nothing where there are none."""
    uids = ", ".join(item[1] for item in context.replaces)
    return uids and f"Replaced objects: {uids}."


def _sentence(text: str) -> str:
    text = text.strip()
    if not text:
        return "no reason was given."
    return text if text.endswith((".", "!", "?")) else f"{text}."
