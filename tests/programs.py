"""Programs of the system that tests and benchmarks start; without pytest, for benchmarks run where it is not installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
"""Debian puts Orthanc there, and leaves them out of a user's PATH."""


def find_program(name: str) -> str | None:
    """Return the path of a program that is no script: pynetdicom's "storescu" comes first in an activated environment."""
    for folder in (*os.get_exec_path(), *SYSTEM_FOLDERS):
        found = shutil.which(name, path=folder)
        if found is not None and not _is_script(Path(found)):
            return found
    return None


def _is_script(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"#!"
