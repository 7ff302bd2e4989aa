"""Pages by their paths: the overview at ``/``, ``/worklog``, ``/why/ID``, and the style sheet."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable

from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError, NotFoundError
from dicom_node.jobs.known_workers import Workers
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import histories
from dicom_node.overview import page
from dicom_node.overview.collect import collect
from dicom_node.overview.overview import Overview
from dicom_node.overview.web import Answer
from dicom_node.spool.spool import Spool
from dicom_node.worklog.follow import last_records
from dicom_node.worklog.records import ID_LENGTH, Record

RECENT_LINES, WORKLOG_LINES = 12, 200
KEPT_S = 1.0
"""So long an overview is shown again rather than made anew, however many look at it."""

_WHY = re.compile(r"/why/([0-9a-f]{8,32})")


class Pages:
    """Makes the pages of a node that runs; safe from several threads.

    Parameters
    ----------
    store, spool, settings
        The node's.
    workers : callable
        Gives those that are known.
    troubles : callable
        Gives what only the node itself knows of.
    pipelines : iterable of str
        Names of those that are installed.
    clock : callable
        UTC seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        settings: Settings,
        *,
        workers: Callable[[], Workers],
        troubles: Callable[[], Iterable[str]] = tuple,
        pipelines: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._spool, self._settings = store, spool, settings
        self._workers = workers
        self._troubles = troubles
        self._pipelines = tuple(pipelines)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Overview | None = None
        self._ae_title = settings.node.ae_title

    def overview(self) -> Overview:
        """Return the overview, at most a second old.

        Raises
        ------
        StateError
            The database can't be used.
        """
        with self._lock:
            now = self._clock()
            if self._kept is None or not 0 <= now - self._kept.at < KEPT_S:
                self._kept = collect(
                    self._store,
                    self._spool,
                    self._settings,
                    self._workers(),
                    troubles=self._troubles(),
                    pipelines=self._pipelines,
                    now=now,
                )
            return self._kept

    def answer(self, path: str) -> Answer | None:
        """Return the page at a path; None where there is none."""
        try:
            return self._answer(path)
        except NotFoundError as error:
            return self._message("Not found", str(error), "404 Not Found")
        except NodeError as error:
            return self._message("Not now", str(error), "503 Service Unavailable")
        except OSError as error:  # of the machine: a data folder that is away
            text = f"{error.filename or 'data folder'}: {error.strerror}"
            return self._message("Not now", text, "503 Service Unavailable")

    def _answer(self, path: str) -> Answer | None:
        if path == "/":
            return Answer(page.overview_page(self.overview(), last_records(self._spool.root, RECENT_LINES)))
        if path == "/worklog":
            records = last_records(self._spool.root, WORKLOG_LINES)
            return Answer(page.worklog_page(self._ae_title, records, self._clock()))
        if path == "/style.css":
            return Answer(page.style_sheet(), "text/css; charset=utf-8")
        found = _WHY.fullmatch(path)
        return self._why(found[1]) if found else None

    def _why(self, wanted: str) -> Answer:
        match = self._store.find(wanted)
        found = histories(self._store, match, self._workers(), self._spool)
        parts = [part for _, of_series in found for part in of_series]
        named = {part.id[:ID_LENGTH] for part in parts}

        def is_of_it(record: Record) -> bool:
            return not named.isdisjoint({record.id, record.figures.get("series"), record.figures.get("job")})

        records = last_records(self._spool.root, WORKLOG_LINES, is_of_it)
        return Answer(page.why_page(self._ae_title, wanted, parts, records, self._clock()))

    def _message(self, heading: str, text: str, status: str) -> Answer:
        return Answer(page.message_page(self._ae_title, heading, text, self._clock()), status=status)
