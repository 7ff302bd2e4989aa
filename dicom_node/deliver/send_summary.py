"""Summary of one association in as few lines of the worklog as say it all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dicom_node.worklog.writer import Worklog


@dataclass
class SendSummary:
    """Counts of outcomes; a hundred heatmaps with the same trouble make one line."""

    stored: int = 0
    warnings: Counter[tuple[str, str]] = field(default_factory=Counter)  # (role, reason)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)  # reason
    wait_s: float = 0.0

    def write(self, worklog: Worklog, job_id: str, destination: str, seconds: float) -> None:
        """Write the lines."""
        if self.stored:
            worklog.write("sent", job_id, objects=self.stored, destination=destination, seconds=seconds)
        for (role, reason), count in self.warnings.items():
            worklog.write(
                "object-warning", job_id, destination=destination, role=role, objects=count, reason=reason
            )
        for (role, reason), count in self.refused.items():
            worklog.write(
                "object-refused", job_id, destination=destination, role=role, objects=count, reason=reason
            )
        for (role, reason), count in self.failed.items():
            worklog.write(
                "object-failed", job_id, destination=destination, role=role, objects=count, reason=reason
            )
        for reason, count in self.waiting.items():
            worklog.write(
                "delivery-retry",
                job_id,
                destination=destination,
                reason=reason,
                objects=count,
                wait_s=self.wait_s,
            )
