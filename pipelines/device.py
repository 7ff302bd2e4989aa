"""Choice of the device that torch computes on."""

from __future__ import annotations

import functools
import gc
import sys
from pathlib import Path

from pipelines.errors import PipelineError

_NO_GPU_MEMORY = ("CUDA out of memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
_NO_HOST_MEMORY = ("can't allocate memory", "not enough memory")

MAX_THREADS = 16


def resolve_device(device: str) -> str:
    """Return the torch device for "auto", "cpu", "cuda", "cuda:1".

    Raises
    ------
    PipelineError
        The name is unknown, or a GPU was asked for and there is none such.
    """
    import torch  # noqa: PLC0415 (the node starts without it)

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise PipelineError(f'unknown device "{device}"; use "auto", "cpu" or "cuda:0"') from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise PipelineError(f'no device "{device}" on this machine ({torch.cuda.device_count()} GPUs found)')
    return device


BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags by which Linux says that a processor multiplies in bfloat16; the last one is Arm's."""
_CPU_INFO = Path("/proc/cpuinfo")


@functools.cache
def computes_in_bfloat16(device: str) -> bool:
    """Return whether networks run in bfloat16 on a device: a GPU, or a processor that multiplies in it.

    There it is two to three times as fast as float32, and changes a lesion probability by some hundredths at most; on other
    processors it is slower.
    """
    if device.startswith("cuda"):
        return True
    try:
        text = _CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return not BFLOAT16_FLAGS.isdisjoint(text.split())


def threads() -> int:
    """Return how many threads an analysis may use."""
    import torch  # noqa: PLC0415

    return min(torch.get_num_threads(), MAX_THREADS)


def limit_threads() -> int:
    """Let torch and SimpleITK use as many threads as torch finds processors, at most 16; return how many."""
    import SimpleITK as sitk  # noqa: PLC0415
    import torch  # noqa: PLC0415

    number = threads()
    torch.set_num_threads(number)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    return number


def describe_device(device: str = "auto") -> str:
    """Return a line about the device that a worker would compute on; raises as `resolve_device` does."""
    import torch  # noqa: PLC0415

    used = resolve_device(device)
    if used == "cpu":
        return f"CPU, {torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(used)
    return f"{used}, {properties.name}, {properties.total_memory / 1e9:.0f} GB"


def is_gpu_out_of_memory(error: BaseException) -> bool:
    """Tell whether a GPU had no memory left: torch says so in several ways, CUDA's libraries in others."""
    text = str(error)
    named = type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and any(words in text for words in _NO_GPU_MEMORY))


def is_host_out_of_memory(error: BaseException) -> bool:
    """Tell whether the host had no memory left: torch's allocator raises a RuntimeError."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_HOST_MEMORY)


def release_gpu_memory() -> None:
    """Give back what dropped tensors still hold of a GPU; nothing where torch was never loaded."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
