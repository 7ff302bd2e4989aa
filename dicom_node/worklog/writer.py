"""Writes the worklog: two files, opened for appending, one write call for each line."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.worklog.events import Figure
from dicom_node.worklog.records import Record, make_record

LOG_NAME = "worklog.log"
JSON_NAME = "worklog.jsonl"
FILE_MODE = 0o600  # the data folder's rule; AE titles and addresses are nobody else's business


class Worklog:
    """The node's diary in its data folder; safe from several threads, and from several processes on one host.

    Parameters
    ----------
    folder : Path
        The data folder; ``worklog.log`` and ``worklog.jsonl`` lie directly in it.
    clock : callable, optional
        Gives the time as an aware datetime.

    Raises
    ------
    SpoolError
        The files can't be opened for appending.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Record], None]] = []
        self._text = _LineFile(folder / LOG_NAME)
        self._json = _LineFile(folder / JSON_NAME)
        self._lost = 0
        try:
            self._text.open()
            self._json.open()
        except OSError as error:
            raise SpoolError(f"{error.filename}: the worklog can't be written: {error.strerror}") from error

    def subscribe(self, listener: Callable[[Record], None]) -> None:
        """Have `listener` called with each record, after it is written and on the writer's thread."""
        self._listeners.append(listener)

    def write(self, event: str, id: str = "", **figures: Figure | None) -> None:
        """Write one step.

        A full disk must not stop the node: lines that can't be written are counted, and the count is
        written as a ``warning`` as soon as there is room again.

        Parameters
        ----------
        event : str
            One of :data:`dicom_node.worklog.events.EVENTS`.
        id : str, optional
            ID of the job or series (hex digest; its first 8 characters are written).
        **figures
            Figures that the event lists; None is the same as not given.

        Raises
        ------
        ValueError
            Unknown event, figure, or type.
        """
        record = make_record(self._clock(), event, id, figures)
        with self._lock:
            try:
                if self._lost:
                    reason = f"{self._lost} lines are missing here, they could not be written"
                    self._append(make_record(record.at, "warning", "", {"name": "worklog", "reason": reason}))
                    self._lost = 0
                self._append(record)
            except OSError:
                self._lost += 1
        for listener in self._listeners:
            listener(record)

    def close(self) -> None:
        """Close the files; a later write opens them again."""
        with self._lock:
            self._text.close()
            self._json.close()

    def _append(self, record: Record) -> None:
        self._text.append(record.line())
        self._json.append(record.json())


class _LineFile:
    """A file that only grows, whoever moves, truncates or removes it meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":  # the last writer was cut off in its line
            os.write(self._fd, b"\n")

    def append(self, line: str) -> None:
        if self._fd is None or self._was_moved(self._fd):
            self.close()
            self.open()
        assert self._fd is not None
        data = line.encode() + b"\n"
        if os.write(self._fd, data) < len(data):  # no room for the whole of it
            self.close()  # opening again ends the torn line
            raise OSError(f"{self._path}: no room")

    def close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def _was_moved(self, fd: int) -> bool:
        """True once the file was renamed or removed; a truncated one is appended to at its new end."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        then = os.fstat(fd)
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)
