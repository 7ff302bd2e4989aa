"""Comparison of a series with its prior to a folder of DICOM objects in the current study: no Celery, no network.

Whatever goes wrong on the way ends in a result without objects that says why: the analysis of the series stands without it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dicom_node.errors import NodeError, ResultError
from dicom_node.jobs.message import JobMessage, PriorImages
from dicom_node.jobs.tracked_lesions import write_tracking
from dicom_node.results.comparison_record import ComparisonRecord, told_changes
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.results.tracking import TrackedLesion
from dicom_node.series.volume import LoadedSeries, load_series
from pipelines.comparison import CHANGES, Comparison, Examined, SelfGrade
from pipelines.errors import PipelineError
from pipelines.types import Pipeline, Progress, Status, Volume
from worker.analyse import fault
from worker.examination import Analyse, examined_of, keep_examined, kept_examination
from worker.tracking import known_after, track

log = logging.getLogger(__name__)

Compare = Callable[[Examined, Examined, Progress], Comparison]
Grade = Callable[[Examined, Examined, Analyse, int], SelfGrade]
Build = Callable[
    [
        Comparison,
        LoadedSeries,
        LoadedSeries,
        ResultContext,
        Mapping[int, TrackedLesion],
        Path,
    ],
    list[ResultObject],
]


class NotComparedError(NodeError):
    """Two examinations that can't be compared, which is an answer."""


def _compare(current: Examined, prior: Examined, progress: Progress) -> Comparison:
    from pipelines.change.compare import compare  # noqa: PLC0415 (a worker loads it with the first comparison)

    return compare(current, prior, progress)


def _self_grade(current: Examined, prior: Examined, analyse: Analyse, seed: int) -> SelfGrade:
    from pipelines.change.self_grading import self_grade  # noqa: PLC0415

    return self_grade(current, prior, analyse, seed)


def _build(
    comparison: Comparison,
    current: LoadedSeries,
    prior: LoadedSeries,
    context: ResultContext,
    tracking: Mapping[int, TrackedLesion],
    out: Path,
) -> list[ResultObject]:
    from dicom_node.results.change_objects import build_comparison  # noqa: PLC0415

    return build_comparison(comparison, current, prior, context, tracking, out)


@dataclass(frozen=True)
class Comparer:
    """Comparison, its trial on itself, and the builder of its objects."""

    compare: Compare = _compare
    self_grade: Grade = _self_grade
    build: Build = _build


