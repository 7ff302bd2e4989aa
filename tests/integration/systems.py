"""Whole systems for the tests: a node as its users start it, Orthanc as its own process, a small archive."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_echo import echo
from dicom_node.errors import DeliveryError
from tests.programs import find_program

DICOMWEB_PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/plugins/libOrthancDicomWeb.so"),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Path of a Debian program; missing ones fail in CI and skip elsewhere."""
    found = find_program(name)
    if found is None:
        import pytest  # the benchmarks run without it

        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed (apt-get install orthanc orthanc-dicomweb dcmtk)")
        pytest.skip(f"{name} is not installed")
    return found


def wait_until(condition: Any, timeout_s: float, what: str) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    raise AssertionError(f"after {timeout_s:g} s still not: {what}")


class Orthanc:
    """An Orthanc of our own configuration on free loopback ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.http_port = free_port(), free_port()
        plugin = next((path for path in DICOMWEB_PLUGINS if path.exists()), None)
        assert plugin is not None, "orthanc-dicomweb is not installed"
        configuration = {
            "Name": "pacs",
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowFind": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(plugin)],
            "DicomWeb": {"Enable": True},
            "DicomModalities": {"node": ["LESIONNODE", "127.0.0.1", 104]},
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.configuration = folder / "orthanc.json"
        self.configuration.write_text(json.dumps(configuration))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("Orthanc"), str(self.configuration)],
                stdout=log,
                stderr=log,
                env={**os.environ, "TCP_NODELAY": "1"},
            )
        wait_until(self._answers, 30, "Orthanc answers")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def find(self, level: str, query: dict[str, str]) -> list[Any]:
        body = json.dumps({"Level": level, "Query": query, "Expand": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/tools/find", body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: list[Any] = json.load(answer)
        return found

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False


class RunningNode:
    """``dicom-node up`` as a process, with its data folder and worklog."""

    program: Sequence[str] = (sys.executable, "-m", "dicom_node.cli")
    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path, pacs_port: int, pacs_ae: str = "PACS", extra: str = "") -> None:
        self.folder = folder
        self.data = folder / "node-data"
        self.port = free_port()
        self.config = folder / "node.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f'[node]\nport = {self.port}\nhost = "127.0.0.1"\n[series]\nquiet_s = 0.5\n{extra}\n'
            f'[[destination]]\nname = "pacs"\nae_title = "{pacs_ae}"\nhost = "127.0.0.1"\nport = {pacs_port}\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: str = "up") -> None:
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, command, "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        wait_until(self._answers, 120, f"the node answers C-ECHO; {(self.folder / 'up.log').read_text()}")

    def stop(self) -> None:
        """End the node, and whatever processes a test has orphaned."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(40)
        for process in self.processes("worker") + self.processes("valkey"):
            process.kill()

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def processes(self, kind: str) -> list[psutil.Process]:
        """Processes of this node: "worker" (with their children) or "valkey"."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or [""]
            is_worker = "worker" in words and str(self.config) in words
            is_valkey = "valkey" in Path(words[0].split()[0] if words[0] else "").name and str(
                self.data
            ) in " ".join(words)
            if is_worker if kind == "worker" else is_valkey:
                found.append(process)
        return found

    def records(self) -> list[dict[str, Any]]:
        path = self.data / "worklog.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [record for record in self.records() if record["event"] == name]

    def wait_for(self, name: str, timeout_s: float = 240, count: int = 1) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.events(name)
            return found[count - 1] if len(found) >= count else None

        try:
            found: dict[str, Any] = wait_until(look, timeout_s, f"{name} in the worklog")
        except AssertionError as error:
            logs = [self.data / "worklog.log", self.data / "worker.log", self.folder / "up.log"]
            texts = [f"{path.name}:\n{path.read_text()[-4000:]}" for path in logs if path.exists()]
            raise AssertionError("\n".join([str(error), *texts])) from None
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dicom_node.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the node ended: {(self.folder / 'up.log').read_text()}")
        try:
            return echo(Address("LESIONNODE", "127.0.0.1", self.port), "TEST") > 0
        except DeliveryError:
            return False
