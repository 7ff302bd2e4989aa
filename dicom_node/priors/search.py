"""One search for the priors of a job: the node's own store first, then the archive, study by study, until one is chosen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from dicom_node.errors import PriorError, SpoolError
from dicom_node.jobs.indexing import series_identity
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import SeriesState
from dicom_node.jobs.store import Store
from dicom_node.priors.again import WAITS_S, AskAgainError
from dicom_node.priors.archive import Archive
from dicom_node.priors.arrival import Takes
from dicom_node.priors.catalogue import Choice, catalogue_of
from dicom_node.priors.examination import Examination, examination_of, patient_key
from dicom_node.priors.find import SeriesFound
from dicom_node.priors.preference import choice_in_words, choose_prior, newest_first, prior_in_words
from dicom_node.priors.prior import Prior, own_priors, prior_in
from dicom_node.priors.retrieve import retrieve
from dicom_node.priors.window import opens_in_s
from dicom_node.spool.prior_requests import NOT_WHOLE, PriorRequests
from dicom_node.spool.prior_searches import PriorSearch
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog

EXTEND_S = 5.0
"""A request is extended no more often than so, while the archive says that it is still at it."""


class Verdicts(Protocol):
    """Waiter for the verdicts on series that come in."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is a new one, or the time is over; False when the node stops."""


@dataclass
class _Found:
    """Findings of one pass: priors that are here, and why the archive is to be asked again, if it is."""

    priors: list[Prior] = field(default_factory=list)
    again: str = ""


