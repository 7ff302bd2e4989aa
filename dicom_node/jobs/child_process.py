"""Process of its own for what the node must not do itself: asked by JSON on its input, it answers by JSON on its output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from dicom_node.errors import NodeError
from dicom_node.series.process_limits import OUT_OF_MEMORY, limit_memory, limit_processor_time


def ask_child(module: str, order: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
    """Run a module as a process that calls :func:`answer`, and return its answer.

    Parameters
    ----------
    timeout_s : float
        For a process that waits for the disk; its processor time is limited by itself.

    Raises
    ------
    NodeError
        It says that it can't do it, or has died over it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(order).encode(),
            stdout=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"its process did not end in {timeout_s:g} s") from None
    except OSError as error:
        raise NodeError(f"its process can't be started: {error.strerror}") from error
    if done.returncode:
        raise NodeError(f"its process ended: {_end_of(done.returncode)}")
    try:
        found = json.loads(done.stdout)
        if "error" in found:
            raise NodeError(str(found["error"]))
        return dict(found)
    except (ValueError, TypeError) as error:
        raise NodeError(f"its process answered what nobody understands: {type(error).__name__}") from error


def answer(do: Callable[[dict[str, Any]], dict[str, Any]], memory_mb: int, processor_s: int) -> None:
    """Do what the input says, within limits, and write the answer; for the process itself."""
    order = json.load(sys.stdin)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    limit_memory(memory_mb)
    limit_processor_time(processor_s)
    try:
        told = do(order)
    except NodeError as error:
        told = {"error": str(error)}
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    json.dump(told, answers)
    answers.flush()


def _end_of(status: int) -> str:
    if status == -signal.SIGXCPU:
        return "it took too much processor time"
    if status == OUT_OF_MEMORY:
        return "it took too much memory"
    return f"signal {-status}" if status < 0 else f"status {status}"
