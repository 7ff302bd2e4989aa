"""MS versus NMOSD in one line: a class is named only where every card allows it and every reader is sure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from result_factories import CONTEXT, REAL

from dicom_node.results.differential import decided_class, differential_line
from pipelines.types import Criterion, Findings, Hypothesis, ModelCard, Rule

BAND = replace(REAL, undecided=(0.2, 0.8))
SYNTHETIC_CLASSES = replace(BAND, trained_on="real and synthetic", classes_trained_on="synthetic")
MET = Rule(
    "Matthews' rule",
    "Neurology 2013;80:1330",
    "MS",
    (Criterion("a Dawson's finger", (2, 7)), Criterion("a U-fibre lesion", (2,))),
)
UNMET = replace(MET, criteria=(Criterion("a Dawson's finger", ()),))


def findings(of_ms: tuple[float, ...], card: ModelCard = BAND, rule: Rule | None = MET) -> Findings:
    models = tuple(replace(card, name=f"reader-{number}") for number in range(1, len(of_ms) + 1))
    hypotheses = []
    for model, value in zip(models, of_ms, strict=True):
        hypotheses.append(Hypothesis("multiple_sclerosis", "Multiple sclerosis", value, True, model.name))
        hypotheses.append(Hypothesis("neuromyelitis_optica", "NMO", 1 - value, True, model.name))
    return Findings("findings", hypotheses=tuple(hypotheses), models=models, rules=(rule,) if rule else ())


@pytest.mark.parametrize(
    ("of_ms", "rule", "named"),
    [
        ((0.9, 0.95, 0.81), MET, "MS"),
        ((0.9, 0.95, 0.81), UNMET, "MS"),
        ((0.1, 0.05), UNMET, "NMOSD"),
        ((0.1, 0.05), MET, None),  # the rule speaks for MS
        ((0.9, 0.8), MET, None),  # one within its band
        ((0.9, 0.1), None, None),
        ((0.2,), None, None),
        ((), MET, None),
    ],
)
def test_class_is_named_only_outside_of_every_band_and_where_all_agree(
    of_ms: tuple[float, ...], rule: Rule | None, named: str | None
) -> None:
    assert decided_class(findings(of_ms, rule=rule)) == named


@pytest.mark.parametrize("card", [SYNTHETIC_CLASSES, replace(BAND, trained_on="synthetic"), REAL])
def test_no_class_is_named_of_synthetic_classes_or_without_a_band(card: ModelCard) -> None:
    assert decided_class(findings((0.99, 0.99), card)) is None


def test_undecided_line_names_no_class_and_says_why() -> None:
    assert differential_line(findings((0.57, 0.29, 0.4), SYNTHETIC_CLASSES), CONTEXT) == (
        "MS versus NMOSD: undecided (three readers, taught on synthetic cases alone). "
        "Matthews' rule is met by lesions 2, 7 (measures not validated). "
        "MOGAD is not modelled."
    )


def test_unmet_rule_says_little() -> None:
    line = differential_line(findings((0.5, 0.6), rule=UNMET), CONTEXT)
    assert line == (
        "MS versus NMOSD: undecided (two readers, which do not agree or are not sure). "
        "Matthews' rule is not met. An unmet rule says little. MOGAD is not modelled."
    )


def test_decided_line_names_the_class_with_what_each_reader_says() -> None:
    line = differential_line(findings((0.9, 0.93), rule=None), CONTEXT)
    assert line == "MS versus NMOSD: supports MS (reader-1 0.90, reader-2 0.93). MOGAD is not modelled."


def test_too_few_lesions_are_not_asked() -> None:
    few = Findings("findings", no_differential="2 lesions found, at least 3 are needed")
    line = differential_line(few, CONTEXT)
    assert (
        line == "MS versus NMOSD: not asked (2 lesions found, at least 3 are needed). MOGAD is not modelled."
    )


def test_nothing_is_said_where_nothing_was_asked_or_it_is_off() -> None:
    assert differential_line(Findings("none"), CONTEXT) == ""
    assert differential_line(findings((0.9,)), replace(CONTEXT, differential="off")) == ""
