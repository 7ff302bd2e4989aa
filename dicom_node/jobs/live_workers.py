"""Workers that answer over the broker, by Celery's remote control: each tells what it is and what it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dicom_node import __version__
from dicom_node.jobs.message import JobMessage, version_conflict

DESCRIBE = "dicom_node_worker"
"""The remote control command."""


@dataclass(frozen=True)
class LiveWorker:
    """A worker as it describes itself.

    Parameters
    ----------
    name : str
        Its host and process.
    program : str
        Version of the program that it is.
    reads : int
        Version of the messages that it reads.
    queues : tuple of str
        Pipelines that it works for.
    device : str
        As ``[worker] device`` says.
    """

    name: str
    program: str
    reads: int
    queues: tuple[str, ...]
    device: str

    @classmethod
    def here(cls, name: str, queues: tuple[str, ...], device: str) -> LiveWorker:
        """Return the worker that this process is."""
        return cls(name, __version__, JobMessage.VERSION, queues, device)

    def to_json(self) -> dict[str, Any]:
        """Return the answer to the command."""
        answer: dict[str, Any] = _form().dump_python(self, mode="json")
        return answer

    @classmethod
    def from_json(cls, answer: object) -> LiveWorker | None:
        """Return the worker that gave an answer; None when that is not one of ours."""
        try:
            return _form().validate_json(json.dumps(answer), strict=True)
        except ValidationError:
            return None

    @property
    def conflict(self) -> str:
        """The sentence on why it can't read this node's messages; "" when it can."""
        return version_conflict(self.name, self.program, self.reads)

    def __str__(self) -> str:
        return f"{self.name}, version {self.program}, device {self.device}, for {', '.join(self.queues)}"


@cache
def _form() -> TypeAdapter[LiveWorker]:
    return TypeAdapter(LiveWorker)
