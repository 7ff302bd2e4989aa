"""The embedded broker, and the messages in it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu import Connection
from rig import message_of

from dicom_node.errors import BrokerError
from dicom_node.jobs.dispatch import Dispatcher, connect, redacted
from dicom_node.jobs.schema import JobRow
from dicom_node.node.embedded_broker import EmbeddedBroker, read_url

pytestmark = pytest.mark.integration

JOB = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path / "a folder, 100%")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def dispatcher(broker: EmbeddedBroker) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(broker.url, "test")
    yield dispatcher
    dispatcher.close()


def job(run: int = 1, job_id: str = JOB, **settings: Any) -> JobRow:
    return JobRow(id=job_id, run=run, pipeline="flair", settings=settings, images=[], note="")


def server_pid(broker: EmbeddedBroker) -> int:
    return int((broker.folder / "pid").read_text())


def test_broker_starts_answers_and_is_gone_after_stop(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker")
    assert not broker.alive()
    with pytest.raises(BrokerError, match="start the node first"):
        read_url(broker.folder)
    broker.start()
    assert broker.alive()
    assert read_url(broker.folder) == broker.url
    assert broker.url.startswith("redis+socket:///")
    pid = server_pid(broker)
    broker.stop()
    broker.stop()
    assert not psutil.pid_exists(pid)
    assert {path.name for path in broker.folder.iterdir()} == {"lock", "valkey.conf", "valkey.log"}


def test_everything_of_the_broker_is_private_and_nothing_is_saved(broker: EmbeddedBroker) -> None:
    assert {
        path.name: path.stat().st_mode & 0o077 for path in [broker.folder, *broker.folder.iterdir()]
    } == dict.fromkeys((broker.folder.name, "lock", "pid", "socket", "url", "valkey.conf", "valkey.log"), 0)
    with connect(broker.url) as client:
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("port") == {"port": "0"}


def test_long_path_gets_a_loopback_port_with_a_password_kept_over_restarts(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / ("x" * 110))
    broker.start()
    try:
        url = broker.url
        secret = url.partition("redis://:")[2].partition("@")[0]
        assert len(secret) > 40
        with pytest.raises(BrokerError, match="authenticated"):
            Dispatcher(url.replace(f":{secret}@", ""), "test").ping()
        psutil.Process(server_pid(broker)).kill()
        broker.start()
        assert broker.url == url
        assert broker.alive()
        assert secret not in " ".join(psutil.Process(server_pid(broker)).cmdline())
    finally:
        broker.stop()


def test_killed_server_is_started_again_on_the_same_url(broker: EmbeddedBroker) -> None:
    url = broker.url
    psutil.Process(server_pid(broker)).kill()
    broker.start()
    assert broker.alive()
    assert broker.url == url


def test_second_owner_is_refused_and_leaves_the_server_alone(broker: EmbeddedBroker) -> None:
    second = EmbeddedBroker(broker.folder)
    with pytest.raises(BrokerError, match="another node uses this data folder"):
        second.start()
    second.stop()
    assert broker.alive()


OWNER = """
import os, sys
from pathlib import Path
from dicom_node.node.embedded_broker import EmbeddedBroker
broker = EmbeddedBroker(Path(sys.argv[1]))
broker.start()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("answers", [True, False])
def test_server_whose_owner_was_killed_is_adopted_or_ended(tmp_path: Path, answers: bool) -> None:
    subprocess.run([sys.executable, "-c", OWNER, str(tmp_path / "b")], check=False)
    broker = EmbeddedBroker(tmp_path / "b")
    server = psutil.Process(server_pid(broker))
    if not answers:
        (tmp_path / "b" / "socket").unlink()
    broker.start()
    assert broker.alive()
    assert (server_pid(broker) == server.pid) is answers
    assert (server.is_running() and server.status() != psutil.STATUS_ZOMBIE) is answers
    pid = server_pid(broker)
    broker.stop()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_foreign_process_of_a_stale_pid_file_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        (folder / "pid").write_text(str(stranger.pid))
        broker = EmbeddedBroker(folder)
        broker.start()
        broker.stop()
        assert stranger.poll() is None
        stranger.communicate(b"\n")


def test_message_lies_in_the_queue_of_its_pipeline_and_can_be_taken_back(dispatcher: Dispatcher) -> None:
    first = job(name="ü")
    dispatcher.enqueue(first, message_of(first))
    for another in (job(run=2), job(job_id="f" * 32)):
        dispatcher.enqueue(another, message_of(another))
    assert dispatcher.places("flair") == {
        f"{JOB}.run1": "queue", f"{JOB}.run2": "queue", f"{'f' * 32}.run1": "queue"
    }  # fmt: skip
    assert dispatcher.places("fatsat") == {}
    dispatcher.forget(JOB, "flair")
    assert dispatcher.places("flair") == {f"{'f' * 32}.run1": "queue"}


def test_message_taken_by_a_worker_that_died_is_seen_and_can_be_taken_back(
    dispatcher: Dispatcher, broker: EmbeddedBroker
) -> None:
    dispatcher.enqueue(job(), message_of(job()))
    connection = Connection(broker.url)
    simple = connection.SimpleQueue("flair")
    simple.get(timeout=5)
    assert dispatcher.places("flair") == {f"{JOB}.run1": "taken"}
    dispatcher.forget(JOB, "flair")
    assert dispatcher.places("flair") == {}
    simple.close()
    connection.release()
    assert dispatcher.places("flair") == {}


def test_run_id_changes_with_the_server(dispatcher: Dispatcher, broker: EmbeddedBroker) -> None:
    before = dispatcher.ping()
    assert dispatcher.ping() == before
    psutil.Process(server_pid(broker)).kill()
    broker.start()
    assert dispatcher.ping() != before
    dispatcher.enqueue(job(), message_of(job()))
    assert dispatcher.places("flair") == {f"{JOB}.run1": "queue"}


def test_absent_broker_is_told_without_its_password() -> None:
    dispatcher = Dispatcher("redis://:secret@127.0.0.1:1/0", "test")
    for ask in (
        dispatcher.ping,
        lambda: dispatcher.enqueue(job(), message_of(job())),
        lambda: dispatcher.places("flair"),
    ):
        with pytest.raises(
            BrokerError, match=r"the broker at redis://127\.0\.0\.1:1/0 can't be used"
        ) as caught:
            ask()
        assert "secret" not in str(caught.value)
    dispatcher.close()


def test_bad_url_is_told() -> None:
    with pytest.raises(BrokerError, match="not a broker's URL"):
        connect("http://somewhere")
    assert redacted("redis://user:p@ss@host:1/0") == "redis://host:1/0"
