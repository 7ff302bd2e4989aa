"""State of a study, from database and result folders: its answers, those that are awaited, and the page made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dicom_node.errors import ResultError, StateError
from dicom_node.jobs.comparison_job import CHANGE, FOLLOWS, Compared
from dicom_node.jobs.schema import JobRow, SeriesRow
from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.jobs.store import Store
from dicom_node.jobs.summary_job import MOST_REVISIONS, SUMMARY, summary_id
from dicom_node.results import findings_record
from dicom_node.results.manifest import FILE_NAME, Manifest
from dicom_node.spool.prior_searches import read_search
from dicom_node.spool.run_folder import finished_path
from dicom_node.spool.spool import Spool

_ENDED: Final = frozenset({JobState.DELIVERING, JobState.DELIVERED, JobState.UNDELIVERED})
_AWAITED: Final = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.HELD})
PARTS: Final = "parts"
"""Key of a page's figures: the runs that it was made of, by their jobs."""
AWAITED: Final = "awaited"
"""Key of a page's figures: the pipelines whose answers it says are awaited."""


@dataclass(frozen=True)
class Answer:
    """Result of one series of a study.

    Parameters
    ----------
    job : JobRow
    run : int
        The run that gave it.
    at : float
        When, in seconds of the epoch.
    has_objects : bool
    has_record : bool
        Its findings stand in a record; results of version 0.1.0 have none, and no page is made for them alone.
    """

    job: JobRow
    run: int
    at: float
    has_objects: bool
    has_record: bool = True


@dataclass(frozen=True)
class Page:
    """The last page of a study.

    Parameters
    ----------
    job : JobRow or None
        None where it was removed with its series, after its days.
    revision : int
        0 for the first.
    parts : mapping of str to int
        The runs that it was made of, by their jobs.
    at : float
        When it was made, where its job is gone.
    awaited : tuple of str
        Pipelines whose answers it says are awaited.
    """

    job: JobRow | None
    revision: int
    parts: Mapping[str, int]
    at: float = 0.0
    awaited: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyState:
    """One study at one moment.

    Parameters
    ----------
    answers : tuple of Answer
        One for each series that has one, and one for each comparison with a prior.
    awaited : tuple of str
        Pipelines of jobs that have none yet.
    is_judged : bool
        Nothing of it is coming in, and nothing waits for a person.
    last_image_at : float
        When its last image came, in seconds of the epoch.
    page : Page or None
        None where none was made yet.
    has_lost : bool
        The page holds a series that was corrected, and is of another study by now.
    """

    study_uid: str
    answers: tuple[Answer, ...]
    awaited: tuple[str, ...]
    is_judged: bool
    last_image_at: float
    page: Page | None
    has_lost: bool = False

    @property
    def parts(self) -> dict[str, int]:
        """The runs that a page made now would be of, by their jobs."""
        return {answer.job.id: answer.run for answer in self.answers}

    @property
    def promises_in_vain(self) -> bool:
        """True when the last page awaits an answer that will not come, as where a search ended without a prior."""
        answered = {answer.job.pipeline for answer in self.answers}
        promised = self.page.awaited if self.page is not None else ()
        return any(pipeline not in self.awaited and pipeline not in answered for pipeline in promised)

    @property
    def news(self) -> tuple[Answer, ...]:
        """Answers that the last page does not hold."""
        page = self.page
        if page is None:
            return self.answers
        if page.job is None:
            return tuple(answer for answer in self.answers if answer.at > page.at)
        return tuple(answer for answer in self.answers if page.parts.get(answer.job.id) != answer.run)


