"""The choice of the prior: the newest of grade A or B within three years, else the newest.

The grade follows from the headers, which are here of a prior in the node's own store, and of an archive's only once its
images are. Before that the archive's answers can only speak against it: a study all of whose series they show to be of another
kind is not asked for while another may do. So no more studies are asked for than it takes to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from dicom_node.priors.catalogue import Choice
from dicom_node.priors.examination import Examination
from dicom_node.priors.gate import DAYS_A_YEAR
from dicom_node.priors.prior import Prior

Study = TypeVar("Study", bound=Prior | Choice)
GOOD_GRADES: Final = frozenset({"A", "B"})
GOOD_WITHIN_YEARS: Final = 3
RULE: Final = f"the newest of grade A or B within {GOOD_WITHIN_YEARS} years"


def is_good(prior: Prior) -> bool:
    """Tell whether a prior is one of grade A or B within three years."""
    return prior.comparability.grade in GOOD_GRADES and _is_recent(prior.days)


def may_be_good(option: Prior | Choice, examination: Examination) -> bool:
    """Tell whether a study has, or by what the archive answers may have, a prior of grade A or B within three years."""
    if isinstance(option, Prior):
        return is_good(option)
    return _is_recent(examination.days_since(option.day)) and any(not one.unlike for one in option.series)


def newest_first(options: Iterable[Study]) -> list[Study]:
    """Return studies in the order in which they are looked at."""
    return sorted(options, key=lambda one: (one.day, one.study_uid), reverse=True)


def choose_prior(
    options: Iterable[Prior | Choice],
    examination: Examination,
    most: int = 0,
    obtain: Callable[[Choice], Prior | None] = lambda choice: None,
) -> Prior | None:
    """Return the prior to compare with, asking for as few studies as decide it; None where there is none, or none yet.

    Parameters
    ----------
    options : iterable of Prior or Choice
        Priors that are here, and studies of the archive, one for each study.
    most : int
        So many studies of the archive are had in search of a good prior. Where none is good, and a newer study was put off for
        what the archive answered of it, that one is asked for as well.
    obtain : callable
        Has a study come; returns its prior, or None.
    """
    ordered = newest_first(options)
    had: dict[str, Prior | None] = {}

    def prior_of(option: Prior | Choice) -> Prior | None:
        if isinstance(option, Prior):
            return option
        if option.study_uid not in had:
            had[option.study_uid] = obtain(option)
        return had[option.study_uid]

    for option in ordered:
        is_spent = sum(one is not None for one in had.values()) >= most
        if not may_be_good(option, examination) or (is_spent and isinstance(option, Choice)):
            continue
        prior = prior_of(option)
        if prior is not None and is_good(prior):
            return prior
    return next((prior for option in ordered if (prior := prior_of(option)) is not None), None)


def asked_in_turn(options: Iterable[Prior | Choice], examination: Examination, most: int) -> Sequence[Choice]:
    """Return the studies of an archive that would be asked for one after the other, until one is good, as far as is known."""
    ordered = newest_first(options)
    good = [option for option in ordered if may_be_good(option, examination)]
    wanted: list[Choice] = []
    for option in good or [option for option in ordered if isinstance(option, Prior) or option.series][:1]:
        if isinstance(option, Prior):
            break
        wanted.append(option)
    return wanted[:most]


def choice_in_words(prior: Prior, others: Iterable[Prior]) -> str:
    """Return which prior was chosen and why, and which others there were, in one line."""
    found = prior.comparability
    reasons = f" ({', '.join(found.reasons)})" if found.reasons else ""
    why = RULE if is_good(prior) else f"the newest: none within {GOOD_WITHIN_YEARS} years is of grade A or B"
    there = ", ".join(prior_in_words(one) for one in newest_first(others))
    return f"chosen: the study of {prior.day}, grade {found.grade}{reasons}: {why}" + (
        f"; also here: {there}" if there else ""
    )


def prior_in_words(prior: Prior) -> str:
    """Return a prior by its day and grade: ``2025-03-01 (C)``."""
    return f"{prior.day} ({prior.comparability.grade})"


def _is_recent(days: int) -> bool:
    return days <= GOOD_WITHIN_YEARS * DAYS_A_YEAR
