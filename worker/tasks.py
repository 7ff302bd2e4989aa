"""Task of the worker, from a message to a published result folder: claims the run, keeps its lease, reports its stages.

What happens to the process itself (time limit, crash) is written into the run's folder by :mod:`worker.app`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from dicom_node import __version__
from dicom_node.cohort.table import Cohort, pipeline_digest
from dicom_node.errors import MessageError, SpoolError
from dicom_node.jobs.comparison_job import CHANGE, FOLLOWS, TITLE
from dicom_node.jobs.message import JobMessage
from dicom_node.spool.refusals import Refusal, refuse
from dicom_node.spool.run_folder import HEARTBEAT_S, STAGE, STARTED, RunFolder
from pipelines.device import is_gpu_out_of_memory, is_host_out_of_memory, release_gpu_memory
from pipelines.errors import PipelineError
from pipelines.types import Findings, Pipeline, PipelineInfo, Progress, Volume
from worker.analyse import analyse_series
from worker.comparing import Comparer, Comparing, try_to_keep
from worker.examination import examined_of

log = logging.getLogger(__name__)

ON_THE_CPU = "the GPU had no memory left: this was computed on the CPU"


class Registry(Protocol):
    """Source of pipelines; :mod:`pipelines.registry` is the one."""

    def installed(self) -> Mapping[str, PipelineInfo]:
        """Return the installed pipelines by their names, without loading them."""

    def load(self, name: str, device: str) -> Pipeline:
        """Return a pipeline with its model on the device."""


@dataclass
class Workplace:
    """Workplace of a worker process; its models stay warm in ``pipelines``, by name and device.

    ``cohort`` is what lesion volumes are compared with, ``worker`` its host and the process that a person would start anew: the
    parent of the one that computes. ``others_wait`` tells whether a fresh study waits for it.
    """

    spool: Path
    device: str
    registry: Registry
    heartbeat_s: float = HEARTBEAT_S
    cohort: Cohort | None = None
    pipelines: dict[tuple[str, str], Pipeline] = field(default_factory=dict)
    worker: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    comparer: Comparer = field(default_factory=Comparer)
    others_wait: Callable[[], bool] = lambda: False

    @property
    def results(self) -> Path:
        """Folder in which runs leave their folders."""
        return self.spool / "results"

    @property
    def refused(self) -> Path:
        """Folder for word of messages that it can't read."""
        return self.spool / "refused"

    def pipeline(self, name: str) -> Pipeline:
        """Return a pipeline that loads its model on its first call and keeps it.

        With the device "auto" an analysis for which the GPU has no memory is done again on the CPU.
        """

        def run(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
            try:
                return self._load(name, self.device)(volume, settings, progress)
            except Exception as error:
                if is_host_out_of_memory(error):
                    raise MemoryError from None
                if not is_gpu_out_of_memory(error):
                    raise
                self.pipelines.pop((name, self.device), None)
            # beyond the handler: what the traceback held of the GPU's memory is free here
            release_gpu_memory()
            if self.device != "auto":
                raise PipelineError(
                    f'{self.device} has no memory left; [worker] device = "auto" would go on with the CPU'
                )
            log.warning("%s: %s", name, ON_THE_CPU)
            found = self._load(name, "cpu")(volume, settings, progress)
            return replace(found, warnings=(*found.warnings, ON_THE_CPU))

        return run

    def _load(self, name: str, device: str) -> Pipeline:
        if (name, device) not in self.pipelines:
            self.pipelines[name, device] = self.registry.load(name, device)
        return self.pipelines[name, device]

    def title_of(self, name: str) -> str:
        """Return what readers call a pipeline."""
        info = self.registry.installed().get(name)
        return info.title if info else name

    def digest_of(self, message: JobMessage) -> str:
        """Return the digest of a run's pipeline with its weights and settings; "" of one that is not installed."""
        info = self.registry.installed().get(message.pipeline)
        return pipeline_digest(info.name, info.weights_digest, message.settings) if info else ""

    def image(self, relative: str) -> Path:
        """Return the path of an image; SpoolError when it would leave the spool."""
        path = Path(os.path.normpath(self.spool / relative))
        if not path.is_relative_to(self.spool):
            raise SpoolError(f"not a path within the spool: {relative!r}")
        return path


def take(found: object, name: str, place: Workplace) -> bool:
    """Read a message and do its run; leave one that can't be read to other workers, and tell the node.

    Parameters
    ----------
    found : object
        The message as it came over the wire.
    name : str
        Of the run, which the broker tells beside the message.

    Returns
    -------
    bool
        As :func:`run_job`.

    Raises
    ------
    SpoolError
        The results, or the word to the node, can't be written.
    """
    try:
        message = JobMessage.from_json(found)
    except MessageError as error:
        log.warning("%s is left to another worker: %s", name, error)
        refuse(place.refused, Refusal(name, place.worker, __version__, JobMessage.VERSION, str(error)))
        return False
    return run_job(message, place)


def run_job(message: JobMessage, place: Workplace) -> bool:
    """Do one run; return False when it was not ours to do, or another run was faster.

    Raises
    ------
    SpoolError
        The results can't be written.
    """
    folder = RunFolder.claim(place.results, message.job_id, message.run)
    if folder is None:
        log.info("%s.run%s: done or begun already", message.job_id[:8], message.run)
        return False
    with folder.heartbeat(place.heartbeat_s):
        folder.event(STARTED, worker=f"{socket.gethostname()}:{os.getpid()}")

        def progress(stage: str, seconds: float) -> None:
            folder.event(STAGE, stage=stage, seconds=round(seconds, 3))

        if message.pipeline == CHANGE:
            _compare(message, place, folder.path, progress)
            return folder.publish()
        seen: list[tuple[Volume, Findings]] = []
        analyse_series(
            [place.image(relative) for relative in message.images],
            _watched(place.pipeline(message.pipeline), seen),
            message.context(place.title_of(message.pipeline)),
            folder.path,
            message.settings,
            progress,
            cohort=place.cohort,
            pipeline_digest=place.digest_of(message),
        )
    is_ours = folder.publish()
    if is_ours and message.examined and not message.note:  # after the answer, which does not wait for it
        for volume, findings in seen:
            examined = examined_of(findings, volume)
            if examined is not None:
                try_to_keep(examined, place.image(message.examined))
    return is_ours


def _watched(pipeline: Pipeline, seen: list[tuple[Volume, Findings]]) -> Pipeline:
    """Return a pipeline that leaves in `seen` what it was given and what it found."""

    def run(volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        findings = pipeline(volume, settings, progress)
        seen.append((volume, findings))
        return findings

    return run


def _compare(message: JobMessage, place: Workplace, out: Path, progress: Progress) -> None:
    Comparing(
        message=message,
        context=message.context(TITLE),
        pipeline=place.pipeline(FOLLOWS),
        path_of=place.image,
        comparer=place.comparer,
        others_wait=place.others_wait,
        progress=progress,
    ).run(out)
