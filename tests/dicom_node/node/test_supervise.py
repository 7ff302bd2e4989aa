import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config.settings import load_settings
from dicom_node.errors import PortTakenError
from dicom_node.node import supervise
from dicom_node.node.node import Node
from dicom_node.node.supervise import stop_without

CHILD = """
import sys, threading
from dicom_node.node.supervise import stop_without

stop = threading.Event()
stop_without(int(sys.argv[1]), stop)
print("started", flush=True)
print("stopped" if stop.wait(60) else "still there", flush=True)
"""
PARENT = """
import os, subprocess, sys, time

subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], start_new_session=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_child_stops_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        parent.send_signal(signal.SIGKILL)
        # The pipe ends when the last process that holds it has ended.
        assert parent.stdout.read() == "stopped\n"


def test_child_whose_parent_is_gone_already_stops_at_once() -> None:
    stop = threading.Event()
    stop_without(os.getpid(), stop)  # nobody is its own parent
    assert stop.wait(10)


@pytest.mark.slow
def test_damaged_node_and_one_that_does_not_start_in_its_place_are_stopped_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []

    class Started(Node):
        """A node whose database is damaged, and then one whose port somebody has taken meanwhile."""

        number = 0

        def __init__(self, *parts: Any) -> None:
            super().__init__(*parts)
            Started.number += 1
            self.number = Started.number

        def start(self) -> None:
            calls.append(("start", self.number))
            super().start()
            if self.number == 2:
                raise PortTakenError("port 104 is in use")
            self.store.is_damaged = True

        def stop(self, reason: str = "") -> None:
            calls.append(("stop", self.number))
            super().stop(reason)

    monkeypatch.setattr(supervise, "Node", Started)
    monkeypatch.setattr(supervise, "LOOK_S", 0.01)
    node = {"host": "127.0.0.1", "port": 0, "data": str(tmp_path / "data")}
    settings = load_settings(None, {"node": node, "accept": {"processes": 0}})
    with pytest.raises(PortTakenError):
        supervise.run(settings, {}, config=None, with_worker=False, stop=threading.Event())
    assert calls == [("start", 1), ("stop", 1), ("start", 2), ("stop", 2)]
    with Path(tmp_path / "data" / "lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds the folder any longer
