"""The states of series, jobs and objects to be delivered, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class SeriesState(StrEnum):
    """State of a series between its first image and its job."""

    RECEIVING = "receiving"
    HELD = "held"
    IGNORED = "ignored"
    ROUTED = "routed"
    PRIOR = "prior"  # of an earlier study, asked for by this node: for comparison only


class JobState(StrEnum):
    """State of a job. What it found is its outcome, not its state."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"  # a destination refused for good what it should hold
    HELD = "held"  # by a person
    NO_PIPELINE = "no-pipeline"
    ABANDONED = "abandoned"  # replaced or taken back before all of its result was sent


class ObjectState(StrEnum):
    """State of one result object at one destination."""

    PENDING = "pending"
    SENT = "sent"  # C-STORE succeeded, the proof is outstanding
    CONFIRMED = "confirmed"
    REFUSED = "refused"  # the destination does not take this class: delivered without it
    FAILED = "failed"  # a permanent status


SERIES_TRANSITIONS: dict[SeriesState, frozenset[SeriesState]] = {
    SeriesState.RECEIVING: frozenset(
        {SeriesState.HELD, SeriesState.IGNORED, SeriesState.ROUTED, SeriesState.PRIOR}
    ),
    SeriesState.HELD: frozenset(
        {SeriesState.RECEIVING, SeriesState.IGNORED, SeriesState.ROUTED, SeriesState.PRIOR}
    ),
    SeriesState.IGNORED: frozenset({SeriesState.RECEIVING, SeriesState.ROUTED}),
    SeriesState.ROUTED: frozenset({SeriesState.RECEIVING}),
    SeriesState.PRIOR: frozenset({SeriesState.RECEIVING}),
}

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset(
        {JobState.QUEUED, JobState.RUNNING, JobState.DELIVERING, JobState.HELD, JobState.ABANDONED}
    ),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.DELIVERING, JobState.HELD, JobState.ABANDONED}),
    JobState.DELIVERING: frozenset(
        {JobState.DELIVERED, JobState.UNDELIVERED, JobState.QUEUED, JobState.ABANDONED}
    ),
    JobState.DELIVERED: frozenset({JobState.QUEUED, JobState.DELIVERING}),
    JobState.UNDELIVERED: frozenset(
        {JobState.QUEUED, JobState.DELIVERING, JobState.DELIVERED, JobState.ABANDONED}
    ),
    JobState.HELD: frozenset({JobState.QUEUED, JobState.ABANDONED}),
    JobState.NO_PIPELINE: frozenset({JobState.QUEUED, JobState.ABANDONED}),
    JobState.ABANDONED: frozenset({JobState.QUEUED}),
}

JOB_ENDED = frozenset({JobState.DELIVERED, JobState.UNDELIVERED, JobState.NO_PIPELINE, JobState.ABANDONED})
