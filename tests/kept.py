"""Phantoms and small trained networks that take seconds to make, kept on the disk: made once, by whichever process asks first.

A thing is kept by the digest of what made it: the sources of ``pipelines``, the maker's own file, its arguments, and the
versions of the libraries that compute. A fresh clone makes each once a session, and anew only when one of these has changed.
"""

from __future__ import annotations

import fcntl
import functools
import gzip
import hashlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".pytest_cache" / "kept"
spent: list[float] = []
"""Processor time that each thing took which this process has made: it is no test's own."""
LIBRARIES = ("numpy", "scipy", "torch", "monai", "nilearn", "SimpleITK")


def kept(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return ``make(*args, **kwargs)`` from the disk, each time a new copy; the repr of an argument must say all of it."""
    maker = f"{make.__module__}.{make.__qualname__}"
    sources = digest(sources_digest(), Path(inspect.getfile(make)).read_bytes())
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{maker}.{sources}.{digest(repr((args, sorted(kwargs.items()))).encode())}"
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # others wait for the first, until it is done or has died
        if not path.exists():
            begun = cpu_s()
            made = make(*args, **kwargs)
            spent.append(cpu_s() - begun)
            for old in FOLDER.glob(f"{maker}.*"):
                if not old.name.startswith(f"{maker}.{sources}."):
                    old.unlink(missing_ok=True)
            part = path.with_name(f"{path.name}.part")
            with gzip.open(part, "wb", compresslevel=1) as stream:
                pickle.dump(made, stream, protocol=5)
            part.replace(path)
    with gzip.open(path, "rb") as stream:
        found: T = pickle.load(stream)
    return found


def cpu_s() -> float:
    """Return the processor time of this process and of those that it waited for."""
    return sum(os.times()[:4])


def digest(*contents: bytes | str) -> str:
    """Return a short digest of some contents in their order."""
    known = hashlib.sha256()
    for content in contents:
        known.update(hashlib.sha256(content.encode() if isinstance(content, str) else content).digest())
    return known.hexdigest()[:16]


@functools.cache
def sources_digest() -> str:
    """Return the digest of the sources of ``pipelines`` and of the libraries' versions."""
    files = sorted((ROOT / "pipelines").rglob("*.py"))
    named = [part for path in files for part in (str(path.relative_to(ROOT)), path.read_bytes())]
    return digest(sys.version, *map(version, LIBRARIES), *named)
