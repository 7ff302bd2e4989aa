"""From a message to a published result folder: claims the run, keeps its lease, reports its stages.

What happens to the process itself (time limit, crash) is written into the run's folder by :mod:`worker.app`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dicom_node.errors import SpoolError
from dicom_node.jobs.runs import HEARTBEAT_S, STAGE, STARTED, RunFolder
from dicom_node.results.context import ResultContext
from pipelines.types import Findings, Pipeline, PipelineInfo, Progress, Volume
from worker.analyse import analyse_series

log = logging.getLogger(__name__)


class Registry(Protocol):
    """Where pipelines come from; :mod:`pipelines.registry` is the one."""

    def installed(self) -> Mapping[str, PipelineInfo]:
        """Return the installed pipelines by their names, without loading them."""

    def load(self, name: str, device: str) -> Pipeline:
        """Return a pipeline with its model on the device."""


@dataclass
class Workplace:
    """What a worker process works with; its models stay warm in ``pipelines``."""

    spool: Path
    device: str
    registry: Registry
    heartbeat_s: float = HEARTBEAT_S
    pipelines: dict[str, Pipeline] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        """Where runs leave their folders."""
        return self.spool / "results"

    def pipeline(self, name: str) -> Pipeline:
        """Return a pipeline that loads its model on its first call and keeps it."""

        def run(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
            if name not in self.pipelines:
                self.pipelines[name] = self.registry.load(name, self.device)
            return self.pipelines[name](volume, settings, progress)

        return run

    def title_of(self, name: str) -> str:
        """Return what readers call a pipeline."""
        info = self.registry.installed().get(name)
        return info.title if info else name

    def image(self, relative: str) -> Path:
        """Return the path of an image; SpoolError when it would leave the spool."""
        path = Path(os.path.normpath(self.spool / relative))
        if not path.is_relative_to(self.spool):
            raise SpoolError(f"not a path within the spool: {relative!r}")
        return path


def run_job(message: Mapping[str, Any], place: Workplace) -> bool:
    """Do one run; return False when it was not ours to do, or another run was faster.

    Raises
    ------
    SpoolError
        The results can't be written.
    """
    folder = RunFolder.claim(place.results, message["job_id"], message["run"])
    if folder is None:
        log.info("%s.run%s: done or begun already", message["job_id"][:8], message["run"])
        return False
    with folder.heartbeat(place.heartbeat_s):
        folder.event(STARTED, worker=f"{socket.gethostname()}:{os.getpid()}")
        analyse_series(
            [place.image(relative) for relative in message["images"]],
            place.pipeline(message["pipeline"]),
            ResultContext.from_message(message, place.title_of(message["pipeline"])),
            folder.path,
            message["settings"],
            lambda stage, seconds: folder.event(STAGE, stage=stage, seconds=round(seconds, 3)),
        )
    return folder.publish()
