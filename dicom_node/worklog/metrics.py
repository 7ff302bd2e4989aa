"""Numbers for a monitoring system: ``/metrics`` for Prometheus, and ``/healthz``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dicom_node.errors import PortTakenError
from dicom_node.worklog.events import EVENTS
from dicom_node.worklog.records import Record

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

STAGE_BUCKETS_S = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)


class Metrics:
    """Counts the worklog's events and asks for depths when somebody reads them.

    Parameters
    ----------
    health : callable, optional
        Gives the reasons why the node is not well, one line each; called for each ``/healthz``.
    """

    def __init__(self, health: Callable[[], Iterable[str]] = tuple) -> None:
        self._health = health
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
        self._app = make_wsgi_app(self._registry)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

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

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while off."""
        return int(self._server.server_port) if self._server else 0

    def start(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen; a `port` of 0 means off.

        Raises
        ------
        PortTakenError
            Somebody else listens there, or the address is not of this machine.
        """
        if port == 0:
            return
        self.listen(port, host)

    def listen(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen on `port`, or on one that the system chooses when it is 0."""
        try:
            self._server = make_server(host, port, self._answer, _Server, _SilentHandler)
        except OSError as error:
            raise PortTakenError(
                f"[node] metrics_port {host}:{port} can't be listened on: {error.strerror}; "
                "choose another one, or 0 for no metrics"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        if path == "/healthz":
            troubles = list(self._health())
            status, text = ("503 Service Unavailable", "\n".join(troubles)) if troubles else ("200 OK", "ok")
        else:
            status, text = "404 Not Found", "there are /metrics and /healthz"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]


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


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each caller on a thread of its own."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the name service for this host's name, as the base class would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _SilentHandler(WSGIRequestHandler):
    """Writes no access log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
