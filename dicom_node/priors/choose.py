"""The choice among what an archive has: which earlier studies are looked at, and which of their series are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dicom_node.config.sections import PriorsSection
from dicom_node.priors.acquisition import acquired_as_answered
from dicom_node.priors.examination import Examination
from dicom_node.priors.find import SeriesFound, StudyFound
from dicom_node.priors.gate import identity_refusal, time_refusal
from dicom_node.routing.rules import word_pattern, word_text
from dicom_node.series.completeness import MIN_SLICES
from pipelines.comparability import compare_acquisitions

LOOKED_AT = 4
"""Series of so many studies are looked at, the newest ones."""
SERIES_OF_A_STUDY = 2
"""So many series of one study are asked for, until one of them is what it seems."""
UNNAMED_OF_A_STUDY = 4
"""The same, of an archive that names no series and tells no times: the rules judge what has come."""
WORDS = word_pattern(
    ("*flair*", "dark fluid", "tirm dark*", "da fl", "fluid attenuated*", "attenuated fluid*")
)
OTHER_WORDS = word_pattern(
    (
        *(
            "research",
            "t1",
            "t1w",
            "dir",
            "double inversion",
            "double ir",
            "psir",
            "*asl",
            "perfusion",
            "dwi",
            "diff*",
        ),
        *(
            "dti",
            "adc",
            "trace*",
            "localizer",
            "localiser",
            "scout",
            "survey",
            "mip",
            "mpr",
            "*spine",
            "spinal",
        ),
        *("cervical*", "thoracic*", "lumbar*", "sacr*", "hws", "bws", "lws", "wirbel*", "myelon", "rachis"),
    )
)
"""Words of names, as the built-in rules have them; the rules themselves judge the images once they are here."""
INVERSION_MS = (1500.0, 2900.0)
SHORTEST_ECHO_MS = 70.0


@dataclass(frozen=True)
class StudyVerdict:
    """Verdict on a study: "" or why it is not looked at."""

    study: StudyFound
    refusal: str


def verdicts_on(
    studies: Iterable[StudyFound], examination: Examination, section: PriorsSection
) -> list[StudyVerdict]:
    """Return a verdict on each study, in their order."""
    return [StudyVerdict(study, _refusal(study, examination, section)) for study in studies]


def _refusal(study: StudyFound, examination: Examination, section: PriorsSection) -> str:
    if study.study_uid == examination.study_uid:
        return "the study itself"
    if study.modalities and "MR" not in study.modalities:
        return "no MR"
    return identity_refusal(
        examination.identity, study.identity, ignore_issuer=section.ignore_issuer
    ) or time_refusal(examination, study.day, section)


def candidates(series: Sequence[SeriesFound], examination: Examination) -> list[SeriesFound]:
    """Return the series of a study that seem to be FLAIR by their names, the likest to the examination's first."""
    found = [one for one in series if may_be_volume(one) and WORDS.search(_names(one))]
    return sorted(found, key=lambda one: _likeness(one, examination), reverse=True)[:SERIES_OF_A_STUDY]


def may_be_volume(series: SeriesFound) -> bool:
    """Tell whether a series may hold MR slices of the head, by what the archive says of it."""
    if series.modality not in ("MR", "") or OTHER_WORDS.search(_names(series)):
        return False
    return series.images is None or series.images == 1 or series.images >= MIN_SLICES


def unnamed(series: Sequence[SeriesFound], examination: Examination) -> list[SeriesFound]:
    """Return the series of a study of which the archive tells neither description nor protocol, the likest in number first."""
    found = [one for one in series if may_be_volume(one) and not (one.description or one.protocol)]
    return sorted(found, key=lambda one: _likeness(one, examination), reverse=True)[:UNNAMED_OF_A_STUDY]


def is_flair_by_times(times: tuple[float, float]) -> bool:
    """Tell whether inversion and echo time (ms) are those of a T2-weighted FLAIR, as the built-in rules have it."""
    inversion, echo = times
    return INVERSION_MS[0] <= inversion <= INVERSION_MS[1] and echo >= SHORTEST_ECHO_MS


def _names(series: SeriesFound) -> str:
    return word_text(f"{series.description} {series.protocol}")


def with_unlikeness(series: SeriesFound, examination: Examination) -> SeriesFound:
    """Return a series with why it is of another kind than an examination's, by what the archive answers of it."""
    found = compare_acquisitions(examination.acquisition, acquired_as_answered(series.values))
    return replace(series, unlike=found.different)


def _likeness(series: SeriesFound, examination: Examination) -> tuple[bool, bool, int, str]:
    is_same = bool(series.description) and word_text(series.description) == word_text(examination.description)
    apart = abs((series.images or 0) - examination.images)
    return not series.unlike, is_same, -apart, series.series_uid
