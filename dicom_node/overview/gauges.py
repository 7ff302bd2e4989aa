"""The overview as numbers for Prometheus; ``deploy/monitoring`` builds on their names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dicom_node.errors import NodeError
from dicom_node.jobs.states import JobState
from dicom_node.overview.overview import Overview

log = logging.getLogger(__name__)

COUNTED_STATES = (
    JobState.QUEUED,
    JobState.RUNNING,
    JobState.DELIVERING,
    JobState.HELD,
    JobState.UNDELIVERED,
    JobState.NO_PIPELINE,
)
"""States of jobs that have a number of their own, such as ``dicom_node_jobs_queued``."""

Labelled = Iterable[tuple[str, float | None]]
"""Value of the label and number; a number of None is left out."""


class OverviewGauges(Collector):
    """Gauges that are read from an overview, which is made when somebody asks.

    Parameters
    ----------
    overview : callable
        Makes it.
    """

    def __init__(self, overview: Callable[[], Overview]) -> None:
        self._overview = overview

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: to be registered, no overview need be made."""
        return ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Make an overview, and yield its numbers; none while the database or the disk can't be read."""
        try:
            found = self._overview()
        except (NodeError, OSError) as error:
            log.warning("no overview for /metrics: %s", error)
            return
        yield _labelled("build_info", "The version that runs", "version", [(found.version, 1)])
        yield _labelled(
            "stuck",
            "Things that do not go on by themselves",
            "level",
            [("error", len(found.errors)), ("warning", len(found.stuck) - len(found.errors))],
        )
        yield _plain("series_held", "Series that wait for a person", found.series_held)
        stages = [(stage.name.replace(" ", "_"), _age(found, stage.oldest_at)) for stage in found.stages]
        yield _labelled(
            "oldest_age_seconds", "How long the oldest has been in a stage; 0 without any", "stage", stages
        )
        yield from _queues(found)
        yield from _destinations(found)
        disk = found.disk
        yield _plain("disk_free_bytes", "Room on the disk of the data folder", disk.free)
        yield _plain("disk_total_bytes", "Its size, without what is kept for root", disk.total)
        yield _plain("disk_used_ratio", "The share of it in use", disk.used_share)
        yield _plain("disk_high_water_ratio", "The share beyond which images are refused", disk.high_water)
        yield _plain("quarantine_files", "Files that were set aside", disk.quarantine)


def _queues(found: Overview) -> Iterator[GaugeMetricFamily]:
    queues = found.queues
    yield _labelled(
        "queue_jobs", "Jobs that wait in a queue", "queue", [(one.name, one.queued) for one in queues]
    )
    yield _labelled(
        "queue_oldest_age_seconds",
        "How long the oldest of them waits; 0 without any",
        "queue",
        [(one.name, _age(found, one.oldest_at)) for one in queues],
    )
    yield _labelled(
        "queue_unserved_seconds",
        "How long jobs have waited in a queue without a worker; 0 where one answers, or nothing waits",
        "queue",
        [(one.name, _age(found, one.unserved_since)) for one in queues],
    )
    yield _labelled(
        "workers", "Workers that answer, by the queue", "queue", [(one.name, one.workers) for one in queues]
    )


def _destinations(found: Overview) -> Iterator[GaugeMetricFamily]:
    ends = found.destinations
    yield _labelled(
        "destination_waiting_objects",
        "Objects that wait to be sent",
        "destination",
        [(one.name, one.objects) for one in ends],
    )
    yield _labelled(
        "destination_unproven_objects",
        "Objects that were sent and whose proof is outstanding",
        "destination",
        [(one.name, one.unproven) for one in ends],
    )
    yield _labelled(
        "destination_oldest_age_seconds",
        "How long the oldest job with objects that wait has been delivered; 0 without any",
        "destination",
        [(one.name, _age(found, one.oldest_at)) for one in ends],
    )
    yield _labelled(
        "destination_last_success_timestamp_seconds",
        "When it last took or proved an object; absent before it ever did",
        "destination",
        [(one.name, one.last_success_at) for one in ends],
    )


def _age(found: Overview, since: float | None) -> float:
    return 0.0 if since is None else max(0.0, found.at - since)


def _plain(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"dicom_node_{name}", words, value=value)


def _labelled(name: str, words: str, label: str, values: Labelled) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"dicom_node_{name}", words, labels=[label])
    for key, number in values:
        if number is not None:
            family.add_metric([key], number)
    return family