@dataclass(frozen=True)
class Comparing:
    """One comparison that a message asks for.

    Parameters
    ----------
    message : JobMessage
        Of a comparison.
    context : ResultContext
        What the objects say of the run.
    pipeline : Pipeline
        By which both series are analysed.
    path_of : callable
        Gives a file of the data folder by its relative path.
    comparer : Comparer
    others_wait : callable
        Tells whether a fresh study waits for this worker.
    progress : callable
        Called as ``progress(stage, seconds)`` after each stage.
    """

    message: JobMessage
    context: ResultContext
    pipeline: Pipeline
    path_of: Callable[[str], Path]
    comparer: Comparer
    others_wait: Callable[[], bool]
    progress: Progress

    def run(self, out: Path) -> Manifest:
        """Compare, and write objects, record and manifest into ``out``; nothing but a manifest where there is no comparison."""
        timings_s: dict[str, float] = {}
        status: Status
        comparison: Comparison | None = None
        objects: list[ResultObject] = []
        try:
            comparison, objects = self._run(out, timings_s)
            status, reason = ("findings" if told_changes(comparison) else "none"), ""
            if not _is_compared(comparison):
                status, reason = "unsuitable", _why_not(comparison)
        except NotComparedError as error:
            status, reason = "unsuitable", str(error)
        except MemoryError:
            status, reason = "failed", "out of memory"
        except Exception as error:  # noqa: BLE001 - as in worker.analyse: it ends in an answer, not in silence
            status, reason = (
                "failed",
                str(error) if isinstance(error, (NodeError, PipelineError)) else fault(error),
            )
            _clear(out)
            comparison, objects = None, []
        manifest = Manifest(
            job_id=self.context.job_id,
            run=self.context.run,
            pipeline=self.context.pipeline,
            status=status,
            reason=reason,
            created_at=self.context.created_at.isoformat(),
            objects=tuple(objects),
            timings_s={**timings_s, **(comparison.timings_s if comparison else {})},
            figures=change_figures(comparison) if comparison is not None else {},
            warnings=comparison.warnings if comparison else (),
            models=tuple(asdict(card) for card in comparison.models) if comparison else (),
        )
        manifest.write(out)
        return manifest

    def _run(self, out: Path, timings_s: dict[str, float]) -> tuple[Comparison, list[ResultObject]]:
        told = self.message.prior or PriorImages((), "", refusal="the message names no prior")
        if told.refusal:
            raise NotComparedError(told.refusal)
        if self.message.note:
            raise NotComparedError(f"the series is not whole: {self.message.note}")
        with _timed("read", timings_s, self.progress):
            current, prior = self._read(self.message.images, ""), self._read(told.images, "prior: ")
        with _timed("examinations", timings_s, self.progress):
            examined, before = self._examinations(current, prior, told)
        comparison = self.comparer.compare(examined, before, self.progress)
        if not _is_compared(comparison):
            ComparisonRecord.of(comparison, current, prior, {}).write(out)
            return comparison, []
        # A first run that was lost may have been over its time limit: the next one leaves out what takes longest.
        is_tried = self.message.settings.get("self_grade") and self.message.run == 1
        if is_tried and not self.others_wait():
            with _timed("self-grading", timings_s, self.progress):
                comparison = replace(comparison, self_grade=self._graded(examined, before))
        with _timed("objects", timings_s, self.progress):
            return comparison, self._objects(comparison, (current, examined), (prior, before), told, out)

    def _read(self, images: Sequence[str], whose: str) -> LoadedSeries:
        try:
            series = load_series([self.path_of(relative) for relative in images])
        except NodeError as error:
            raise NotComparedError(f"{whose}{error}") from error
        if series.volume is None:
            raise NotComparedError(f"{whose}the images have no pixels")
        return series

    def _examinations(
        self, current: LoadedSeries, prior: LoadedSeries, told: PriorImages
    ) -> tuple[Examined, Examined]:
        """Return both examinations, by the same networks: kept ones, where they are."""
        examined = self._examined(current, self.message.examined, "")
        before = self._examined(prior, told.examined, "prior: ")
        if examined.models != before.models:  # the weights have changed since one of them was kept
            examined = self._examined(current, self.message.examined, "", anew=True)
            before = self._examined(prior, told.examined, "prior: ", anew=True)
        return examined, before

    def _examined(self, series: LoadedSeries, kept_at: str, whose: str, *, anew: bool = False) -> Examined:
        assert series.volume is not None, "it was read with its pixels"
        path = self.path_of(kept_at) if kept_at else None
        kept = kept_examination(path, series.volume) if path is not None and not anew else None
        if kept is not None:
            return kept
        examined = self._analyse(series.volume, whose)
        if path is not None:
            try_to_keep(examined, path)
        return examined

    def _analyse(self, volume: Volume, whose: str = "") -> Examined:
        settings = {name: value for name, value in self.message.settings.items() if name not in OWN_SETTINGS}
        findings = self.pipeline(volume, settings, lambda stage, seconds: None)
        examined = examined_of(findings, volume)
        if examined is None:
            why = "not typical of demyelination" if findings.not_typical else findings.reason
            raise NotComparedError(f"{whose}{why or 'the analysis gives nothing to compare'}")
        return examined

    def _graded(self, examined: Examined, before: Examined) -> SelfGrade | None:
        """Return how the comparison did on itself; None where that could not be tried, which spoils no result."""
        try:
            return self.comparer.self_grade(examined, before, self._analyse, int(self.message.job_id[:8], 16))
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("the comparison was not tried on itself: %s", fault(error))
            return None

    def _objects(
        self,
        comparison: Comparison,
        current: tuple[LoadedSeries, Examined],
        prior: tuple[LoadedSeries, Examined],
        told: PriorImages,
        out: Path,
    ) -> list[ResultObject]:
        """Build the objects, and look once more that each is of the current study."""
        uid, prior_uid = _uid(current[0], "SeriesInstanceUID"), _uid(prior[0], "SeriesInstanceUID")
        tracking = track(
            comparison.matches,
            (uid, current[1], self.message.examined),
            (prior_uid, prior[1], told.examined),
            told,
        )
        objects = self.comparer.build(
            comparison, current[0], prior[0], self.context, tracking.for_objects(), out
        )
        study = _uid(current[0], "StudyInstanceUID")
        if any(item.study_uid != study for item in objects):
            raise ResultError("an object of the comparison is not of the current study: nothing is returned")
        tracked = {
            prior_uid: known_after(prior[1].lesions, tracking.prior, told.examined),
            uid: known_after(current[1].lesions, tracking.current, self.message.examined),
        }
        write_tracking(out, tracked)
        return objects


OWN_SETTINGS = frozenset({"of", "run", "prior", "self_grade"})
"""Settings of the comparison itself; the others are those of the analyses."""


def change_figures(comparison: Comparison) -> dict[str, Any]:
    """Return the numbers of a comparison: its grade, sure changes of each kind, and the possible ones together."""
    figures: dict[str, Any] = {"grade": comparison.comparability.grade}
    changes = told_changes(comparison)
    for kind in CHANGES:
        figures[kind] = sum(one.change == kind and not one.possible for one in changes)
    figures["possible"] = sum(one.possible for one in changes)
    return figures


def try_to_keep(examined: Examined, path: Path) -> None:
    """Keep an examination; where that can't be done it is made again when it is wanted."""
    try:
        keep_examined(examined, path)
    except NodeError as error:
        log.warning("what was found is not kept for comparisons: %s", error)


def _is_compared(comparison: Comparison) -> bool:
    return not comparison.not_compared and comparison.comparability.grade != "D"


def _why_not(comparison: Comparison) -> str:
    reasons = [comparison.not_compared, *comparison.comparability.reasons]
    return next(filter(None, reasons), "the acquisitions can't be compared")


def _uid(series: LoadedSeries, keyword: str) -> str:
    return str(series.datasets[0].get(keyword) or "")


def _clear(out: Path) -> None:
    """Remove what a comparison that failed has written, but for the signs of the run itself."""
    for pattern in ("*.dcm", "*.png", "comparison.json", "tracking.json"):
        for path in out.glob(pattern):
            path.unlink()


@contextmanager
def _timed(stage: str, timings_s: dict[str, float], progress: Progress) -> Iterator[None]:
    began = time.monotonic()
    yield
    timings_s[stage] = round(time.monotonic() - began, 3)
    progress(stage, timings_s[stage])
