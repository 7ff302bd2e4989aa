"""The vocabulary of the worklog: each event with its level, the figures it may carry, and its sentence.

A figure that no event lists can't be written, so that patient names and IDs have no way in.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal

Figure = bool | int | float | str
Level = Literal["info", "warning", "error"]

# What a figure may be. "id": hex digest, shown with 8 characters. Units are in the names.
FIGURES: dict[str, type | str] = {
    "address": str,
    "ae_title": str,
    "broker": str,
    "called_ae": str,
    "calling_ae": str,
    "count": int,
    "days": int,
    "destination": str,
    "enlarging": int,
    "grade": str,  # comparability, A to D
    "host": str,
    "images": int,
    "job": "id",
    "lesions": int,
    "new": int,
    "name": str,  # of a file that the node named itself, a check or a component
    "objects": int,
    "outcome": str,
    "pipeline": str,
    "port": int,
    "possible": int,
    "reason": str,
    "resolved": int,
    "revision": int,
    "replaces": "id",
    "role": str,
    "run": int,
    "seconds": float,
    "sides": str,  # what was said of each side
    "series": "id",
    "series_number": int,
    "smaller": int,
    "spacing_mm": float,
    "stage": str,
    "status": str,
    "version": str,
    "volume_ml": float,
    "wait_s": float,
    "waited_s": float,
    "worker": str,
}
ALWAYS_ALLOWED = frozenset({"series", "job"})  # they tie the lines of a series and of its jobs together


@dataclass(frozen=True)
class Event:
    """One kind of step: its level and the pieces of its sentence; a piece lacking a figure is left out."""

    level: Level
    pieces: tuple[str, ...]
    label: str = ""

    @property
    def figures(self) -> frozenset[str]:
        """Names of the figures that the event may carry."""
        named = {name for piece in self.pieces for _, name, _, _ in string.Formatter().parse(piece) if name}
        return frozenset(named) | ALWAYS_ALLOWED


def _event(level: Level, *pieces: str, label: str = "") -> Event:
    return Event(level, pieces, label)


EVENTS: dict[str, Event] = {
    "node-started": _event(
        "info", "{ae_title} listens on {host}:{port}", "broker {broker}", "version {version}"
    ),
    "node-stopped": _event("info", "{ae_title} stopped", "{reason}"),
    "warning": _event("warning", "{name}", "{reason}"),
    "association-refused": _event(
        "warning",
        "{calling_ae} at {address} refused",
        "it called {called_ae}",
        "{reason}",
        label="caller-refused",
    ),
    "association-cut": _event(
        "warning",
        "the association of {calling_ae} at {address} was aborted",
        "{reason}",
        label="caller-cut-off",
    ),
    "image-refused": _event(
        "error", "an image of {calling_ae} refused with {status}", "{reason}", label="image-refused"
    ),
    "received": _event(
        "info", "{images:image} from {calling_ae}", "series {series_number}", "{seconds:seconds}"
    ),
    "quarantined": _event("error", "quarantine/{name}", "{reason}"),
    "conflict": _event(
        "warning",
        "{images:image} with other pixels under a known UID",
        "the first stays",
        "{name}",
        "{reason}",
    ),
    "corrected": _event(
        "warning",
        "{images:image} came again under another patient or study",
        "from {calling_ae}",
        "which counts from now on",
    ),
    "former-identity": _event(
        "warning",
        "{destination} holds {objects:object} under the patient or study that the images named before",
        "{reason}",
        label="old-identity",
    ),
    "duplicate": _event("info", "{images:image} that the node has already", "from {calling_ae}", "{reason}"),
    "series-whole": _event(
        "info",
        "whole with {images:image}",
        "{spacing_mm:.2f} mm apart",
        "after {waited_s:seconds}",
        "{reason}",
    ),
    "held": _event("warning", "{reason}", "{images:image}"),
    "incomplete": _event("warning", "goes on with {images:image}", "{reason}"),
    "removed": _event("info", "{images:image} and their results removed", "{reason}"),
    "released": _event("info", "released", "{reason}"),
    "routed": _event("info", "to {pipeline}", "job {job}", "{reason}"),
    "ignored": _event("info", "nothing to do: {reason}", "series {series_number}", "{images:image}"),
    "prior-asked": _event(
        "info", "{destination} is asked for a series", "{days:day} earlier", "{reason}", label="prior-asked"
    ),
    "prior-received": _event("info", "whole with {images:image}", "kept for the comparison of job {job}"),
    "prior-found": _event("info", "series {series}", "{days:day} earlier", "{images:image}", "{reason}"),
    "prior-refused": _event("info", "{reason}", "{count:examination}"),
    "prior-none": _event("info", "{reason}"),
    "prior-retry": _event("warning", "{destination}: {reason}", "again in {wait_s:seconds}"),
    "queued": _event("info", "waits for a {pipeline} worker", "run {run}", "{images:image}", "{reason}"),
    "no-pipeline": _event("warning", "no pipeline {pipeline} installed"),
    "running": _event("info", "{pipeline} on {worker}", "run {run}"),
    "stage": _event("info", "{stage}", "{seconds:seconds}"),
    "analysed": _event(
        "info",
        "{outcome}",
        "{sides}",
        "{lesions:lesion}",
        "{volume_ml:.2f} mL",
        "{reason}",
        "{seconds:seconds}",
    ),
    "to-compare": _event("info", "with the prior of job {job}"),
    "compared": _event(
        "info",
        "grade {grade}",
        "{new} new",
        "{enlarging} enlarging",
        "{smaller} smaller",
        "{resolved} resolved",
        "{possible} possible",
        "{seconds:seconds}",
    ),
    "not-compared": _event("info", "{reason}"),
    "summarised": _event(
        "info",
        "page of the study from {count:result}",
        "revision {revision}",
        "{reason}",
        "{seconds:seconds}",
    ),
    "failed": _event("error", "{reason}", "run {run}"),
    "run-lost": _event("warning", "run {run} was lost", "{reason}"),
    "sent": _event("info", "{objects:object} to {destination}", "{seconds:seconds}"),
    "unverified": _event("info", "{destination}: {reason}", "{objects:object} sent all the same"),
    "other-patient": _event(
        "error", "{destination} has the study under another patient", "{objects:object} not sent", "{reason}"
    ),
    "confirmed": _event("info", "{destination} holds {objects:object}"),
    "unproven": _event("warning", "{destination} took {objects:object}", "{reason}"),
    "commitment-given": _event(
        "info",
        "{calling_ae} asked whether {images:image} are kept",
        "{objects} are",
        "{reason}",
        label="committed",
    ),
    "commitment-unanswered": _event(
        "warning", "{calling_ae} was not told whether {images:image} are kept", "{reason}", label="unanswered"
    ),
    "missing": _event("warning", "{destination} does not hold {objects:object} that it took", "{reason}"),
    "delivered": _event(
        "info", "{objects:object} at {destination}", "{seconds:seconds} since the last image", "{reason}"
    ),
    "object-warning": _event(
        "warning", "{destination} stored {objects:object} ({role}) with a warning", "{reason}"
    ),
    "object-refused": _event(
        "warning", "{destination} does not take {role}", "{objects:object} not sent", "{reason}"
    ),
    "object-failed": _event("error", "{destination} has not got {objects:object} ({role})", "{reason}"),
    "delivery-retry": _event(
        "warning", "{destination}: {reason}", "{objects:object} wait", "again in {wait_s:seconds}"
    ),
    "undelivered": _event("error", "{objects:object} not at {destination}", "{reason}"),
    "broker-lost": _event("error", "{broker} does not answer", "{reason}"),
    "broker-back": _event(
        "info", "{broker} answers again", "after {seconds:seconds}", "{count:job} enqueued again"
    ),
    "no-worker": _event(
        "warning",
        "no {pipeline} worker answers",
        "{count:job} in the queue",
        "without one for {waited_s:seconds}",
        "{reason}",
    ),
    "worker-back": _event("info", "{pipeline} jobs no longer wait for a worker", "after {waited_s:seconds}"),
    "replaced": _event("info", "replaces job {replaces}", "{reason}"),
    "retry": _event("info", "asked for by a person", "run {run}", "{reason}"),
}
