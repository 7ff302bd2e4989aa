"""A worker with a pipeline that sleeps, hangs or crashes on demand; run by tests/rig.py.

Settings: ``do``, and ``until``, a file whose appearance lets the job go on. Arguments: broker, spool, time limit, and
the version of messages that it reads.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import worker.tasks
from dicom_node.jobs.message import JobMessage
from dicom_node.results.context import ResultContext
from dicom_node.results.manifest import Manifest
from pipelines.types import PipelineInfo, Progress
from worker.app import run_worker


class Registry:
    def installed(self) -> Mapping[str, PipelineInfo]:
        return {"flair": PipelineInfo("flair", "Test", "1", "digest")}

    def load(self, name: str, device: str) -> Any:
        raise AssertionError("not needed: analyse_series is replaced")


def misbehave(
    paths: Sequence[Path],
    pipeline: object,
    context: ResultContext,
    out: Path,
    settings: Mapping[str, Any],
    progress: Progress,
    **_: object,
) -> Manifest:
    progress("read", 0.1)
    do = settings.get("do", "")
    if only_run := settings.get("run"):
        do = do if context.run == only_run else ""
    while "until" in settings and not Path(settings["until"]).exists():
        time.sleep(0.02)
    if do == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    elif do == "exit":
        os._exit(3)
    elif do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif do == "raise":
        raise KeyError("NAME^OF^PATIENT")
    elif do == "memory":
        raise MemoryError
    manifest = Manifest(
        context.job_id, context.run, context.pipeline, "none", "", context.created_at.isoformat(),
        figures={"process": os.getpid(), "parent": os.getppid()},
    )  # fmt: skip
    manifest.write(out)
    return manifest


if __name__ == "__main__":
    worker.tasks.analyse_series = misbehave
    JobMessage.VERSION = int(sys.argv[4])
    status = run_worker(
        broker_url=sys.argv[1],
        spool=Path(sys.argv[2]),
        time_limit_s=float(sys.argv[3]),
        registry=Registry(),
        heartbeat_s=0.2,
    )
    sys.exit(status)
