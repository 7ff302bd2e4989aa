"""Events of jobs and of the broker, as the reconciler tells the node."""

from __future__ import annotations

from typing import Protocol

from dicom_node.jobs.schema import JobRow
from dicom_node.results.manifest import Manifest


class Events(Protocol):
    """Listener to the reconciler: acts when something happens to a job; called on the reconciler's thread, one at a time.

    A crash of the node may repeat the last call. A `NodeError` raised here is logged and the step is tried
    again.
    """

    def job_queued(self, job: JobRow) -> None:
        """The job's run was sent to the broker; again, if the broker lost it."""

    def job_running(self, job: JobRow, worker: str) -> None:
        """A worker has begun the job's run."""

    def job_stage(self, job: JobRow, stage: str, seconds: float) -> None:
        """A stage of the run has ended."""

    def job_finished(self, job: JobRow, manifest: Manifest) -> None:
        """The results are there and the job is delivering."""

    def job_lost(self, job: JobRow, reason: str) -> None:
        """The job's last run was lost; ``job.run`` is already the next one."""

    def job_failed(self, job: JobRow, reason: str) -> None:
        """No attempt is left: publish a failed result as run ``job.run``, which then arrives as finished."""

    def message_refused(self, reason: str) -> None:
        """A worker can't read this node's messages, and their jobs wait; told once for each worker and version."""

    def broker_lost(self, reason: str) -> None:
        """The broker does not answer."""

    def broker_back(self) -> None:
        """The broker answers again."""
