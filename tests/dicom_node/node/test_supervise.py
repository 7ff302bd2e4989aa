import os
import signal
import subprocess
import sys
import threading

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
