"""Word of the files that processes have in hand while they parse them, kept for whoever comes after a process has died.

A process notes each file before it looks at it and blanks the note afterwards; a note that a dead one leaves names the file
that it died over, also when the whole node died with it. Notes are not synchronised: they must outlast a process, not a power
cut. Deaths are counted for each file, durably.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

from dicom_node.spool.durable import FILE_MODE, write_durably
from dicom_node.spool.series_folder import make_folder
from dicom_node.spool.spool import Spool

FOLDER = "in-hand"
DEATHS = "deaths.json"
NOTE_SUFFIX = ".note"


class Note:
    """Note of one process about the file that it has in hand.

    Parameters
    ----------
    path : Path
        Where it is kept.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, FILE_MODE)
        self._written = 0

    def clear(self) -> None:
        """Say that no file is in hand."""
        self._put("")

    def write(self, name: str) -> None:
        """Name the file that is taken in hand."""
        self._put(name)

    def _put(self, name: str) -> None:
        encoded = os.fsencode(name)
        os.pwrite(self._descriptor, encoded.ljust(self._written, b"\0"), 0)
        self._written = len(encoded)


def name_of(path: str, root: str) -> str:
    """Return the name by which a file of the spool is noted: its path in it."""
    return path.removeprefix(f"{root}/")


class InHand:
    """The notes of a node's processes, and how often each file was in hand when one died.

    Parameters
    ----------
    spool : Spool
        Files are named by their paths in it.
    """

    def __init__(self, spool: Spool) -> None:
        self._folder = spool.root / FOLDER
        self._root = spool.root
        self._lock = threading.Lock()
        make_folder(self._folder)
        self._deaths = self._read_deaths()
        for path in sorted(self._folder.glob(f"*{NOTE_SUFFIX}")):
            name = self.take(path)
            if name and (spool.root / name).exists():
                self.count(name, "the node ended while it was read")
        gone = [name for name in self._deaths if not (spool.root / name).exists()]
        self.forget(*gone)

    def note_path(self, number: int) -> Path:
        """Return where the process of that number keeps its note."""
        return self._folder / f"{number}{NOTE_SUFFIX}"

    def name_of(self, path: Path) -> str:
        """Return the name of a file, its path in the spool, as a process notes it."""
        return name_of(str(path), str(self._root))

    @property
    def has_deaths(self) -> bool:
        """True when there is a file that a process died over."""
        return bool(self._deaths)

    def take(self, path: Path) -> str:
        """Return what a process that is gone had in hand, or "", and blank its note."""
        try:
            name = os.fsdecode(path.read_bytes().rstrip(b"\0"))
        except FileNotFoundError:
            return ""
        if name:
            os.truncate(path, 0)
        return name

    def count(self, name: str, reason: str) -> int:
        """Count a death over a file, with its reason; return how many there were."""
        with self._lock:
            for other in [other for other in self._deaths if not (self._root / other).exists()]:
                del self._deaths[other]  # it was set aside
            reasons = self._deaths.setdefault(name, [])
            reasons.append(reason)
            self._write()
            return len(reasons)

    def reasons(self, name: str) -> tuple[str, ...]:
        """Return why processes died over a file, oldest first."""
        return tuple(self._deaths.get(name, ()))

    def forget(self, *names: str) -> None:
        """Forget the deaths over files: they were read, or set aside."""
        with self._lock:
            known = [name for name in names if self._deaths.pop(name, None)]
            if known:
                self._write()

    def _write(self) -> None:
        write_durably(self._folder / DEATHS, json.dumps(self._deaths))

    def _read_deaths(self) -> dict[str, list[str]]:
        try:
            found = json.loads((self._folder / DEATHS).read_text())
            return {str(name): [str(reason) for reason in reasons] for name, reasons in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}  # none died, or the word of it is damaged: it is counted anew
