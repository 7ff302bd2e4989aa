"""One series from disk to result objects and pictures in a folder, for ``dicom-node analyse``."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from dicom_node import __version__
from dicom_node.cohort.table import Cohort, pipeline_digest
from dicom_node.config.sections import ResultsSection
from dicom_node.errors import ResultError
from dicom_node.jobs.store import job_identity
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest
from dicom_node.results.preview import write_previews
from dicom_node.series.headers import read_header
from dicom_node.study.content import StudyContent, part_of
from dicom_node.study.objects import write_report
from pipelines.types import Pipeline, PipelineInfo, Progress
from worker.analyse import analyse_series


def analyse_files(
    paths: Sequence[Path],
    pipeline: Pipeline,
    info: PipelineInfo,
    out: Path,
    results: ResultsSection,
    progress: Progress,
    cohort: Cohort | None = None,
) -> Manifest:
    """Analyse the images of one series and write DICOM objects, manifest, previews and the page into ``out``.

    Parameters
    ----------
    paths : sequence of Path
        The images, in any order.
    out : Path
        Made when it is missing; an earlier result in it is an error.
    cohort : Cohort, optional
        With which the lesion volume is compared.

    Raises
    ------
    ResultError
        The folder holds a result already, or can't be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"{out}: {error.strerror}; give --out another folder") from error
    if (out / "manifest.json").exists() or any(out.glob("*.dcm")):
        raise ResultError(f"{out} holds a result already; give --out another folder")
    uids = [read_header(path).sop_instance_uid for path in paths]
    job_id = job_identity(uids, info.name, info.weights_digest, info.default_settings)
    context = ResultContext(
        node_id=secrets.token_hex(16),  # each call makes objects of its own
        node_version=__version__,
        job_id=job_id,
        run=1,
        pipeline=info.name,
        title=info.title,
        created_at=datetime.now().astimezone().replace(microsecond=0),
        heatmap_slices=results.heatmap_slices,
        when_unsuitable=results.when_unsuitable,
        differential=results.differential,
        series_number_base=results.series_number,
    )
    manifest = analyse_series(
        paths,
        pipeline,
        context,
        out,
        info.default_settings,
        progress,
        cohort=cohort,
        pipeline_digest=pipeline_digest(info.name, info.weights_digest, info.default_settings),
    )
    write_previews(out, out)
    if manifest.objects:
        part = part_of(out, paths[0], len(paths), pipeline=info.name, title=info.title)
        write_report(StudyContent((part,), context), out)
    return manifest