class Searcher:
    """Does searches, each from the beginning to its end or to the next wait; may be used by several threads.

    Parameters
    ----------
    archive : Archive
        Is asked.
    spool, store, worklog
        The node's own.
    requests : PriorRequests
        Where what is asked for is written down before.
    guard : context manager
        See `dicom_node.intake.intake.Intake`.
    takes : Takes
        Gets what comes over connections of our own making.
    verdicts : Verdicts
        Waits for the verdicts on what has come.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        spool: Spool,
        store: Store,
        worklog: Worklog,
        requests: PriorRequests,
        guard: AbstractContextManager[object],
        takes: Takes,
        verdicts: Verdicts,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._archive, self._section = archive, archive.section
        self._spool, self._store, self._worklog = spool, store, worklog
        self._requests, self._guard, self._takes = requests, guard, takes
        self._verdicts, self._clock = verdicts, clock

    def run(self, search: PriorSearch, job: JobRow) -> None:
        """Look for the priors of a job; `search` says afterwards what was done, and whether it is done."""
        try:
            examination = examination_of(self._store, job)
        except PriorError as error:
            search.note(str(error))
            self._end(search, str(error))
            return
        own = self._own(search, examination)
        found = _Found(list(own.values()))
        closed_s = opens_in_s(self._section.window, datetime.fromtimestamp(self._clock()).astimezone())
        reason = ""
        if closed_s:
            search.note(f"{self._archive.name} is asked within {self._section.window} only")
        else:
            try:
                self._ask(search, examination, job, own, found)
            except AskAgainError as error:
                found.again = str(error)
            except PriorError as error:
                reason = f"{self._archive.name}: {error}"
                search.note(reason)
        self._take(search, found.priors, choose_prior(found.priors, examination))
        if found.again:
            self._wait(search, found.again)
        elif closed_s and len(own) < self._section.max_studies:
            search.next_at = self._clock() + closed_s
        else:
            self._end(search, reason)

    # Own store

    def _own(self, search: PriorSearch, examination: Examination) -> dict[str, Prior]:
        """Return the priors that the node has already, one of each study."""
        own, lines = own_priors(self._store, self._spool, examination, self._section)
        for line in lines:
            search.note(f"in the node already: {line}")
        return own

    # The archive

    def _ask(
        self,
        search: PriorSearch,
        examination: Examination,
        job: JobRow,
        own: dict[str, Prior],
        found: _Found,
    ) -> None:
        catalogue = catalogue_of(
            self._archive, examination, patient_key(self._spool, job), self._spool.identity_key, set(own)
        )
        for line in catalogue.lines():
            search.note(f"{self._archive.name}: {line}")
        if not search.tries:
            for reason, count in Counter(catalogue.identity_refusals).items():
                self._worklog.write("prior-refused", job.id, reason=reason, count=count)

        def obtain(choice: Choice) -> Prior | None:
            prior = self._first_of(search, examination, choice, found)
            found.priors += [] if prior is None else [prior]
            return prior

        options: list[Prior | Choice] = [*own.values(), *catalogue.choices]
        choose_prior(options, examination, self._section.max_studies, obtain)

    def _first_of(
        self, search: PriorSearch, examination: Examination, choice: Choice, found: _Found
    ) -> Prior | None:
        """Return the first series of a study that is a prior, once it is here; None where none is, or none is here yet."""
        for series in choice.series:
            try:
                prior = self._obtain(search, examination, choice, series)
            except AskAgainError as error:
                search.note(f"{self._archive.name}: {error}")
                found.again = str(error)
                return None
            if isinstance(prior, Prior):
                return prior
            identity = series_identity(series.series_uid)
            search.note(f"series {identity[:8]} is not used: {prior}")
            self._worklog.write("prior-refused", examination.job_id, series=identity, reason=prior)
        return None

    def _obtain(
        self, search: PriorSearch, examination: Examination, choice: Choice, series: SeriesFound
    ) -> Prior | str:
        """Return a series of the archive as a prior, or why it is none, once it is here.

        Raises
        ------
        AskAgainError
            It has not come, or not all of it.
        PriorError
            The archive gives nothing.
        """
        uid = series.series_uid
        if self._must_be_asked_for(series, examination.job_id):
            days = examination.days_since(choice.day)
            search.note(
                f"{self._archive.name} is asked for series {series_identity(uid)[:8]} of {choice.day}, {days} days earlier "
                f"({self._section.retrieve})"
            )
            self._worklog.write(
                "prior-asked",
                examination.job_id,
                series=series_identity(uid),
                destination=self._archive.name,
                days=days,
            )
            self._retrieve(search, series)
        return self._once_settled(uid, examination)

    def _must_be_asked_for(self, series: SeriesFound, job_id: str) -> bool:
        """Write down that a series is asked for, unless it is here; tell whether it is to be asked for now."""
        uid = series.series_uid
        with self._guard:  # no image of it is filed between the look and the request
            row = self._store.series(uid)
            known = self._requests.of(uid)
            if row is not None and not (_lacks_images(row) and known is not None):
                return False
            now = self._clock()
            if row is None and known is not None and known.job_id != job_id and now <= known.valid_until:
                return False  # another search has just asked for it
            self._requests.ask(uid, series.study_uid, job_id, now, self._section.wait_s)
            return True

    def _retrieve(self, search: PriorSearch, series: SeriesFound) -> None:
        uid = series.series_uid
        extended_at = self._clock()

        def on_progress() -> None:
            nonlocal extended_at
            now = self._clock()
            if now - extended_at >= EXTEND_S:
                extended_at = now
                self._requests.extend(uid, now + self._section.wait_s)

        try:
            said = retrieve(
                self._archive,
                series.study_uid,
                uid,
                spool=self._spool,
                takes=self._takes,
                on_progress=on_progress,
            )
        except AskAgainError as error:
            if self._store.series(uid) is None:
                raise
            said = str(error)  # some of it has come: perhaps all of it
        except SpoolError as error:
            raise AskAgainError(str(error)) from error
        search.note(f"{self._archive.name}: {said}")
        self._requests.extend(uid, self._clock() + self._section.wait_s)

    def _once_settled(self, uid: str, examination: Examination) -> Prior | str:
        """Wait for the verdict on a series that comes in, and return it as a prior, or why it is none."""
        until = self._clock() + self._section.wait_s
        while True:
            row = self._store.series(uid)
            if row is not None and row.state != SeriesState.RECEIVING and not _lacks_images(row):
                if row.state in {SeriesState.IGNORED, SeriesState.HELD}:
                    return row.reason
                return prior_in(self._store, self._spool, examination, row, self._section)
            left_s = until - self._clock()
            if left_s <= 0:
                raise AskAgainError(_lack(row, self._section.wait_s))
            if not self._verdicts.wait(min(left_s, 1.0)):
                raise AskAgainError("the node was stopped while it waited")

    # The end of a pass

    def _take(self, search: PriorSearch, found: list[Prior], chosen: Prior | None) -> None:
        """Note the chosen prior of a pass and the newest others, and tell of those that were not told of."""
        if chosen is None:
            search.priors, search.choice, search.others = [], "", []
            return
        others = [one for one in newest_first(found) if one.series_uid != chosen.series_uid]
        kept = [chosen, *others][: self._section.max_studies]
        search.choice = choice_in_words(chosen, others)
        search.others = [prior_in_words(one) for one in others]
        search.note(search.choice)
        told, search.priors = search.priors, [prior.series_uid for prior in kept]
        for prior in kept:
            if prior.series_uid not in told:
                self._worklog.write(
                    "prior-found",
                    search.job_id,
                    series=series_identity(prior.series_uid),
                    days=prior.days,
                    images=len(prior.images),
                )

    def _wait(self, search: PriorSearch, reason: str) -> None:
        """Put a search off, or end it after the last wait."""
        if search.tries >= len(WAITS_S):
            self._end(search, f"{self._archive.name}: {reason} (given up after {search.tries + 1} tries)")
            return
        wait_s = WAITS_S[search.tries]
        search.tries += 1
        search.next_at, search.reason = self._clock() + wait_s, f"{self._archive.name}: {reason}"
        search.note(f"{search.reason}; again in {wait_s / 60:g} min")
        self._worklog.write(
            "prior-retry", search.job_id, destination=self._archive.name, reason=reason, wait_s=wait_s
        )

    def _end(self, search: PriorSearch, reason: str) -> None:
        search.state, search.next_at = "done", 0.0
        count = len(search.priors)
        if count:
            search.reason = f"{count} prior{'' if count == 1 else 's'}"
        else:
            search.reason = f"no prior: {reason or 'no earlier study has a series that fits'}"
            self._worklog.write("prior-none", search.job_id, reason=search.reason)
        search.note(search.reason)


def _lacks_images(row: SeriesRow) -> bool:
    return row.state == SeriesState.IGNORED and row.reason.startswith(NOT_WHOLE)


def _lack(row: SeriesRow | None, wait_s: float) -> str:
    if row is None:
        return f"nothing of the series came within {wait_s:g} s"
    return row.reason or f"the series is still coming in after {wait_s:g} s"
