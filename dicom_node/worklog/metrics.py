"""Numbers for a monitoring system, in the form of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dicom_node.worklog.events import EVENTS
from dicom_node.worklog.records import Record

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

STAGE_BUCKETS_S = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)


class Metrics:
    """Counts the worklog's events and asks for depths when somebody reads them.

    Attributes
    ----------
    app : WSGI application
        Answers with all of them.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._gauges = _Gauges()
        self._registry.register(self._gauges)
        self._events = Counter(
            "dicom_node_events", "Steps written to the worklog", ["event"], registry=self._registry
        )
        self._seconds = Histogram(
            "dicom_node_step_seconds",
            "Duration of the steps that have one",
            ["event", "stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self._registry,
        )
        self._images = Counter("dicom_node_images", "Images received", registry=self._registry)
        for event in EVENTS:
            self._events.labels(event)
        self.app: WSGIApplication = make_wsgi_app(self._registry)

    def count(self, record: Record) -> None:
        """Count one record; made for :meth:`dicom_node.worklog.writer.Worklog.subscribe`."""
        self._events.labels(record.event).inc()
        seconds = record.figures.get("seconds")
        if seconds is not None:
            self._seconds.labels(record.event, str(record.figures.get("stage", ""))).observe(float(seconds))
        if record.event == "received":
            self._images.inc(int(record.figures.get("images", 0)))

    def gauge(
        self, name: str, documentation: str, read: Callable[[], float | Mapping[str, float]], label: str = ""
    ) -> None:
        """Add a number that is asked for when it is read, such as the depth of a queue.

        Parameters
        ----------
        name : str
            Without the prefix ``dicom_node_``.
        read : callable
            Gives the number, or with `label` one for each value of the label.
        """
        self._gauges.add(_Gauge(f"dicom_node_{name}", documentation, read, label))

    def register(self, collector: Collector) -> None:
        """Add numbers that a collector makes when they are read."""
        self._registry.register(collector)


@dataclass(frozen=True)
class _Gauge:
    name: str
    documentation: str
    read: Callable[[], float | Mapping[str, float]]
    label: str


class _Gauges(Collector):
    """Gauges whose callbacks are called when somebody reads them."""

    def __init__(self) -> None:
        self._gauges: list[_Gauge] = []

    def add(self, gauge: _Gauge) -> None:
        self._gauges.append(gauge)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for gauge in self._gauges:
            value = gauge.read()
            labels = [gauge.label] if gauge.label else []
            family = GaugeMetricFamily(gauge.name, gauge.documentation, labels=labels)
            if isinstance(value, Mapping):
                for key, number in value.items():
                    family.add_metric([key], number)
            else:
                family.add_metric([], value)
            yield family
