"""Rule by which the page of a study is due."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from dicom_node.config.sections import SummarySection
from dicom_node.jobs.states import JobState
from dicom_node.jobs.summary_job import MOST_REVISIONS
from dicom_node.study.state import StudyState

LOOK_AGAIN_S: Final = 5.0
"""A series that is judged, or a page that is made elsewhere, is told by nobody."""


@dataclass(frozen=True)
class Verdict:
    """Verdict on one study: make its page, look again in some seconds, or leave it until there is news."""

    kind: Literal["make", "wait", "leave", "spent"]
    wait_s: float = 0.0


MAKE: Final = Verdict("make")
LEAVE: Final = Verdict("leave")
SPENT: Final = Verdict("spent")
"""There is news, and no revision is left for it."""
_IN_THE_MAKING: Final = {
    JobState.QUEUED: MAKE,
    JobState.RUNNING: Verdict("wait", LOOK_AGAIN_S),
    JobState.HELD: LEAVE,
}


def verdict(state: StudyState, settings: SummarySection, now: float, *, asked: bool = False) -> Verdict:
    """Return what is to be done for a study now.

    Parameters
    ----------
    now : float
        Seconds of the epoch.
    asked : bool
        A person wants the page at once.
    """
    job = state.page.job if state.page is not None else None
    if job is not None and job.state in _IN_THE_MAKING:
        return _IN_THE_MAKING[JobState(job.state)]
    is_untrue = state.has_lost or state.promises_in_vain
    if not any(answer.has_objects for answer in state.answers) or not (state.news or is_untrue):
        return LEAVE
    if not (asked or is_untrue or any(answer.has_record for answer in state.news)):
        return LEAVE
    is_taken_back = job is not None and job.state == JobState.ABANDONED
    if state.page is not None and state.page.revision >= MOST_REVISIONS and not is_taken_back:
        return SPENT if state.news else LEAVE
    return MAKE if asked else _when(state, settings, now)


def _when(state: StudyState, settings: SummarySection, now: float) -> Verdict:
    """Return whether a page that there is something for is due already."""
    latest_at = min((answer.at for answer in state.news), default=math.inf) + settings.at_latest_s
    is_complete = state.is_judged and not state.awaited
    due_at = min(state.last_image_at + settings.after_s, latest_at) if is_complete else latest_at
    if now >= due_at:
        return MAKE
    return Verdict("wait", due_at - now if is_complete else min(LOOK_AGAIN_S, due_at - now))
