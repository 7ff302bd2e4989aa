"""Summariser: makes the page of each study once its parts are there, and again when a part comes late.

A page is a job like any other: first its record and row, then a run's folder, which is renamed when it is whole. From there on
the reconciler and the outbox have it, with receipts, retries and retention. A crash at any step leaves what the next start goes
on from.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from dicom_node.config.sections import SummarySection
from dicom_node.errors import NodeError, StateError
from dicom_node.jobs.child_process import ask_child
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.stepper import Stepper
from dicom_node.jobs.store import Store
from dicom_node.jobs.summary_job import MOST_REVISIONS, SUMMARY, summary_id
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.prior_searches import read_search
from dicom_node.spool.run_folder import LOST, STAGE, STARTED, RunFolder, last_run, note_death
from dicom_node.spool.spool import Spool
from dicom_node.study.due import LOOK_AGAIN_S, verdict
from dicom_node.study.state import AWAITED, PARTS, Answer, StudyState, state_of
from dicom_node.worklog.writer import Worklog
from pipelines.types import Status

log = logging.getLogger(__name__)

TITLE: Final = "study summary"
BUILDER: Final = "dicom_node.study.summary_process"
TIMEOUT_S: Final = 300.0
TROUBLE_S: Final = 30.0

Build = Callable[[dict[str, Any]], list[ResultObject]]


def build_apart(order: dict[str, Any]) -> list[ResultObject]:
    """Have the objects made by a process of its own.

    Raises
    ------
    NodeError
        It can't make them, or has died over them.
    """
    try:
        return [ResultObject(**one) for one in ask_child(BUILDER, order, TIMEOUT_S)["objects"]]
    except (KeyError, TypeError) as error:
        raise NodeError(f"its process answered what nobody understands: {type(error).__name__}") from error


class Summariser:
    """Makes the pages of studies, on a thread of its own.

    Parameters
    ----------
    store, spool, worklog
        The node's own.
    settings : SummarySection
        When a page is due.
    context_of : callable
        Gives what the objects of a page say of the run that made them.
    title_of : callable
        Gives what readers call a pipeline.
    again : callable
        Queues a page's job as a new run, on its ID and the reason: the reconciler's.
    on_published : callable
        Called when a page lies in the results: the reconciler's wake.
    compares : bool
        Priors are looked for: the page waits for the comparison as it does for the answer of a series.
    build : callable, optional
        Makes the objects.
    clock : callable, optional
        Seconds of the epoch.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        worklog: Worklog,
        settings: SummarySection,
        *,
        context_of: Callable[[JobRow], ResultContext],
        title_of: Callable[[str], str],
        again: Callable[[str, str], JobRow],
        on_published: Callable[[], None],
        compares: bool = False,
        build: Build = build_apart,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._spool, self._worklog = store, spool, worklog
        self._settings = settings
        self._context_of, self._title_of = context_of, title_of
        self._again, self._on_published = again, on_published
        self._compares, self._build, self._clock = compares, build, clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._asked: set[str] = set()
        self._is_begun = False
        self._told_spent: set[tuple[str, str, int]] = set()
        self._stepper = Stepper("summariser", self.step, self._stumble)

    def start(self) -> None:
        """Begin with every study that has jobs: a page may be due, or half made, since before the start."""
        self._stepper.start()

    def stop(self) -> None:
        """End the thread after the page that it is at."""
        self._stepper.stop()

    def notice(self, study_uid: str) -> None:
        """Look at a study now: it has an answer, or lost one. Waits for nothing; may be called from any thread."""
        with self._lock:
            self._due[study_uid] = 0.0
        self._stepper.wake()

    def notice_queued(self) -> None:
        """Look at the studies whose pages are to be made again, as a person asked for."""
        for pending in self._store.pending():
            job = self._store.job(pending.id) if pending.pipeline == SUMMARY else None
            if job is not None:
                self.notice(str(job.settings["study"]))

    def summarise(self, study_uid: str) -> str:
        """Make the page of a study now, as a person wants it, and say so.

        Raises
        ------
        StateError
            Nothing of the study is analysed yet, or the page has all of it.
        """
        state = self._state(study_uid)
        found = verdict(state, self._settings, self._clock(), asked=True)
        if not any(answer.has_objects for answer in state.answers):
            raise StateError("no series of this study has an answer yet: there is nothing for a page")
        if found.kind == "spent":
            raise StateError(f"the page of this study was revised {MOST_REVISIONS} times, which is the most")
        if found.kind != "make":
            made = state.page.job.id[:8] if state.page is not None and state.page.job is not None else ""
            again = f"; dicom-node retry {made} makes it again" if made else ""
            raise StateError(f"the page of this study has all of its answers{again}")
        with self._lock:
            self._asked.add(study_uid)
        self.notice(study_uid)
        parts = "1 result" if len(state.answers) == 1 else f"{len(state.answers)} results"
        return f"the page of the study is made from {parts} now"

    def _state(self, study_uid: str) -> StudyState:
        return state_of(self._store, self._spool, study_uid, compares=self._compares)

    def step(self) -> float | None:
        """Look at every study whose time has come; return the seconds until the next one's."""
        if not self._is_begun:
            for study_uid in self._store.studies_with_jobs():
                with self._lock:
                    self._due.setdefault(study_uid, 0.0)
            self._is_begun = True
        now = self._clock()
        with self._lock:
            studies = [study for study, at in self._due.items() if at <= now]
        for study_uid in studies:
            if self._stepper.stopping:
                break
            with self._lock:
                self._due.pop(study_uid, None)  # what is noticed from here on is looked at again
            wait_s = self._look(study_uid)
            if wait_s is not None:
                with self._lock:
                    self._due.setdefault(study_uid, self._clock() + wait_s)
        with self._lock:
            next_at = min(self._due.values(), default=None)
        return None if next_at is None else max(0.0, next_at - self._clock())

    def _look(self, study_uid: str) -> float | None:
        """Do what is to be done for a study; return in how many seconds to look again, None when there is news."""
        with self._lock:
            asked = study_uid in self._asked
        try:
            state = self._state(study_uid)
            found = verdict(state, self._settings, self._clock(), asked=asked)
            if found.kind == "make":
                self._make(state)
                with self._lock:
                    self._asked.discard(study_uid)
                return LOOK_AGAIN_S  # until it is published, and for what came meanwhile
        except (NodeError, OSError) as error:
            log.warning("the page of a study could not be made: %s", error)
            return TROUBLE_S
        if found.kind == "spent":
            self._tell_spent(state)
        return found.wait_s if found.kind == "wait" else None

    def _make(self, state: StudyState) -> None:
        job = self._job(state)
        folder = RunFolder.claim(self._spool.results, job.id, job.run)
        if folder is None:
            return  # begun before a crash: the reconciler sees by its lease that nobody is at it
        began = time.monotonic()
        with folder.heartbeat():
            folder.event(STARTED, worker=f"{socket.gethostname()}:{os.getpid()}")
            context = self._context_of(job)
            try:
                objects = self._build(self._order(state, job, context, folder.path))
            except NodeError as error:
                note_death(folder.path, LOST, f"no page can be made: {error}")
                return
            seconds = round(time.monotonic() - began, 3)
            folder.event(STAGE, stage="page", seconds=seconds)
            self._manifest(state, job, context, objects, seconds).write(folder.path)
        if folder.publish():
            self._on_published()

    def _job(self, state: StudyState) -> JobRow:
        """Return the queued job of the page that is due, made where there is none."""
        page = state.page
        if page is not None and page.job is not None:
            if page.job.state == JobState.QUEUED:
                return page.job
            if page.job.state == JobState.ABANDONED:
                return self._again(page.job.id, "its study was corrected")
        revision = 0 if page is None else page.revision + 1
        anchor = _anchor(state.answers)
        job_id = summary_id(state.study_uid, revision)
        replaces = page.job.id if page is not None and page.job is not None else ""
        self._store.create_job(
            job_id=job_id,
            series_uid=anchor.series_uid,
            pipeline=SUMMARY,
            rule="",
            state=JobState.QUEUED,
            settings={"study": state.study_uid, "revision": revision, PARTS: state.parts},
            images=anchor.images,
            replaces=replaces,
            run=last_run(self._spool.results, job_id) + 1,
        )
        job = self._store.job(job_id)
        if job is None:
            raise StateError(f"job {job_id[:8]} of a page is gone")
        return job

    def _order(self, state: StudyState, job: JobRow, context: ResultContext, out: Path) -> dict[str, Any]:
        """Return what the process is asked to make."""
        parts = [
            {
                "folder": str(self._spool.results / answer.job.id),
                "image": str(self._spool.absolute(answer.job.images[0])),
                "images": len(answer.job.images),
                "pipeline": answer.job.pipeline,
                "title": self._title_of(answer.job.pipeline),
                "note": answer.job.note,
            }
            for answer in state.answers
        ]
        return {
            "parts": parts,
            "awaited": list(state.awaited),
            "no_prior": self._no_prior(state),
            "context": {**asdict(context), "created_at": context.created_at.isoformat()},
            "revision": job.settings.get("revision", 0),
            "pdf": self._settings.pdf,
            "out": str(out),
        }

    def _no_prior(self, state: StudyState) -> str | None:
        """Return why the search for an earlier study ended without one; None where there was none, or it goes on."""
        for answer in state.answers:
            try:
                search = read_search(self._spool, answer.job.id)
            except StateError:  # it is told where searches are shown; the page stands without it
                continue
            if search is not None and search.state == "done" and not search.priors:
                return search.reason.removeprefix("no prior: ")
        return None

    def _manifest(
        self,
        state: StudyState,
        job: JobRow,
        context: ResultContext,
        objects: list[ResultObject],
        seconds: float,
    ) -> Manifest:
        return Manifest(
            job_id=job.id,
            run=job.run,
            pipeline=SUMMARY,
            status=_status(state.answers),
            reason="",
            created_at=context.created_at.isoformat(),
            objects=tuple(objects),
            timings_s={"page": seconds},
            figures={
                PARTS: state.parts,
                "revision": job.settings.get("revision", 0),
                AWAITED: list(state.awaited),
            },
        )

    def _tell_spent(self, state: StudyState) -> None:
        answer = state.news[0]
        if (state.study_uid, answer.job.id, answer.run) in self._told_spent:
            return
        self._told_spent.add((state.study_uid, answer.job.id, answer.run))
        reason = f"came after {MOST_REVISIONS} revisions of the study's page, and is not on it"
        self._worklog.write("warning", answer.job.id, name="summary", reason=reason)

    def _stumble(self, error: Exception) -> float:
        log.error("the summariser stumbled", exc_info=error)
        return TROUBLE_S


def _anchor(answers: tuple[Answer, ...]) -> JobRow:
    """Return the job by whose series the page stays in the data folder: of FLAIR before all else."""
    return min(
        (answer.job for answer in answers), key=lambda job: (job.pipeline != "flair", job.created_at, job.id)
    )


def _status(answers: tuple[Answer, ...]) -> Status:
    """Return the outcome of a study: findings where any series has some."""
    outcomes = [answer.job.outcome for answer in answers if answer.job.pipeline != CHANGE]
    order: tuple[Status, ...] = ("findings", "none", "unsuitable", "failed")
    return next((status for status in order if status in outcomes), "failed")
