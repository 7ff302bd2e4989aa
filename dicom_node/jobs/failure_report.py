"""The report that the node itself writes for a job whose workers died: no run of it left anything behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import ResultObject, manifest_of
from dicom_node.spool.run_folder import RunFolder
from pipelines.types import Findings


def publish_failure(results: Path, paths: Sequence[Path], context: ResultContext, reason: str) -> bool:
    """Publish a failed result as the run that `context` names; return False when a run of a worker was faster.

    Parameters
    ----------
    results : Path
        The spool's folder of results.
    paths : sequence of Path
        The images of the job; when none of them is readable the result has no objects.

    Raises
    ------
    SpoolError
        The folder can't be written.
    """
    # Loads highdicom: in the node only where it is needed.
    from dicom_node.results.build import build_results  # noqa: PLC0415
    from dicom_node.series.volume import load_sources  # noqa: PLC0415

    folder = RunFolder.claim(results, context.job_id, context.run)
    if folder is None:
        return False
    findings = Findings(status="failed", reason=reason)
    objects: list[ResultObject] = []
    try:
        objects = build_results(findings, load_sources(paths), context, folder.path)
    except NodeError as error:
        findings = Findings(status="failed", reason=f"{reason}; no report can be made: {error}")
    manifest_of(findings, context, objects).write(folder.path)
    return folder.publish()
