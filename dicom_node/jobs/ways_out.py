"""Ways out of the states in which a series or job waits for a person: the command, and what it does."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.jobs.states import JobState, SeriesState
from dicom_node.series.identity import MAY_NOT_BE_RELEASED


@dataclass(frozen=True)
class WayOut:
    """A command, and the words that follow it."""

    command: str
    effect: str

    def __str__(self) -> str:
        return f"{self.command} {self.effect}"


def of_series(identifier: str, state: str, reason: str) -> WayOut | None:
    """Return the way out of a series' state; None where it waits for nobody."""
    short = identifier[:8]
    if state == SeriesState.HELD and any(known in reason for known in MAY_NOT_BE_RELEASED):
        return WayOut(
            f"dicom-node why {short}",
            "shows when they came and who sent them: have them put right in the PACS, and the series sent anew "
            "under a Series Instance UID of its own",
        )
    if state == SeriesState.HELD:
        return WayOut(
            f"dicom-node release {short}", "analyses it as it is; images that are missing are still taken"
        )
    if state == SeriesState.IGNORED:
        return WayOut(
            f"dicom-node retry {short}",
            "judges it again, as after a change of rules; dicom-node route --explain shows every rule on the files",
        )
    if state == SeriesState.PRIOR:
        return WayOut(f"dicom-node retry {short}", "makes it an ordinary series, analysed and answered")
    return None


def of_job(identifier: str, state: str) -> WayOut | None:
    """Return the way out of a job's state; None where it waits for nobody."""
    short = identifier[:8]
    return {
        JobState.HELD: WayOut(f"dicom-node release {short}", "lets it run"),
        JobState.NO_PIPELINE: WayOut(f"dicom-node retry {short}", "runs it once the pipeline is installed"),
        JobState.UNDELIVERED: WayOut(
            f"dicom-node retry {short}", "delivers it again, once the destination is mended"
        ),
    }.get(JobState(state))


def of_former_identity(identifier: str) -> WayOut:
    """Return the way out for a job whose images were corrected after its results were made."""
    return WayOut(
        f"dicom-node retry {identifier[:8]}",
        "analyses them again, and sends under the one that they name now",
    )


def of_queue(queue: str) -> WayOut:
    """Return the way out for jobs of a queue without a worker."""
    return WayOut(
        f"dicom-node worker --queues {queue}",
        "starts one here, or systemctl start dicom-node-worker on its host",
    )
