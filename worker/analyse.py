"""One series through one pipeline to a folder of DICOM objects: no Celery, no network.

Whatever goes wrong on the way becomes a result too, with its reason: every routed series gets an answer.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dicom_node.cohort.percentile import percentile_of
from dicom_node.cohort.table import Cohort
from dicom_node.errors import GeometryError, NodeError
from dicom_node.results.build import build_results
from dicom_node.results.context import ResultContext
from dicom_node.results.finding_pictures import write_finding_pictures
from dicom_node.results.findings_record import FindingPicture, FindingsRecord
from dicom_node.results.manifest import Manifest, ResultObject, manifest_of
from dicom_node.series.identity import doubts
from dicom_node.series.volume import LoadedSeries, load_series, load_sources
from pipelines.errors import PipelineError
from pipelines.types import Findings, Pipeline, Progress
from worker.gaps import filled, without_invented

log = logging.getLogger(__name__)

NO_SOURCES = LoadedSeries(volume=None, datasets=(), frames=())


def analyse_series(
    paths: Sequence[Path],
    pipeline: Pipeline,
    context: ResultContext,
    out: Path,
    settings: Mapping[str, object],
    progress: Progress,
    *,
    cohort: Cohort | None = None,
    pipeline_digest: str = "",
) -> Manifest:
    """Analyse the images of one series and write result objects and manifest into ``out``.

    Parameters
    ----------
    paths : sequence of Path
        The images, in any order.
    pipeline : Pipeline
        May load its model when it is first called; that it can't is a failed result.
    progress : callable
        Called as ``progress(stage, seconds)`` after each stage: "read", the pipeline's own, "objects".
    cohort : Cohort, optional
        With which the lesion volume is compared.
    pipeline_digest : str
        Of the pipeline with its weights and settings.

    Returns
    -------
    Manifest
        As written; its status tells how it ended. When not even a report could be made it has no objects.
    """
    timings_s: dict[str, float] = {}
    findings, series = _find(paths, pipeline, context, settings, progress, timings_s)
    if cohort is not None and series.datasets:
        percentile = percentile_of(findings, series.datasets[0], cohort, pipeline_digest)
        findings = replace(findings, percentile=percentile)
    with _timed("objects", timings_s, progress):
        findings, objects = _build(findings, series, paths, context, out)
        _record(findings, series, context, out, pipeline_digest)
    manifest = manifest_of(findings, context, objects, timings_s)
    manifest.write(out)
    return manifest


def _find(
    paths: Sequence[Path],
    pipeline: Pipeline,
    context: ResultContext,
    settings: Mapping[str, object],
    progress: Progress,
    timings_s: dict[str, float],
) -> tuple[Findings, LoadedSeries]:
    """Return what the pipeline finds, and the series that it was found in; no pixels when it went wrong.

    A series with a gap is only analysed when the job has a note: the node asked for it as it is.
    """
    try:
        with _timed("read", timings_s, progress):
            series = load_series(paths, allow_gaps=bool(context.note))
            if series.volume is None:
                return Findings(status="unsuitable", reason="the images have no pixels"), series
            volume = filled(series.volume, series.gaps)
        findings = without_invented(pipeline(volume, settings, progress), series.gaps)
        return replace(findings, warnings=(*findings.warnings, *doubts(series.datasets))), series
    except GeometryError as error:
        return Findings(status="unsuitable", reason=str(error)), _sources(paths)
    except MemoryError:
        return Findings(status="failed", reason="out of memory"), _sources(paths)
    except Exception as error:  # noqa: BLE001 - a fault in a pipeline must end in a report, not in silence
        return Findings(status="failed", reason=_reason(error)), _sources(paths)


def _build(
    findings: Findings, series: LoadedSeries, paths: Sequence[Path], context: ResultContext, out: Path
) -> tuple[Findings, list[ResultObject]]:
    """Build the objects; when that fails, those that say so; when there is nothing to build on, none."""
    try:
        return findings, build_results(findings, series, context, out)
    except Exception as error:  # noqa: BLE001 - as above: findings that can't be encoded end in a report
        reason = _reason(error)
    if findings.reason:
        reason += f"; before, the analysis had ended as {findings.status}: {findings.reason}"
    for path in out.glob("*.dcm"):
        path.unlink()
    failed = Findings(status="failed", reason=reason, models=findings.models)
    try:
        return failed, build_results(failed, _sources(paths), context, out)
    except Exception as error:  # noqa: BLE001 - sources without the least identification
        log.warning("no report can be made: %s", _reason(error))
        return failed, []


def _record(
    findings: Findings, series: LoadedSeries, context: ResultContext, out: Path, pipeline_digest: str
) -> None:
    """Leave what the page of the study needs; without its pictures it still says what was found."""
    if findings.status not in ("findings", "none"):
        return
    pictures: list[FindingPicture] = []
    try:
        pictures = write_finding_pictures(findings, series, out)
    except Exception as error:  # noqa: BLE001 - as above: the result stands without them
        log.warning("no pictures of the findings: %s", _reason(error))
    FindingsRecord.of(findings, context, pictures, pipeline_digest).write(out)


def _sources(paths: Sequence[Path]) -> LoadedSeries:
    """Return the headers of the images that can be read."""
    try:
        return load_sources(paths)
    except NodeError:
        readable = [path for path in paths if _is_readable(path)]
    try:
        return load_sources(readable) if readable else NO_SOURCES
    except NodeError:
        return NO_SOURCES


def _is_readable(path: Path) -> bool:
    try:
        load_sources([path])
    except NodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    """Return what a person is told of an error; the way to the fault behind it goes into the log."""
    if not isinstance(error, (NodeError, PipelineError)):
        return fault(error)
    if error.__cause__ is not None:
        _log_way(error.__cause__)
    return str(error)


def fault(error: Exception) -> str:
    """Return where a fault lies, and log the way there; its text is left out, it may tell of a patient."""
    last = _log_way(error)[-1]
    return f"internal error: {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"


def _log_way(error: BaseException) -> traceback.StackSummary:
    """Log the way to an error, and return it."""
    frames = traceback.extract_tb(error.__traceback__)
    way = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    log.error("%s at %s", type(error).__name__, way)
    return frames


@contextmanager
def _timed(stage: str, timings_s: dict[str, float], progress: Progress) -> Iterator[None]:
    began = time.monotonic()
    yield
    timings_s[stage] = round(time.monotonic() - began, 3)
    progress(stage, timings_s[stage])
