"""Memory of trainings and analyses on a CPU: how they get it from the C library."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Of `mallopt`, from glibc's malloc.h."""
_PAD_BYTES = 256 * 1024 * 1024
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors for the next ones; return whether it will.

    glibc maps each large block anew and unmaps it when it is freed, so that the kernel clears the same gigabytes at every step:
    half of the time, measured (the U-Net's training 3.2 s a step before and 1.5 s after; the joint network's answer 3.3 and
    2.4 s). Other C libraries are left as they are. The process keeps the most memory that it ever held, until
    `give_back_memory`.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    pairs = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _PAD_BYTES))
    done = [mallopt(option, value) == 1 for option, value in pairs]
    return all(done)


def give_back_memory() -> bool:
    """Let glibc give freed memory back to the system; return whether it could.

    Between two analyses: what one leaves in pieces would otherwise add to the peak of the next, and a worker would hold
    gigabytes while it waits.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return False
    trim(0)
    return True
