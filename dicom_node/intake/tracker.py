"""Series that are still coming in: when is one whole, held, or no volume at all."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dicom_node.errors import NotFoundError, StateError
from dicom_node.jobs.stepper import Stepper
from dicom_node.series.completeness import Assessment, assess
from dicom_node.series.headers import ImageHeader

LOGGER = logging.getLogger(__name__)

FORGET_AFTER_S = 10.0
"""How long a series that was handed on is remembered; the node's database knows it for longer.

A header takes 3.5 kB: what a fast archive sends in minutes must not stay in memory.
"""

ENDED_ASSOCIATIONS = 1000
"""How many ended associations are remembered, for images that are filed late."""

RETRY_S = 2.0
"""A listener that could not take a verdict (database locked, disk full) is told again after this time."""

NEVER = math.inf
AT_ONCE = -math.inf

Phase = Literal["waiting", "held", "settled"]


@dataclass
class _Series:
    headers: dict[str, ImageHeader] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)  # associations that brought it and have not ended
    phase: Phase = "waiting"
    last_at: float = 0.0  # of its last image
    not_before: float = AT_ONCE
    held_reason: str = ""
    released: str = ""  # to go on without being whole: the note for the report
    told: frozenset[str] = frozenset()  # images of the last verdict
    _assessment: Assessment | None = None

    @property
    def assessment(self) -> Assessment:
        if self._assessment is None:
            try:
                self._assessment = assess(list(self.headers.values()))
            # Headers come from strangers: whatever they do to the judgement, the other series get theirs.
            except Exception as error:
                LOGGER.exception("a series can't be judged")
                reason = f"its headers can't be judged ({type(error).__name__})"
                self._assessment = Assessment("not-a-volume", reason, False, len(self.headers), None)
        return self._assessment

    @property
    def may_be_provable(self) -> bool:
        """Tell, from the last image alone, whether it is worth looking at all of them for a proof.

        Else a series of which each image comes over an association of its own would be judged anew for each.
        """
        count = len(self.headers)
        last = next(reversed(self.headers.values())) if count else None
        return last is not None and (last.images_in_acquisition == count or (count == 1 and last.frames > 1))

    def reopen(self, now: float) -> None:
        """Wait for a new verdict."""
        self.phase, self.last_at, self.not_before = "waiting", now, AT_ONCE
        self._assessment = None


@dataclass(frozen=True)
class _Verdict:
    series_uid: str
    series: _Series
    kind: Literal["whole", "held", "not-a-volume"]
    headers: list[ImageHeader]
    text: str


class Tracker:
    """Follows series from their first image to a verdict.

    A series gets its verdict when all associations that brought it have ended and no image has come for
    `quiet_s`; both are waived where the headers prove that nothing more will come. A late image makes it
    wait for a new verdict on all its images.

    Parameters
    ----------
    quiet_s, incomplete_after_s : float
        Seconds after the last image.
    incomplete : "hold" or "analyse"
        What becomes of a series with a gap after `incomplete_after_s`.
    on_whole : callable
        Gets series UID, headers and a note ("" or what the report must say), once for each set of images.
    on_held : callable
        Gets series UID and reason, when a gap is found or has changed.
    on_not_volume : callable
        Gets series UID, headers and reason, once for each set of images.
    clock : callable
        Seconds that never go back.

    Notes
    -----
    Callbacks run on the tracker's thread (or in `step`), without its lock. One that raises is called again
    after RETRY_S.
    """

    def __init__(
        self,
        *,
        quiet_s: float,
        incomplete_after_s: float,
        incomplete: Literal["hold", "analyse"],
        on_whole: Callable[[str, list[ImageHeader], str], None],
        on_held: Callable[[str, str], None],
        on_not_volume: Callable[[str, list[ImageHeader], str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet_s = quiet_s
        self._incomplete_after_s = incomplete_after_s
        self._incomplete = incomplete
        self._on_whole = on_whole
        self._on_held = on_held
        self._on_not_volume = on_not_volume
        self._clock = clock
        self._series: dict[str, _Series] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()
        self._stepper = Stepper("series-tracker", self.step, self._stumble)

    def add(self, header: ImageHeader, association_id: str | None, *, is_new: bool = True) -> None:
        """Take an image that was filed; one that the series has already counts for its association only.

        Parameters
        ----------
        header : ImageHeader
        association_id : str or None
            What brought it.
        is_new : bool
            False: it was filed before. It makes no series known again that has had its verdict on it.
        """
        with self._lock:
            if not is_new and header.series_uid not in self._series:
                return
            series = self._series.setdefault(header.series_uid, _Series(last_at=self._clock()))
            if association_id is not None and association_id not in self._ended:
                series.open.add(association_id)
            if header.sop_instance_uid not in series.headers:
                series.headers[header.sop_instance_uid] = header
                series.reopen(self._clock())
            # Else nothing is due before the association ends.
            if not series.open or series.released or series.may_be_provable:
                self._stepper.wake()

    def correct(self, header: ImageHeader, association_id: str | None) -> None:
        """Take a corrected copy of an image of a series that is followed: it gets a new verdict, though on the same images."""
        with self._lock:
            series = self._series.setdefault(header.series_uid, _Series())
            if association_id is not None and association_id not in self._ended:
                series.open.add(association_id)
            series.headers[header.sop_instance_uid] = header
            series.told = frozenset()
            series.reopen(self._clock())
            self._stepper.wake()

    def awaits(self, series_uid: str) -> bool:
        """Tell whether a series is followed that has had no verdict on its images yet."""
        with self._lock:
            series = self._series.get(series_uid)
            return series is not None and series.phase == "waiting"

    def association_ended(self, association_id: str) -> None:
        """Note that an association has ended and that all its images have been added."""
        with self._lock:
            self._ended[association_id] = None
            while len(self._ended) > ENDED_ASSOCIATIONS:
                self._ended.popitem(last=False)
            for series in self._series.values():
                series.open.discard(association_id)
            self._stepper.wake()

    def restore(self, series_uid: str, headers: Sequence[ImageHeader], *, is_held: bool = False) -> None:
        """Take up a series as the database has it; what is known of it from here stays.

        Parameters
        ----------
        is_held : bool
            Its gap has been told; otherwise its verdict is outstanding, and comes after `quiet_s`.
        """
        with self._lock:
            known = self._series.get(series_uid)
            series = known or _Series()
            series.headers.update({header.sop_instance_uid: header for header in headers})
            if known is None or not is_held:
                series.reopen(self._clock())
                series.told = frozenset()
            if known is None and is_held and series.assessment.state != "whole":
                series.phase, series.held_reason = "held", series.assessment.reason
            self._series[series_uid] = series
            self._stepper.wake()

    def release(self, series_uid: str) -> None:
        """Hand a series on as it is, because a person says so.

        Raises
        ------
        NotFoundError
            No such series is followed.
        StateError
            It holds images of more than one patient or study: nobody can release that.
        """
        with self._lock:
            series = self._series.get(series_uid)
            if series is None:
                raise NotFoundError("this series is not being followed")
            if not series.assessment.may_be_released:
                raise StateError(
                    f"{series.assessment.reason}: that can't be released; have the archive send the series anew, corrected"
                )
            series.released = "analysed as it is, released by a person"
            series.phase, series.told = "waiting", frozenset()
            self._stepper.wake()

    def start(self) -> None:
        """Follow series on a thread of its own until `stop`."""
        self._stepper.start()

    def stop(self) -> None:
        """End the thread after the callback at work."""
        self._stepper.stop()

    def step(self) -> float | None:
        """Give all verdicts that are due; return seconds to the next one, None if nothing is awaited."""
        with self._lock:
            now = self._clock()
            due = [(uid, series) for uid, series in self._series.items() if self._due_at(series) <= now]
            verdicts = [verdict for uid, series in due if (verdict := self._judge(uid, series))]
        for verdict in verdicts:
            self._tell(verdict)
        with self._lock:
            waits = [self._due_at(series) for series in self._series.values()]
            next_at = min(waits, default=NEVER)
            return None if next_at == NEVER else max(0.0, next_at - self._clock())

    def _stumble(self, error: Exception) -> float:
        LOGGER.error("no verdicts could be given; again in %s s", RETRY_S, exc_info=error)
        return RETRY_S

    def _due_at(self, series: _Series) -> float:
        if series.phase == "settled":
            return NEVER if series.open else series.last_at + FORGET_AFTER_S
        if series.released:
            return series.not_before
        if series.open and not (series.phase == "waiting" and series.may_be_provable):
            return NEVER
        if series.phase == "held":
            waits = self._incomplete == "analyse" and series.assessment.state == "incomplete"
            return max(series.last_at + self._incomplete_after_s, series.not_before) if waits else NEVER
        if series.may_be_provable and series.assessment.provable:
            return series.not_before
        return NEVER if series.open else max(series.last_at + self._quiet_s, series.not_before)

    def _judge(self, series_uid: str, series: _Series) -> _Verdict | None:
        """Decide on a series that is due, and note the decision as told."""
        if series.phase == "settled":
            del self._series[series_uid]
            return None
        found, images = series.assessment, frozenset(series.headers)
        kind: Literal["whole", "held", "not-a-volume"] = "whole"
        text = ""
        if found.state != "whole" and series.released and found.may_be_released:
            text = f"{series.released}: {found.reason}"
        elif found.state == "not-a-volume":
            kind, text = "not-a-volume", found.reason
        elif found.state == "incomplete" and series.phase == "held":
            text = f"analysed with a gap: {found.reason}"
        elif found.state == "incomplete":
            told_before = series.held_reason == found.reason
            series.phase, series.held_reason = "held", found.reason
            return None if told_before else self._verdict(series_uid, series, "held", found.reason)
        told_before = series.told == images
        series.phase, series.told, series.released, series.held_reason = "settled", images, "", ""
        return None if told_before else self._verdict(series_uid, series, kind, text)

    def _verdict(
        self, series_uid: str, series: _Series, kind: Literal["whole", "held", "not-a-volume"], text: str
    ) -> _Verdict:
        return _Verdict(series_uid, series, kind, list(series.headers.values()), text)

    def _tell(self, verdict: _Verdict) -> None:
        try:
            if verdict.kind == "held":
                self._on_held(verdict.series_uid, verdict.text)
            elif verdict.kind == "whole":
                self._on_whole(verdict.series_uid, verdict.headers, verdict.text)
            else:
                self._on_not_volume(verdict.series_uid, verdict.headers, verdict.text)
        except Exception:  # whatever a listener meets, the other series go on and this one comes again
            LOGGER.exception("a verdict (%s) could not be taken; again in %s s", verdict.kind, RETRY_S)
            self._take_back(verdict)

    def _take_back(self, verdict: _Verdict) -> None:
        """Make a verdict that was not taken due again."""
        with self._lock:
            series = verdict.series
            series.not_before = self._clock() + RETRY_S
            if series.phase == "waiting":
                return  # a new image has come in the meantime: there will be another verdict
            series.told, series.held_reason = frozenset(), ""
            series.released = verdict.text.partition(":")[0] if verdict.kind == "whole" else ""
            series.phase = "waiting"
