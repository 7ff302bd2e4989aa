"""Place of the lesion volume in a cohort, in words; never without the number of its patients and its source."""

from __future__ import annotations

import math
from typing import Final

from pipelines.types import Findings, Percentile

HEALTHY: Final = "healthy"
"""The group of a cohort of people without a disease of the brain, as its file says it."""


def percentile_sentence(findings: Findings) -> str:
    """Return where the lesion volume stands among those of a cohort; nothing where it was not compared."""
    found = findings.percentile
    if found is None:
        return ""
    return (
        f"Lesion volume: higher than {rank(found)} of 100 ({interval_text(found)}) of {found.patients} {people(found)} "
        f"({origin(found)}; {matching(found)})."
    )


def rank(found: Percentile) -> int:
    """Return how many of 100 patients have less."""
    return round(100 * found.share)


def interval_text(found: Percentile) -> str:
    """Return between which ranks the true one lies, rounded outward."""
    return f"{math.floor(100 * found.low + 1e-9)} to {math.ceil(100 * found.high - 1e-9)}"


def people(found: Percentile) -> str:
    """Return of whom the cohort is."""
    return "healthy people" if found.group == HEALTHY else f"{found.group} patients"


def origin(found: Percentile) -> str:
    """Return where the cohort comes from, and whether people outlined its lesions."""
    return f"{found.source}, outlined by hand" if found.by_hand else found.source


def matching(found: Percentile) -> str:
    """Return how near the cohort is to the patient."""
    if found.matched_years is None:
        return "not matched for age"
    return f"of the same sex, matched for age within {found.matched_years} years"
