"""Catalogue of what an archive has of a patient, in words and with a verdict on each study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from datetime import date

from pynetdicom.association import Association

from dicom_node.priors.archive import Archive
from dicom_node.priors.choose import (
    LOOKED_AT,
    SERIES_OF_A_STUDY,
    StudyVerdict,
    candidates,
    is_flair_by_times,
    may_be_volume,
    unnamed,
    verdicts_on,
    with_unlikeness,
)
from dicom_node.priors.examination import Examination, PatientKey
from dicom_node.priors.find import SeriesFound, asking, find_series, find_studies, find_times
from dicom_node.priors.gate import identity_refusal

TIMES_ASKED_OF = 6
"""Where no series of a study has a name that tells, so many of them are asked for their inversion and echo times."""


@dataclass(frozen=True)
class Choice:
    """Earlier study with the series of it that would be asked for, the likest first; none where none seems to be FLAIR."""

    study_uid: str
    day: date
    description: str
    series: tuple[SeriesFound, ...]

    @property
    def unlike(self) -> tuple[str, ...]:
        """Reasons for which its likest series is of another kind than the examination's, where all of them are."""
        return self.series[0].unlike if self.series and all(one.unlike for one in self.series) else ()


@dataclass(frozen=True)
class Catalogue:
    """Studies that an archive has of a patient.

    Attributes
    ----------
    verdicts : list of StudyVerdict
        On each study that it answered with, the newest first.
    choices : list of Choice
        The newest ones that are looked at, but for those of which the node has a prior already.
    identity_refusals : list of str
        Reason of each study that is not the same person's.
    """

    verdicts: list[StudyVerdict]
    choices: list[Choice] = field(default_factory=list)
    identity_refusals: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield it in lines that name no patient."""
        count = len(self.verdicts)
        yield f"{count or 'no'} earlier stud{'y' if count == 1 else 'ies'} of this patient"
        for reason, refused in Counter(one.refusal for one in self.verdicts if one.refusal).items():
            yield f"{refused} not looked at: {reason}"
        older = sum(not one.refusal for one in self.verdicts) - len(self.choices)
        if older > 0:
            yield f"{older} not looked at: newer ones, or in the node already"
        for choice in self.choices:
            number = len(choice.series)
            yield f"study of {choice.day}: " + (
                f"{number} series that may fit" if number else "no series that may be FLAIR"
            )
            if choice.unlike:
                yield f"study of {choice.day}: may be of grade C, as it answers: {', '.join(choice.unlike)}"


def catalogue_of(
    archive: Archive, examination: Examination, patient: PatientKey, key: bytes, has: Set[str] = frozenset()
) -> Catalogue:
    """Ask an archive for the earlier studies of a patient and the series of those that would be looked at.

    Parameters
    ----------
    key : bytes
        Of the digests of patients, the node's own.
    has : set of str
        Study Instance UIDs of which the node has a prior.

    Raises
    ------
    AskAgainError
        It can't be reached, or breaks off.
    PriorError
        It takes no questions from us.
    """
    with asking(archive.address, archive.ae_title, archive.timeouts) as assoc, archive.open.holding(assoc):
        verdicts = verdicts_on(find_studies(assoc, examination, patient, key), examination, archive.section)
        fit = [one.study for one in verdicts if not one.refusal][:LOOKED_AT]
        choices = [
            Choice(
                study.study_uid, study.day, study.description, _series_of(assoc, study.study_uid, examination)
            )
            for study in fit
            if study.day is not None and study.study_uid not in has
        ]
    refusals = [
        reason
        for one in verdicts
        if one.refusal
        and (
            reason := identity_refusal(
                examination.identity, one.study.identity, ignore_issuer=archive.section.ignore_issuer
            )
        )
    ]
    return Catalogue(verdicts, choices, refusals)


def _series_of(assoc: Association, study_uid: str, examination: Examination) -> tuple[SeriesFound, ...]:
    """Return the series of a study that may be FLAIR: by their names, by their times, or since the archive tells neither."""
    series = [with_unlikeness(one, examination) for one in find_series(assoc, study_uid)]
    if found := candidates(series, examination):
        return tuple(found)
    by_times = [
        one
        for one in [one for one in series if may_be_volume(one)][:TIMES_ASKED_OF]
        if (times := find_times(assoc, one)) is not None and is_flair_by_times(times)
    ]
    return tuple(by_times[:SERIES_OF_A_STUDY] or unnamed(series, examination))
