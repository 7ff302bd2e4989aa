"""Limits of a process that parses what strangers sent: on its memory, on its processor time, and no core dump."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path

OUT_OF_MEMORY = 9
"""Exit status of such a process when it has come to the limit of its memory."""
KILLED_FIRST = 900
"""Kernel's score by which it is killed before others, when the host has no memory left (proc(5))."""


def limit_memory(memory_mb: int) -> None:
    """Limit this process to so many MB beyond what it has now; it leaves no core dump, which would hold a patient's data."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + memory_mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(KILLED_FIRST))


def limit_processor_time(seconds: int) -> None:
    """Have this process killed by SIGXCPU once it has computed for so many seconds more; a new call sets it anew."""
    most = int(time.process_time()) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
