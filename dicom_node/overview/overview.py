"""The overview as plain data. Times are UTC seconds since the epoch; None where there is none."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal

TIMES = frozenset(
    {
        "at",
        "since",
        "unserved_since",
        "oldest_at",
        "last_at",
        "next_at",
        "last_success_at",
        "created_at",
        "ended_at",
    }
)
"""Fields that are times, which JSON gets as ISO 8601."""


@dataclass(frozen=True)
class Stuck:
    """A thing that does not go on by itself.

    Parameters
    ----------
    level : "error" or "warning"
        Error: results don't reach those who wait for them.
    what : str
        What it is and where it stands.
    reason : str
        Why it stands there.
    since : float or None
        Since when.
    command, effect : str
        What mends it, and what that does.
    id : str
        Of the series or job, whole; "" for other things.
    """

    level: Literal["error", "warning"]
    what: str
    reason: str
    since: float | None
    command: str
    effect: str
    id: str = ""


@dataclass(frozen=True)
class Stage:
    """A stage of the way through the node: how many are in it, and which has been there longest.

    Parameters
    ----------
    name : str
        "coming in", "waiting", "at work" or "being delivered".
    count : int
        Series in the first, jobs in the others.
    oldest_at : float or None
        Since when the oldest is there.
    oldest_id : str
        Its ID, whole.
    """

    name: str
    count: int
    oldest_at: float | None = None
    oldest_id: str = ""


@dataclass(frozen=True)
class QueueState:
    """The queue of a pipeline.

    Parameters
    ----------
    queued, running : int
        Jobs.
    oldest_at : float or None
        Since when the oldest of those that wait does.
    workers : int
        Workers that answer and work for it.
    unserved_since : float or None
        Since when jobs wait in it without a worker.
    """

    name: str
    queued: int
    running: int
    oldest_at: float | None
    workers: int
    unserved_since: float | None = None


@dataclass(frozen=True)
class WorkerState:
    """A worker, as it answered last."""

    name: str
    host: str
    version: str
    device: str
    queues: tuple[str, ...]
    last_at: float
    is_alive: bool
    conflict: str


@dataclass(frozen=True)
class DestinationState:
    """Backlog of a destination.

    Parameters
    ----------
    name, address : str
        As it is configured.
    objects, jobs : int
        Objects that wait to be sent, and the jobs that they are of.
    unproven : int
        Objects that were sent and whose proof is outstanding.
    oldest_at : float or None
        Since when the oldest of the jobs is being delivered.
    next_at : float or None
        When it is tried again.
    last_success_at : float or None
        When it last took or proved an object.
    reason : str
        Why the objects wait; "" when nothing went wrong.
    """

    name: str
    address: str
    objects: int = 0
    jobs: int = 0
    unproven: int = 0
    oldest_at: float | None = None
    next_at: float | None = None
    last_success_at: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Disk:
    """Disk of the data folder, in bytes, and what lies in it."""

    total: int
    free: int
    used_share: float
    high_water: float
    series: int
    inbox: int
    quarantine: int

    @property
    def is_full(self) -> bool:
        """True when images are refused."""
        return self.used_share > self.high_water


@dataclass(frozen=True)
class Today:
    """Figures of this day, by the clock of this machine.

    Parameters
    ----------
    since : float
        Its midnight.
    series, images : int
        That came in.
    analysed : dict of str to int
        Jobs that were analysed, by outcome: "findings", "none", "unsuitable"; always all three.
    failed : int
        Jobs whose analysis failed.
    delivered : int
        Jobs that every destination has.
    median_s, worst_s : float or None
        Turnaround of these: from the last image, or a person's wish for another analysis, to the last object
        at its destination.
    worst_id : str
        The job that took longest.
    """

    since: float
    series: int
    images: int
    analysed: dict[str, int]
    failed: int
    delivered: int
    median_s: float | None = None
    worst_s: float | None = None
    worst_id: str = ""


@dataclass(frozen=True)
class ListedJob:
    """A job in a list."""

    id: str
    series_id: str
    series_number: int | None
    pipeline: str
    state: str
    outcome: str
    created_at: float
    ended_at: float | None
    turnaround_s: float | None


@dataclass(frozen=True)
class Overview:
    """Everything at one moment.

    Parameters
    ----------
    at : float
        That moment.
    version, ae_title : str
        Of the node.
    is_running : bool
        Whether the node answers.
    stuck : tuple of Stuck
        Errors first; what concerns many before single jobs and series; then the oldest first.
    stages : tuple of Stage
        The way of a series, in its order.
    series_held : int
        Series that wait for a person.
    """

    at: float
    version: str
    ae_title: str
    is_running: bool
    stuck: tuple[Stuck, ...]
    stages: tuple[Stage, ...]
    queues: tuple[QueueState, ...]
    workers: tuple[WorkerState, ...]
    destinations: tuple[DestinationState, ...]
    disk: Disk
    today: Today
    latest: tuple[ListedJob, ...]
    series_held: int = 0

    @property
    def errors(self) -> list[Stuck]:
        """Things that keep results from those who wait for them."""
        return [one for one in self.stuck if one.level == "error"]

    @property
    def oldest_waiting(self) -> Stage | None:
        """The stage of the jobs in a queue, where there are any."""
        return next((stage for stage in self.stages if stage.name == "waiting" and stage.oldest_at), None)


def plain(value: Any, name: str = "") -> Any:
    """Return a part of the overview for programs: times as ISO 8601 in UTC, everything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item, key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if name in TIMES and value is not None:
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return value
