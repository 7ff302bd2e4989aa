"""A node's jobs side without the network: spool, store, reconciler, and a worker process to be ill-treated."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dicom_node.errors import UnreadableError
from dicom_node.intake.parser import OnLate
from dicom_node.intake.parser_process import Answer, Request, answer_of
from dicom_node.jobs.dispatch import Dispatcher
from dicom_node.jobs.message import JobMessage, ResultSettings
from dicom_node.jobs.reconcile import Reconciler
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store, job_identity
from dicom_node.results.manifest import Manifest
from dicom_node.series.headers import ImageHeader
from dicom_node.spool.run_folder import RunFolder
from dicom_node.spool.spool import Spool

PIPELINE = "flair"
WAIT_S = 30.0


def header(number: int = 1, series: str = "1.2.3", accession: str = "") -> ImageHeader:
    return ImageHeader(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid=f"{series}.{number}",
        series_uid=series,
        study_uid="1.2",
        accession_number=accession,
        series_number=5,
        instance_number=number,
    )


def manifest(job_id: str, run: int, status: Any = "none", reason: str = "") -> Manifest:
    return Manifest(job_id, run, PIPELINE, status, reason, "2026-11-21T08:00:00+00:00")


def message_of(job: JobRow) -> JobMessage:
    return JobMessage(
        node_id="test",
        job_id=job.id,
        run=job.run,
        pipeline=job.pipeline,
        settings=job.settings,
        images=tuple(job.images),
        results=ResultSettings("key", "report", "text", 9001),
        note=job.note,
        replaces=(),
        created_at=datetime(2026, 11, 21, 8, tzinfo=UTC),
    )


def read_here(paths: Sequence[Path]) -> list[tuple[Path, ImageHeader | UnreadableError]]:
    """Return the headers of files, or why they can't be read, as parser processes would."""
    answers = ((path, answer_of(Request(path), b"key")) for path in paths)
    return [(path, answer) for path, answer in answers if isinstance(answer, ImageHeader | UnreadableError)]


class ReadHere:
    """Reader of headers without processes of its own, for tests of what becomes of its answers."""

    def __init__(self, spool: Spool) -> None:
        self._key = spool.identity_key

    def ask(self, requests: Sequence[Request], on_late: OnLate | None = None) -> dict[Request, Answer]:
        return {request: answer_of(request, self._key) for request in requests}

    def warm_up(self) -> None:
        """Be ready."""

    def stop(self) -> None:
        """Have nothing to end."""


class Heard:
    """Everything that the reconciler told, in order; publishes failed results as the node would."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.lines: list[str] = []

    def job_queued(self, job: JobRow) -> None:
        self.lines.append(f"queued {job.run}")

    def job_running(self, job: JobRow, worker: str) -> None:
        self.lines.append(f"running {job.run}")

    def job_stage(self, job: JobRow, stage: str, seconds: float) -> None:
        self.lines.append(f"stage {stage}")

    def job_finished(self, job: JobRow, manifest: Manifest) -> None:
        self.lines.append(f"finished {manifest.run} {manifest.status}")

    def job_lost(self, job: JobRow, reason: str) -> None:
        self.lines.append(f"lost: {reason}")

    def job_failed(self, job: JobRow, reason: str) -> None:
        self.lines.append(f"failed: {reason}")
        folder = RunFolder.claim(self.results, job.id, job.run)
        assert folder is not None
        manifest(job.id, job.run, "failed", reason).write(folder.path)
        assert folder.publish()

    def message_refused(self, reason: str) -> None:
        self.lines.append(reason)

    def broker_lost(self, reason: str) -> None:
        self.lines.append("broker lost")

    def broker_back(self) -> None:
        self.lines.append("broker back")


class JobsRig:
    """Spool, store and reconciler in a folder, for a broker of any kind."""

    def __init__(self, root: Path, queues: Any, **options: Any) -> None:
        self.spool = Spool(root)
        self.results = self.spool.results
        self.store = Store(root / "state.sqlite", self.spool.jobs)
        self.heard = Heard(self.results)
        self.queues = queues
        self.options = options
        self.reconciler = self.another_reconciler()

    def another_reconciler(self, **options: Any) -> Reconciler:
        options = {**self.options, **options}
        return Reconciler(
            self.store, self.spool, self.queues, message_of=message_of, events=self.heard, **options
        )

    def job(self, series: str = "1.2.3", pipeline: str = PIPELINE, **settings: Any) -> str:
        image = header(series=series)
        self.store.add_image(image, "series/a/b.dcm", "SCANNER", time.time())
        job_id = job_identity([image.sop_instance_uid], pipeline, "digest", settings)
        assert self.store.create_job(
            job_id=job_id,
            series_uid=series,
            pipeline=pipeline,
            rule="flair",
            state=JobState.QUEUED,
            settings=settings,
            images=["series/a/b.dcm"],
        )
        return job_id

    def state(self, job_id: str) -> str:
        job = self.store.job(job_id)
        assert job is not None
        return job.state

    def until(self, is_so: Callable[[], bool]) -> None:
        """Step the reconciler until something is so."""
        deadline = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < deadline, self.heard.lines
            self.reconciler.step()
            time.sleep(0.02)

    def finished(self, job_id: str) -> Manifest:
        """Step until the job's results are there, and return their manifest."""
        self.until(lambda: self.state(job_id) == JobState.DELIVERING)
        return Manifest.read(self.results / job_id)

    def folders(self, job_id: str) -> list[str]:
        return sorted(path.name.removeprefix(job_id) for path in self.results.glob(f"{job_id}*"))


class WorkerProcess:
    """A real Celery worker whose pipeline does what the job's settings say (see worker_process.py)."""

    def __init__(self, url: str, spool: Path, time_limit_s: float = 60.0, reads: int = 1) -> None:
        self.log = spool / "worker.log"
        script = Path(__file__).parent / "worker_process.py"
        command = [sys.executable, "-P", str(script)]  # -P: beside it lies a folder "dicom_node"
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*command, url, str(spool), str(time_limit_s), str(reads)], stdout=stream, stderr=stream
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def dispatcher(url: str) -> Dispatcher:
    return Dispatcher(url, "test")
