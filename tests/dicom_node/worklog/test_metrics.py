import socket
import urllib.error
import urllib.request

import pytest

from dicom_node.errors import PortTakenError
from dicom_node.worklog.metrics import Metrics
from dicom_node.worklog.writer import Worklog


def get(metrics, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics.port}{path}", timeout=5) as answer:
        return answer.read().decode()


@pytest.fixture
def troubles():
    return []


@pytest.fixture
def metrics(troubles):
    metrics = Metrics(health=lambda: troubles)
    metrics.listen(0)
    yield metrics
    metrics.stop()


def test_events_images_and_stages_are_counted(metrics, tmp_path):
    log = Worklog(tmp_path)
    log.subscribe(metrics.count)
    log.write("received", images=48, calling_ae="A", seconds=1.5)
    log.write("stage", stage="mask", seconds=2.0)
    text = get(metrics, "/metrics")
    assert 'dicom_node_events_total{event="received"} 1.0' in text
    assert 'dicom_node_events_total{event="failed"} 0.0' in text
    assert "dicom_node_images_total 48.0" in text
    assert 'dicom_node_step_seconds_sum{event="stage",stage="mask"} 2.0' in text


def test_gauges_are_asked_when_they_are_read(metrics):
    waiting = {"flair": 1.0}
    metrics.gauge("inbox_files", "Files not yet filed", lambda: 3)
    metrics.gauge("jobs_waiting", "Jobs in the queue", lambda: waiting, label="queue")
    assert 'dicom_node_jobs_waiting{queue="flair"} 1.0' in get(metrics, "/metrics")
    waiting["flair"] = 2.0
    text = get(metrics, "/metrics")
    assert 'dicom_node_jobs_waiting{queue="flair"} 2.0' in text
    assert "dicom_node_inbox_files 3.0" in text


def test_health_names_the_trouble(metrics, troubles):
    assert get(metrics, "/healthz") == "ok\n"
    troubles.append("the broker does not answer")
    with pytest.raises(urllib.error.HTTPError, match="503") as raised:
        get(metrics, "/healthz")
    with raised.value as answer:
        assert answer.read() == b"the broker does not answer\n"


def test_other_paths_are_not_found(metrics):
    with pytest.raises(urllib.error.HTTPError, match="404") as raised:
        get(metrics, "/")
    raised.value.close()


def test_port_zero_is_off():
    metrics = Metrics()
    metrics.start(0)
    assert metrics.port == 0
    metrics.stop()


def test_taken_port_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"metrics_port 127.0.0.1:{port}"):
            Metrics().start(port)
