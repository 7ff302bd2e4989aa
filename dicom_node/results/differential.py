"""MS versus NMOSD in one line: what the readers and the rule say together, the same line in every report and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import classes_origin, model_named
from dicom_node.standard import codes
from pipelines.types import Findings, Hypothesis, ModelCard, Rule

DiseaseClass = Literal["MS", "NMOSD"]

CLASSES: Final[Mapping[str, DiseaseClass]] = {"multiple_sclerosis": "MS", "neuromyelitis_optica": "NMOSD"}
"""Short names of the classes, by the code key of their hypothesis."""
QUESTION: Final = "MS versus NMOSD"
UNMET: Final = "An unmet rule says little."
NOT_MODELLED: Final = "MOGAD is not modelled."
LESIONS_NAMED: Final = 3
"""Lesions that a met rule is named with; the others are counted."""
_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six")


def differential_line(findings: Findings, context: ResultContext) -> str:
    """Return what is said of MS and NMOSD; nothing where it was not asked, or is not to be shown.

    A class is named only by `decided_class`; else the answer is "undecided", with the reason.
    """
    if context.differential == "off" or not (
        findings.hypotheses or findings.no_differential or findings.rules
    ):
        return ""
    named = decided_class(findings)
    if named is not None:
        readers = ", ".join(
            f"{model} {_share(items, named):.2f}" for model, items in _readers(findings).items()
        )
        answer = f"supports {named} ({readers})."
    elif findings.hypotheses:
        answer = f"undecided ({_why_undecided(findings)})."
    elif findings.no_differential:
        answer = f"not asked ({findings.no_differential.rstrip('.')})."
    else:
        answer = "not asked."
    return " ".join([f"{QUESTION}: {answer}", *map(_rule_clause, findings.rules), NOT_MODELLED])


def decided_class(findings: Findings) -> DiseaseClass | None:
    """Return the class that may be named, in text and in pixels; None as long as the answer is undecided.

    Each reader names the same class, outside of the band of its card, and no rule speaks
    against it. A card without a band, and one whose classes were learnt from synthetic data alone, leave it undecided.
    """
    said = {_class_of(items, model_named(findings, model)) for model, items in _readers(findings).items()}
    if len(said) != 1:
        return None
    (named,) = said
    if any(rule.met and rule.disease != named for rule in findings.rules):
        return None
    return named


def may_name_class(
    findings: Findings, model: ModelCard | None, class_name: str, probability: float | None
) -> bool:
    """Tell whether a map may name its class: a disease only as the one line does, by `decided_class`.

    Another class is not named where it was learnt from synthetic data alone, nor within the band of its card.
    """
    if model is None or classes_origin(model) == "synthetic":
        return False
    if codes.names_disease(class_name):
        return _short_name(class_name) == decided_class(findings)
    if probability is None:
        return True
    return model.undecided is not None and not model.undecided[0] <= probability <= model.undecided[1]


def _short_name(class_name: str) -> str:
    """Return the abbreviation of a disease that stands there by its name."""
    names = {codes.disease_code(key).meaning: short for key, short in CLASSES.items()}
    return names.get(class_name, class_name)


def _readers(findings: Findings) -> dict[str, list[Hypothesis]]:
    """Return the probabilities that each reader gives, by the name of its model."""
    readers: dict[str, list[Hypothesis]] = {}
    for item in findings.hypotheses:
        readers.setdefault(item.model, []).append(item)
    return readers


def _share(items: list[Hypothesis], named: DiseaseClass) -> float:
    return next((item.probability for item in items if CLASSES.get(item.code) == named), 0.0)


def _class_of(items: list[Hypothesis], model: ModelCard | None) -> DiseaseClass | None:
    """Return the class that one reader names; None within its band, and where its card allows none."""
    if model is None or model.undecided is None or classes_origin(model) == "synthetic":
        return None
    low, high = model.undecided
    of_ms = _share(items, "MS")
    if of_ms > high:
        return "MS"
    return "NMOSD" if of_ms < low else None


def _why_undecided(findings: Findings) -> str:
    models = [model_named(findings, name) for name in _readers(findings)]
    count = _NUMBERS[len(models)] if len(models) < len(_NUMBERS) else str(len(models))
    readers = f"{count} reader" if len(models) == 1 else f"{count} readers"
    taught = [model is not None and classes_origin(model) != "synthetic" for model in models]
    if not all(taught):
        return f"{readers}, {'some of them ' if any(taught) else ''}taught on synthetic cases alone"
    if any(model is not None and model.undecided is None for model in models):
        return f"{readers}, and no card says from where on it is sure"
    return f"{readers}, which do not agree or are not sure"


def _rule_clause(rule: Rule) -> str:
    """Return a rule's answer without the disease that it points to: its measures here are not validated."""
    if not rule.met:
        return f"{rule.name} is not met. {UNMET}"
    lesions = sorted({number for item in rule.criteria for number in item.lesions})
    noun = "lesion" if len(lesions) == 1 else "lesions"
    named = ", ".join(map(str, lesions[:LESIONS_NAMED]))
    more = f" and {len(lesions) - LESIONS_NAMED} more" if len(lesions) > LESIONS_NAMED else ""
    return f"{rule.name} is met by {noun} {named}{more} (measures not validated)."
