"""The report that the node itself has made for a job whose workers died: no run of it left anything behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.jobs.child_process import ask_child
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import ResultObject, manifest_of
from dicom_node.spool.run_folder import RunFolder
from pipelines.types import Findings

BUILDER = "dicom_node.jobs.failure_objects"
TIMEOUT_S = 900.0
"""For a process that waits for the disk; its processor time is limited by itself."""


def publish_failure(
    results: Path, paths: Sequence[Path], context: ResultContext, reason: str, *, has_objects: bool = True
) -> bool:
    """Publish a failed result as the run that `context` names; return False when a run of a worker was faster.

    The images are read, and the objects made, by a process of its own.

    Parameters
    ----------
    results : Path
        The spool's folder of results.
    paths : sequence of Path
        The images of the job; when none of them is readable the result has no objects.
    has_objects : bool
        Whether there is to be a report in the PACS.

    Raises
    ------
    SpoolError
        The folder can't be written.
    """
    folder = RunFolder.claim(results, context.job_id, context.run)
    if folder is None:
        return False
    findings = Findings(status="failed", reason=reason)
    objects: list[ResultObject] = []
    try:
        objects = _build_apart(paths, context, reason, folder.path) if has_objects else []
    except NodeError as error:
        for path in folder.path.glob("*.dcm"):
            path.unlink()
        findings = Findings(status="failed", reason=f"{reason}; no report can be made: {error}")
    manifest_of(findings, context, objects).write(folder.path)
    return folder.publish()


def _build_apart(
    paths: Sequence[Path], context: ResultContext, reason: str, folder: Path
) -> list[ResultObject]:
    """Have the objects made by a process of its own.

    Raises
    ------
    NodeError
        It can't make them, or has died over them.
    """
    plain = {**asdict(context), "created_at": context.created_at.isoformat()}
    order = {"paths": list(map(str, paths)), "context": plain, "reason": reason, "folder": str(folder)}
    found = ask_child(BUILDER, order, TIMEOUT_S)
    try:
        return [ResultObject(**one) for one in found["objects"]]
    except (KeyError, TypeError) as error:
        raise NodeError(f"its process answered what nobody understands: {type(error).__name__}") from error
