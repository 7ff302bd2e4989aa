"""The searches for priors of a node, on threads of their own: begun after a job has its answer, put off, and taken up again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import and_, or_, select

from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.intake.intake import Intake
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.stepper import Stepper
from dicom_node.jobs.store import Store
from dicom_node.priors.archive import Archive
from dicom_node.priors.search import Searcher
from dicom_node.spool.prior_searches import PriorSearch, forget_search, read_search, searches, write_search
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog

LOGGER = logging.getLogger(__name__)

PIPELINES = ("flair",)
"""Those whose results are compared with earlier ones."""
OUTCOMES = ("findings", "none")
BEGUN_WITHIN_S = 86400.0
"""A search is begun for a job that ended so long ago at most: the node may have been down since."""
IDLE_S = 60.0
TROUBLE_S = 60.0
STOP_WAIT_S = 2.0


class _Verdicts:
    """Waits for verdicts on series, until the node stops."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._is_over = False

    def tell(self) -> None:
        """Wake all who wait: there is a new one."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def end(self) -> None:
        """Wake all who wait: there will be none."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is a new one, or the time is over; False when the node stops."""
        with self._changed:
            before = self._count
            self._changed.wait_for(lambda: self._is_over or self._count != before, timeout_s)
            return not self._is_over


class Priors:
    """Looks for the earlier studies of the patients of analysed jobs.

    Parameters
    ----------
    settings, spool, store, worklog, intake
        The node's own; the configuration names an archive.
    compare : callable, optional
        Begins the comparison that a search makes possible, unless it was begun, and returns its job's ID.
    on_ended : callable, optional
        Called with the job whose search has ended, with a prior or without.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        store: Store,
        worklog: Worklog,
        intake: Intake,
        clock: Callable[[], float] = time.time,
        compare: Callable[[PriorSearch], str] = lambda search: "",
        on_ended: Callable[[JobRow], None] = lambda job: None,
    ) -> None:
        self._spool, self._store, self._clock = spool, store, clock
        self._compare, self._on_ended = compare, on_ended
        self._requests = intake.prior_requests
        self._archive = Archive.of(settings)
        self._verdicts = _Verdicts()
        self._searcher = Searcher(
            self._archive,
            spool=spool,
            store=store,
            worklog=worklog,
            requests=intake.prior_requests,
            guard=intake.guard,
            takes=intake,
            verdicts=self._verdicts,
            clock=clock,
        )
        self._lock = threading.Lock()
        self._runs: dict[str, int] = {}  # of the jobs whose searches were begun
        self._due: dict[str, float] = {}  # when a search that waits goes on
        self._at_work: set[str] = set()
        self._steppers = [
            Stepper(f"priors-{number}", self.step, self._stumble)
            for number in range(1, settings.priors.concurrent + 1)
        ]

    def start(self) -> None:
        """Take up the searches that an earlier process left, and begin."""
        self._requests.forget_old(self._clock())
        for job_id in searches(self._spool):
            try:
                search = read_search(self._spool, job_id)
                if search is None or self._store.job(job_id) is None:
                    forget_search(self._spool, job_id)
                    continue
                self._begin_comparison(search)  # the node may have ended between the search and this
            except NodeError as error:
                LOGGER.warning("%s", error)
                continue
            self._runs[job_id] = search.run
            if search.state == "waiting":
                self._due[job_id] = search.next_at
        for stepper in self._steppers:
            stepper.start()

    def stop(self) -> None:
        """End; what is at work is taken up by the next start."""
        self._verdicts.end()
        for stepper in self._steppers:
            stepper.stop(0)
        self._archive.open.abort()
        for stepper in self._steppers:
            stepper.stop(STOP_WAIT_S)

    def wake(self) -> None:
        """Look for new jobs now: one has its answer."""
        self._steppers[0].wake()

    def verdict_told(self, series_uid: str) -> None:
        """Go on with the searches that wait for series: one has its verdict."""
        self._verdicts.tell()

    def step(self) -> float:
        """Do one search that is due; return the seconds until the next one may be."""
        with self._lock:
            self._begin_new()
            now = self._clock()
            job_id = min(
                (one for one, at in self._due.items() if at <= now and one not in self._at_work),
                key=lambda one: self._due[one],
                default=None,
            )
            if job_id is None:
                waits = [at - now for one, at in self._due.items() if one not in self._at_work]
                return max(0.0, min([IDLE_S, *waits]))
            self._at_work.add(job_id)
        try:
            self._search(job_id)
        finally:
            with self._lock:
                self._at_work.discard(job_id)
        return 0.0

    def _begin_new(self) -> None:
        """Begin a search for each job that has its answer since the last look."""
        for job_id, run in self._answered():
            if self._runs.get(job_id, 0) < run:
                write_search(self._spool, PriorSearch(job_id, run))
                self._runs[job_id], self._due[job_id] = run, 0.0

    def _answered(self) -> list[tuple[str, int]]:
        """Return jobs whose results are there, with their runs."""
        ended = and_(
            JobRow.state.in_((JobState.DELIVERED, JobState.UNDELIVERED)),
            JobRow.ended_at > self._clock() - BEGUN_WITHIN_S,
        )
        query = select(JobRow.id, JobRow.run).where(
            or_(JobRow.state == JobState.DELIVERING, ended),
            JobRow.pipeline.in_(PIPELINES),
            JobRow.outcome.in_(OUTCOMES),
        )
        with self._store.reading() as session:
            return [(job_id, run) for job_id, run in session.execute(query)]

    def _search(self, job_id: str) -> None:
        search, job = read_search(self._spool, job_id), self._store.job(job_id)
        if search is None or job is None:
            self._due.pop(job_id, None)
            return
        try:
            self._searcher.run(search, job)
        except Exception:
            with self._lock:
                self._due[job_id] = self._clock() + TROUBLE_S
            raise
        if self._archive.open.are_aborted:
            return  # begun anew by the next start
        write_search(self._spool, search)
        self._begin_comparison(search)
        with self._lock:
            if search.state == "done":
                self._due.pop(job_id, None)
            else:
                self._due[job_id] = search.next_at
        if search.state == "done":
            self._on_ended(job)

    def _begin_comparison(self, search: PriorSearch) -> None:
        """Have what a search found compared, and note by which job."""
        job_id = self._compare(search)
        note = f"compared by job {job_id[:8]}"
        if job_id and note not in (text for _, text in search.steps):
            search.note(note)
            write_search(self._spool, search)

    def _stumble(self, error: Exception) -> float:
        LOGGER.error("a search for priors stumbled; again in %g s", TROUBLE_S, exc_info=error)
        return TROUBLE_S
