"""Counts what came in until a line of the worklog tells of it: one line for many images, not one for each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from dicom_node.jobs.schema import SeriesRow
from dicom_node.worklog.writer import Worklog

SeriesOf = Callable[[str], SeriesRow]


@dataclass
class Untold:
    """Images of one series that no line has told of yet; times are UTC seconds since the epoch."""

    images: int = 0
    calling_ae: str = ""
    first_at: float = 0.0
    last_at: float = 0.0


class Arrivals:
    """The lines ``received``, ``corrected``, ``duplicate`` and ``conflict`` of the worklog.

    Parameters
    ----------
    series_of : callable
        Gives the row of a series that has been filed.
    """

    def __init__(self, worklog: Worklog, series_of: SeriesOf) -> None:
        self._worklog = worklog
        self._series_of = series_of
        self._lock = threading.Lock()
        self._new: dict[str, Untold] = {}  # by series
        self._known: dict[str, tuple[int, int]] = {}  # by association: duplicates, conflicts
        self._brought: dict[str, set[str]] = {}  # by association: series
        self._corrected: dict[str, Counter[str]] = {}  # by association: images of each series

    def count_new(self, association_id: str, series_uid: str, calling_ae: str, at: float) -> None:
        """Count an image that was filed; the association's ID is "" for one found after a restart."""
        with self._lock:
            untold = self._new.setdefault(series_uid, Untold(first_at=at))
            untold.images += 1
            untold.last_at = at
            untold.calling_ae = calling_ae or untold.calling_ae
            if association_id:
                self._brought.setdefault(association_id, set()).add(series_uid)

    def count_known(self, association_id: str, *, is_conflict: bool) -> None:
        """Count an image that the node has already; one without an association is told of at once."""
        with self._lock:
            duplicates, conflicts = self._known.get(association_id, (0, 0))
            self._known[association_id] = (duplicates + (not is_conflict), conflicts + is_conflict)
        if not association_id:
            self._tell_known(association_id, "")

    def count_corrected(self, association_id: str, series_uid: str) -> None:
        """Count an image that came again under another identity; one without an association is told of at once."""
        with self._lock:
            self._corrected.setdefault(association_id, Counter())[series_uid] += 1
        if not association_id:
            self._tell_corrected(association_id, "")

    def tell_association(self, association_id: str, calling_ae: str) -> None:
        """Write what an association brought that has ended.

        A single image waits for its series' verdict: some callers open an association for each.
        """
        with self._lock:
            brought = self._brought.pop(association_id, set())
            several = [uid for uid in brought if uid in self._new and self._new[uid].images > 1]
        for series_uid in several:
            self.tell_series(series_uid)
        self._tell_corrected(association_id, calling_ae)
        self._tell_known(association_id, calling_ae)

    def tell_series(self, series_uid: str) -> None:
        """Write what came of a series since the last line about it."""
        with self._lock:
            untold = self._new.pop(series_uid, None)
        if untold is None:
            return
        series = self._series_of(series_uid)
        self._worklog.write(
            "received",
            series.id,
            images=untold.images,
            calling_ae=untold.calling_ae or None,
            series_number=series.series_number,
            seconds=max(0.0, untold.last_at - untold.first_at),
        )

    def _tell_corrected(self, association_id: str, calling_ae: str) -> None:
        with self._lock:
            corrected = self._corrected.pop(association_id, Counter())
        for series_uid, images in corrected.items():
            series = self._series_of(series_uid)
            self._worklog.write("corrected", series.id, images=images, calling_ae=calling_ae or None)

    def _tell_known(self, association_id: str, calling_ae: str) -> None:
        with self._lock:
            duplicates, conflicts = self._known.pop(association_id, (0, 0))
        if duplicates:
            self._worklog.write("duplicate", images=duplicates, calling_ae=calling_ae or None)
        if conflicts:
            self._worklog.write("conflict", images=conflicts)
