"""Identities of lesions in a comparison: which are those of the prior, and which are new.

A lesion keeps the identity of the prior's lesion with which it shares most. Of lesions that have merged the largest gives
its own, and the others are named; of one that has split the part that shares most keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import dist
from typing import Final

from dicom_node.jobs.message import KnownLesion, PriorImages
from dicom_node.jobs.tracked_lesions import identifier_of
from dicom_node.results.tracking import TrackedLesion
from dicom_node.standard.uids import derived_uid
from pipelines.comparison import Examined, LesionMatch, heirs_of
from pipelines.types import Lesion

SAME_PLACE_MM: Final = 5.0
"""Distance of the centres of one lesion in two analyses of one series, at most."""


@dataclass(frozen=True)
class Tracking:
    """Identities that a comparison gives or takes over.

    Attributes
    ----------
    current, prior : mapping of int to TrackedLesion
        By the IDs of the lesions in both examinations.
    """

    current: Mapping[int, TrackedLesion]
    prior: Mapping[int, TrackedLesion]

    def for_objects(self) -> dict[int, TrackedLesion]:
        """Return them as the builder of objects takes them: those of the prior by the negative of its IDs."""
        return {**self.current, **{-number: lesion for number, lesion in self.prior.items()}}


@dataclass
class _Identities:
    """Gives new identities, none twice."""

    last_number: int
    taken: set[str] = field(default_factory=set)

    def new(self, series_uid: str, number: int, examined: str, comment: str = "") -> TrackedLesion:
        self.last_number += 1
        uid = derived_uid("lesion", series_uid, number)
        if uid in self.taken:  # of another analysis of the series, which numbered otherwise
            uid = derived_uid("lesion", series_uid, number, examined)
        self.taken.add(uid)
        return TrackedLesion(uid, identifier_of(self.last_number), comment)


def track(
    matches: Iterable[LesionMatch],
    current: tuple[str, Examined, str],
    prior: tuple[str, Examined, str],
    known: PriorImages,
) -> Tracking:
    """Return the identities of the lesions of two examinations; the same for the same input.

    Parameters
    ----------
    current, prior : (str, Examined, str)
        Series Instance UID, examination, and the name of its analysis.
    known : PriorImages
        With what earlier comparisons tracked.
    """
    before = [*known.lesions, *known.current_lesions]
    identities = _Identities(known.last_number, {lesion.uid for lesion in before})
    prior_uid, prior_examined, prior_name = prior
    of_prior = _recognised(prior_examined.lesions, known.lesions, prior_name)
    for lesion in prior_examined.lesions:
        if lesion.id not in of_prior:
            of_prior[lesion.id] = identities.new(prior_uid, lesion.id, prior_name)
    current_uid, current_examined, current_name = current
    own = _recognised(current_examined.lesions, known.current_lesions, current_name)
    shared = list(matches)
    heirs, volumes = heirs_of(shared), {lesion.id: lesion.volume_mm3 for lesion in prior_examined.lesions}
    of_current: dict[int, TrackedLesion] = {}
    given: set[str] = set()
    for lesion in current_examined.lesions:
        parents = sorted(
            (number for number, heir in heirs.items() if heir == lesion.id),
            key=lambda number: (-volumes.get(number, 0.0), number),
        )
        if parents:
            merged = [of_prior[number].identifier for number in parents[1:] if number in of_prior]
            kept = of_prior[parents[0]]
            comment = f"merged with {', '.join(merged)}" if merged else ""
            of_current[lesion.id] = TrackedLesion(kept.uid, kept.identifier, comment)
            given.add(kept.uid)
    for lesion in current_examined.lesions:
        if lesion.id in of_current:
            continue
        comment = _origin(lesion.id, shared, of_prior)
        mine = own.get(lesion.id)
        if mine is not None and mine.uid not in given | {one.uid for one in of_prior.values()}:
            of_current[lesion.id] = TrackedLesion(mine.uid, mine.identifier, comment)
        else:
            of_current[lesion.id] = identities.new(current_uid, lesion.id, current_name, comment)
    return Tracking(of_current, of_prior)


def known_after(
    lesions: Sequence[Lesion], tracked: Mapping[int, TrackedLesion], examined: str
) -> list[KnownLesion]:
    """Return the lesions of a series as later comparisons know them."""
    return [
        KnownLesion(
            lesion.id, lesion.centre_lps, tracked[lesion.id].uid, tracked[lesion.id].identifier, examined
        )
        for lesion in lesions
        if lesion.id in tracked
    ]


def _origin(lesion: int, matches: Sequence[LesionMatch], of_prior: Mapping[int, TrackedLesion]) -> str:
    """Return of which lesion one is a part, as a clause; "" where it is of none."""
    parents = [one for one in matches if one.lesion == lesion and one.prior_lesion in of_prior]
    if not parents:
        return ""
    parent = max(parents, key=lambda one: (one.shared_mm3, -one.prior_lesion))
    return f"split from {of_prior[parent.prior_lesion].identifier}"


def _recognised(
    lesions: Sequence[Lesion], known: Sequence[KnownLesion], examined: str
) -> dict[int, TrackedLesion]:
    """Return lesions that are known already: by number in the same analysis, by their place in another one."""
    found: dict[int, TrackedLesion] = {}
    left = {lesion.id: lesion for lesion in lesions}
    elsewhere = []
    for one in known:
        if one.examined != examined:
            elsewhere.append(one)
        elif one.number in left:
            found[one.number] = TrackedLesion(one.uid, one.identifier)
            del left[one.number]
    pairs = sorted(
        (dist(one.centre_lps, lesion.centre_lps), one.number, lesion.id)
        for one in elsewhere
        for lesion in left.values()
    )
    by_number = {one.number: one for one in elsewhere}
    for distance, number, lesion_id in pairs:
        if distance <= SAME_PLACE_MM and number in by_number and lesion_id in left:
            one = by_number.pop(number)
            found[lesion_id] = TrackedLesion(one.uid, one.identifier, "measured anew")
            del left[lesion_id]
    return found
