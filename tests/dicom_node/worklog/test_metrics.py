import io
from pathlib import Path
from typing import Any

import pytest

from dicom_node.worklog.metrics import Metrics
from dicom_node.worklog.writer import Worklog


def read(metrics: Metrics) -> str:
    """What Prometheus reads."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "wsgi.errors": io.StringIO()}
    return b"".join(metrics.app(environ, lambda status, headers, error=None: lambda data: None)).decode()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_events_images_and_stages_are_counted(metrics: Metrics, tmp_path: Path) -> None:
    log = Worklog(tmp_path)
    log.subscribe(metrics.count)
    log.write("received", images=48, calling_ae="A", seconds=1.5)
    log.write("stage", stage="mask", seconds=2.0)
    text = read(metrics)
    assert 'dicom_node_events_total{event="received"} 1.0' in text
    assert 'dicom_node_events_total{event="failed"} 0.0' in text
    assert "dicom_node_images_total 48.0" in text
    assert 'dicom_node_step_seconds_sum{event="stage",stage="mask"} 2.0' in text


def test_gauges_are_asked_when_they_are_read(metrics: Metrics) -> None:
    waiting = {"flair": 1.0}
    metrics.gauge("inbox_files", "Files not yet filed", lambda: 3)
    metrics.gauge("jobs_waiting", "Jobs in the queue", lambda: waiting, label="queue")
    assert 'dicom_node_jobs_waiting{queue="flair"} 1.0' in read(metrics)
    waiting["flair"] = 2.0
    text = read(metrics)
    assert 'dicom_node_jobs_waiting{queue="flair"} 2.0' in text
    assert "dicom_node_inbox_files 3.0" in text
