"""Place of a patient's lesion volume in a cohort, with the uncertainty that the cohort's size leaves.

References
----------
Wilson EB: Probable inference, the law of succession, and statistical inference. J Am Stat Assoc 1927;22:209-212.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, quantiles
from typing import Final, NamedTuple

from pydicom.dataset import Dataset

from dicom_node.cohort.table import BY_HAND, OLDEST, Cohort, Row, Sex
from dicom_node.results.manifest import total_volume_interval, total_volume_mm3
from dicom_node.results.source import age_years
from dicom_node.series.reading import BAD_FILE_ERRORS, tolerant
from pipelines.types import Findings, Percentile

CONFIDENCE: Final = 0.95
MATCHES: Final = ((5, 100), (10, 50), (None, 20))
"""Years of age within which patients of the same sex are taken, and how many there must be; None: all, whoever they are."""
ADULT: Final = 18
"""Age in years below which nobody is compared."""


class Person(NamedTuple):
    """Age in years on the day of the study, and sex, of the patient; None where the images do not say it."""

    age: float | None
    sex: Sex | None


def person_of(image: Dataset) -> Person:
    """Return age and sex as the header of an image states them; PatientSex (0010,0040) "O" is neither."""
    with tolerant():
        try:
            stated = str(image.get("PatientSex") or "").strip()
            sex: Sex | None = "F" if stated == "F" else "M" if stated == "M" else None
            return Person(age_years(image), sex)
        except BAD_FILE_ERRORS:
            return Person(None, None)


def why_not_compared(findings: Findings, person: Person) -> str:
    """Return why a study has no place in a cohort, neither as a patient's nor as a row of it; "" where it has one.

    The one place that decides it.
    """
    if findings.status != "findings" or total_volume_mm3(findings) is None:
        return "no lesion volume"
    if findings.not_typical:
        return "not typical of demyelination"
    if person.age is None or person.sex is None:
        return "age or sex is not known"
    if person.age < ADULT:
        return f"below {ADULT} years"
    return ""


def percentile_of(findings: Findings, image: Dataset, cohort: Cohort, digest: str) -> Percentile | None:
    """Return the place of a study's lesion volume in a cohort; None where it has none, or the cohort is too small.

    Rows that the same pipeline measured come first; those outlined by hand take their place where they are too few.

    Parameters
    ----------
    image : Dataset
        Header of one of its images.
    digest : str
        Of the pipeline that measured it (`pipeline_digest`).
    """
    person = person_of(image)
    volume_mm3 = total_volume_mm3(findings)
    if why_not_compared(findings, person) or person.age is None or person.sex is None or volume_mm3 is None:
        return None
    for measured_by in (digest, BY_HAND):
        rows = [row for row in cohort.rows if row.pipeline == measured_by]
        found = matched(rows, person.age, person.sex)
        if found is None:
            continue
        years, same = found
        volumes = [row.volume_ml for row in same]
        if _is_vague(findings, volumes):
            return None
        lower = sum(volume < volume_mm3 / 1000 for volume in volumes)
        low, high = wilson(lower, len(same))
        return Percentile(
            share=lower / len(same),
            low=low,
            high=high,
            patients=len(same),
            group=cohort.group,
            source=" and ".join(sorted({row.source for row in same})),
            by_hand=measured_by == BY_HAND,
            matched_years=years,
        )
    return None


def matched(rows: Sequence[Row], age: float, sex: Sex) -> tuple[int | None, list[Row]] | None:
    """Return the closest match that has enough rows (`MATCHES`): within how many years, and the rows; None without one."""
    at_age = min(math.floor(age), OLDEST)
    for years, fewest in MATCHES:
        same = [row for row in rows if years is None or (row.sex == sex and abs(row.age - at_age) <= years)]
        if len(same) >= fewest:
            return years, same
    return None


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score, within [0, 1].

    Parameters
    ----------
    successes, trials : int
        0 <= successes <= trials, trials >= 1.
    """
    z2 = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return (
        0.0 if successes == 0 else max(0.0, centre - half),
        1.0 if successes == trials else min(1.0, centre + half),
    )


def _is_vague(findings: Findings, volumes: Sequence[float]) -> bool:
    """Tell whether the volume's own interval is wider than the middle half of the cohort."""
    interval = total_volume_interval(findings)
    if interval is None:
        return False
    first, _, third = quantiles(volumes, n=4, method="inclusive")
    return (interval.high - interval.low) / 1000 > third - first
