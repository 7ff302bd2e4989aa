"""Workers as a node knows them, and as it leaves them in ``workers.json`` for commands that run beside it or without it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.ways_out import of_queue

FILE_NAME = "workers.json"
ALIVE_S = 35.0
"""Three questions without an answer, and a worker counts as gone."""
UNSERVED_S = 60.0
"""So long may a job wait for a queue without a worker before the node is called unwell."""


@dataclass(frozen=True)
class SeenWorker:
    """A worker, and when it last answered (UTC seconds since the epoch)."""

    worker: LiveWorker
    last_at: float

    @property
    def host(self) -> str:
        """The machine that it runs on."""
        return self.worker.name.rpartition(":")[0] or self.worker.name

    def is_alive(self, now: float) -> bool:
        """Tell whether it has answered lately."""
        return now - self.last_at <= ALIVE_S

    def serves(self, queue: str) -> bool:
        """Tell whether it works for a queue and can read this node's messages."""
        return queue in self.worker.queues and not self.worker.conflict


@dataclass(frozen=True)
class UnservedQueue:
    """A queue in which jobs wait and for which no worker answers.

    Parameters
    ----------
    queue : str
        The pipeline's name.
    jobs : int
        Jobs that wait.
    since : float
        When the waiting without a worker began.
    """

    queue: str
    jobs: int
    since: float

    def is_overdue(self, now: float) -> bool:
        """Tell whether it has lasted for too long."""
        return now - self.since > UNSERVED_S

    def __str__(self) -> str:
        jobs = f"{self.jobs} job{'s wait' if self.jobs != 1 else ' waits'}"
        return f"{jobs} for a {self.queue} worker and none answers: start one, {of_queue(self.queue).command}"


@dataclass(frozen=True)
class Workers:
    """All that is known of the workers.

    Parameters
    ----------
    looked_at : float
        When the node last asked; 0 before it ever did.
    seen : tuple of SeenWorker
        By name; those that are gone stay for a day.
    unserved : tuple of UnservedQueue
        Queues that wait for a worker.
    broker_error : str
        The sentence on a broker that did not answer the last question; "" when it did.
    broker_since : float
        When the broker's silence was first met.
    """

    looked_at: float = 0.0
    seen: tuple[SeenWorker, ...] = ()
    unserved: tuple[UnservedQueue, ...] = ()
    broker_error: str = ""
    broker_since: float = 0.0

    def alive(self, now: float, queue: str = "") -> list[SeenWorker]:
        """Return the workers that have answered lately, or those of them that work for one queue."""
        return [one for one in self.seen if one.is_alive(now) and (not queue or one.serves(queue))]

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return {
            "looked_at": self.looked_at,
            "seen": [one.worker.to_json() | {"last_at": one.last_at} for one in self.seen],
            "unserved": [{"queue": one.queue, "jobs": one.jobs, "since": one.since} for one in self.unserved],
            "broker_error": self.broker_error,
            "broker_since": self.broker_since,
        }

    def write(self, folder: Path) -> None:
        """Leave it in the data folder; without a word where there is no room."""
        part = folder / f"{FILE_NAME}.part"
        with contextlib.suppress(OSError):
            # Not synchronised: it is made anew every few seconds.
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self.to_json(), file)
            part.replace(folder / FILE_NAME)

    @classmethod
    def read(cls, folder: Path) -> Workers:
        """Return what a node has left in its data folder; nothing known where it has not, or the file is damaged."""
        try:
            return cls._from_json(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()

    @classmethod
    def _from_json(cls, content: Mapping[str, Any]) -> Workers:
        seen = []
        for item in content["seen"]:
            last_at = float(item.pop("last_at"))
            worker = LiveWorker.from_json(item)
            if worker is not None:
                seen.append(SeenWorker(worker, last_at))
        unserved = tuple(
            UnservedQueue(str(item["queue"]), int(item["jobs"]), float(item["since"]))
            for item in content["unserved"]
        )
        return cls(
            float(content["looked_at"]),
            tuple(seen),
            unserved,
            str(content["broker_error"]),
            float(content["broker_since"]),
        )