def state_of(store: Store, spool: Spool, study_uid: str, *, compares: bool = False) -> StudyState:
    """Return a study's state.

    Parameters
    ----------
    compares : bool
        Priors are looked for, and what has changed since is awaited as an answer of its own.

    Raises
    ------
    StateError
        The database can't be read.
    """
    rows = store.series_of_study(study_uid)
    answers: list[Answer] = []
    awaited: list[str] = []
    for series in rows:
        job = _live_job(store, series)
        if job is None:
            continue
        answer = _answer(spool, job)
        if answer is not None:
            answers.append(answer)
            change = _change(store, spool, job, compares=compares)
            if isinstance(change, Answer):
                answers.append(change)
            elif change:
                awaited.append(change)
        elif job.state in _AWAITED | _ENDED:
            awaited.append(job.pipeline)
    page = _last_page(store, spool, study_uid)
    return StudyState(
        study_uid,
        tuple(answers),
        tuple(dict.fromkeys(awaited)),
        all(row.state not in (SeriesState.RECEIVING, SeriesState.HELD) for row in rows),
        max((row.last_at for row in rows), default=0.0),
        page,
        page is not None and any(_has_left(store, study_uid, job_id) for job_id in page.parts),
    )


def _has_left(store: Store, study_uid: str, job_id: str) -> bool:
    """Tell whether a series is of another study by now; one that was removed after its days is not."""
    job = store.job(job_id)
    series = store.series(job.series_uid) if job is not None else None
    return series is not None and series.study_uid != study_uid


def _live_job(store: Store, series: SeriesRow) -> JobRow | None:
    jobs = [job for job in store.jobs_of(series.series_uid) if job.pipeline not in (SUMMARY, CHANGE)]
    live = [job for job in jobs if job.state != JobState.ABANDONED]
    return live[-1] if live else None


def _change(store: Store, spool: Spool, job: JobRow, *, compares: bool) -> Answer | str:
    """Return the comparison of an analysed series with its prior, CHANGE while that is awaited, "" where there is none."""
    if job.pipeline != FOLLOWS or job.outcome not in ("findings", "none"):
        return ""
    try:
        search = read_search(spool, job.id)
    except StateError:
        return ""
    is_done = search is not None and search.run >= job.run and search.state == "done"
    if search is None or not is_done or not search.priors:
        return CHANGE if compares and not is_done else ""
    comparison = store.job(Compared(job.id, search.run, search.priors[0]).id)
    if comparison is None or comparison.state in _AWAITED:
        return CHANGE if compares or comparison is not None else ""
    answer = _answer(spool, comparison)
    return "" if answer is None else replace(answer, has_record=True)


def _answer(spool: Spool, job: JobRow) -> Answer | None:
    folder = finished_path(spool.results, job.id) if job.state in _ENDED else None
    if folder is None:
        return None
    try:
        manifest = Manifest.read(folder)
        return Answer(
            job,
            manifest.run,
            (folder / FILE_NAME).stat().st_mtime,
            bool(manifest.objects),
            (folder / findings_record.FILE_NAME).exists(),
        )
    except (ResultError, OSError):  # taken away, or being made again
        return None


def _last_page(store: Store, spool: Spool, study_uid: str) -> Page | None:
    for revision in range(MOST_REVISIONS, -1, -1):
        job = store.job(summary_id(study_uid, revision))
        if job is not None:
            figures = _figures_of(spool, job)
            awaited = figures.get(AWAITED)
            return Page(
                job,
                revision,
                _parts_of(job, figures),
                awaited=tuple(map(str, awaited)) if isinstance(awaited, list) else (),
            )
    for revision in range(MOST_REVISIONS, -1, -1):
        traces = list(spool.results.glob(f"{summary_id(study_uid, revision)}.was*"))
        if traces:
            return Page(None, revision, {}, max(path.stat().st_mtime for path in traces))
    return None


def _figures_of(spool: Spool, job: JobRow) -> Mapping[str, object]:
    """Return the figures of a page; none where it is still to be made."""
    try:
        return Manifest.read(spool.results / job.id).figures
    except ResultError:
        return {}


def _parts_of(job: JobRow, figures: Mapping[str, object]) -> Mapping[str, int]:
    """Return what a page was made of; of one that is still to be made, what it was asked for."""
    made = figures.get(PARTS)
    parts = made if isinstance(made, dict) else job.settings.get(PARTS, {})
    return {str(name): int(run) for name, run in parts.items()}
