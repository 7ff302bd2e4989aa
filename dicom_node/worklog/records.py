"""One line of the worklog: checked and cleaned when it is written, and said as a sentence or as JSON."""

from __future__ import annotations

import json
import math
import numbers
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dicom_node.worklog.events import EVENTS, FIGURES, Figure, Level

LABEL_WIDTH = 14
ID_LENGTH = 8
TEXT_LIMIT = 400  # characters of one figure
_ID = re.compile(r"[0-9a-f]{8,64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


class _Sentence(string.Formatter):
    """Knows two format specs of our own: ``seconds``, and a noun that is counted."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "seconds":
            return duration(float(value))
        if format_spec.isalpha():
            return f"{value} {format_spec}" + ("" if value == 1 else "s")
        return str(super().format_field(value, format_spec))


_SENTENCE = _Sentence()


def duration(seconds: float) -> str:
    """Say a length of time with the two units that matter (``0.4 s``, ``4 min 12 s``, ``3 h 5 min``)."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True)
class Record:
    """One step: when, whose (8 hex characters of a job or series, or nothing), what, and its figures."""

    at: datetime
    id: str
    event: str
    figures: Mapping[str, Figure]

    @property
    def level(self) -> Level:
        """Level of the event; of one that this version does not know, ``info``."""
        return EVENTS[self.event].level if self.event in EVENTS else "info"

    @property
    def label(self) -> str:
        """The event as the column of the log names it."""
        return (EVENTS[self.event].label if self.event in EVENTS else "") or self.event

    @property
    def sentence(self) -> str:
        """The figures as a sentence."""
        if self.event not in EVENTS:
            return ", ".join(f"{name} {value}" for name, value in self.figures.items())
        said: set[str] = set()
        parts = []
        for piece in EVENTS[self.event].pieces:
            names = {name for _, name, _, _ in string.Formatter().parse(piece) if name}
            if names <= self.figures.keys() and not (names and names <= said):
                parts.append(_SENTENCE.vformat(piece, (), self.figures))
                said |= names
        return ", ".join(parts)

    def columns(self) -> tuple[str, str, str, str]:
        """Time (local), ID, event and sentence, padded so that lines align."""
        at = self.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        return at, f"{self.id:{ID_LENGTH}}", f"{self.label:{LABEL_WIDTH}}", self.sentence

    def line(self) -> str:
        """The record as one line for people, without the line end."""
        return "  ".join(self.columns()).rstrip()

    def json(self) -> str:
        """The record as one line of JSON, without the line end."""
        head = {"time": self.at.isoformat(timespec="milliseconds"), "id": self.id, "event": self.event}
        return json.dumps({**head, "level": self.level, **self.figures}, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read what :meth:`json` wrote.

        Raises
        ------
        ValueError
            The line is cut off or no record.
        """
        values = json.loads(line)
        if not isinstance(values, dict) or not {"time", "id", "event"} <= values.keys():
            raise ValueError("not a line of the worklog")
        at = datetime.fromisoformat(values.pop("time"))
        values.pop("level", None)
        return cls(at=at, id=str(values.pop("id")), event=str(values.pop("event")), figures=values)


def make_record(at: datetime, event: str, identity: str, figures: Mapping[str, Figure | None]) -> Record:
    """Check and clean what someone wants to write.

    Raises
    ------
    ValueError
        Unknown event, figure not listed or of a wrong type, or an ID that is no hex digest.
    """
    if event not in EVENTS:
        raise ValueError(f"the worklog knows no event {event!r}")
    unlisted = figures.keys() - EVENTS[event].figures
    if unlisted:
        raise ValueError(f"event {event!r} has no figure {', '.join(sorted(unlisted))}")
    cleaned = {name: _cleaned(name, value) for name, value in figures.items() if value is not None}
    return Record(at=at, id=_short(identity) if identity else "", event=event, figures=cleaned)


def _short(identity: object) -> str:
    if not isinstance(identity, str) or not _ID.fullmatch(identity):
        raise ValueError("the ID of a worklog line is the hex digest of a job or series")
    return identity[:ID_LENGTH]


def _cleaned(name: str, value: object) -> Figure:
    kind = FIGURES[name]
    if kind == "id":
        return _short(value)
    if kind is str:
        if not isinstance(value, str):
            raise ValueError(f"figure {name!r} is text, not {type(value).__name__}")
        text = _UNPRINTABLE.sub(" ", value).strip()
        return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"
    if not isinstance(value, bool):
        if kind is int and isinstance(value, numbers.Integral):
            return int(value)
        if kind is float and isinstance(value, numbers.Real) and math.isfinite(value):
            return round(float(value), 3)
    raise ValueError(f"figure {name!r} can't be {value!r:.40}")
