"""Identity of a lesion over the years: the UID and the number under which each of its results names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackedLesion:
    """Lesion under the identity that stays with it from study to study.

    Parameters
    ----------
    uid : str
        Tracking UID (0062,0021).
    identifier : str
        Tracking identifier, the number that stands in pictures ("L07").
    comment : str
        Other identities that became part of it, as a clause ("merged with L09"); empty where there are none.
    """

    uid: str
    identifier: str
    comment: str = ""
