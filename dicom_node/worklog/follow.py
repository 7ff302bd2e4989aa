"""Reads the worklog back, and goes on reading while it grows, whatever logrotate does with the file."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from dicom_node.errors import NotFoundError
from dicom_node.worklog.records import ID_LENGTH, Record
from dicom_node.worklog.writer import JSON_NAME

LOOK_AGAIN_S = 0.2
BLOCK_BYTES = 1 << 16
MARK_BYTES = 64
REACH_BYTES = 4 << 20
"""So far back `last_records` looks; some 20,000 lines."""
SHORTEST_PREFIX = 4  # characters of an ID that a person may leave at


def follow(
    folder: Path,
    *,
    follow: bool = False,
    json: bool = False,
    failed: bool = False,
    series: str | Sequence[str] | None = None,
    last: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[str]:
    """Give the lines of the worklog; see :func:`records` for the choice of lines.

    Parameters
    ----------
    json : bool
        Lines of JSON instead of lines for people.
    """
    for record in records(folder, follow=follow, failed=failed, series=series, last=last, stop=stop):
        yield record.json() if json else record.line()


def records(
    folder: Path,
    *,
    follow: bool = False,
    failed: bool = False,
    series: str | Sequence[str] | None = None,
    last: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Record]:
    """Give the records of the worklog, those in rotated files first.

    Parameters
    ----------
    folder : Path
        The data folder.
    follow : bool
        After the last record wait for the next ones until `stop` is set or the generator is closed.
    failed : bool
        Only warnings and errors.
    series : str or sequence of str, optional
        Only records of these series and their jobs: Series Instance UIDs, or (beginnings of) IDs as the log shows
        them.
    last : int, optional
        Of what is there already only so many records.
    stop : threading.Event, optional
        Ends the following.

    Raises
    ------
    NotFoundError
        There is no worklog in `folder`, or `series` names none.
    """
    if not any(folder.glob(f"{JSON_NAME}*")):
        raise NotFoundError(f"{folder}: no worklog here; give the node's configuration with --config FILE")
    wanted = _Choice(failed=failed, series=series)
    tail = _Tail(folder / JSON_NAME)
    there = wanted.of(_parsed(_chain(_rotated_lines(folder), tail.lines())))
    yield from deque(there, maxlen=last) if last is not None else there
    stop = stop or threading.Event()
    while follow and not stop.is_set():
        yield from wanted.of(_parsed(tail.lines()))
        stop.wait(LOOK_AGAIN_S)
    tail.close()


def last_records(
    folder: Path, count: int, wanted: Callable[[Record], bool] = lambda _: True, reach: int = REACH_BYTES
) -> list[Record]:
    """Return the last records, newest first, without reading the whole worklog.

    Parameters
    ----------
    folder : Path
        The data folder; there need not be a worklog in it.
    count : int
        As many at most.
    wanted : callable, optional
        Chooses among the records.
    reach : int
        So many bytes are read back from the end, into rotated files too (packed ones are left out).
    """
    found: list[Record] = []
    for path in [folder / JSON_NAME, *reversed(_rotated(folder))]:
        if path.suffix == ".gz" or reach <= 0 or len(found) >= count:
            break
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - reach))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            continue
        reach -= size
        for line in reversed(lines):
            if len(found) >= count:
                break
            found += [record for record in _parsed([line]) if wanted(record)]
    return found


class _Choice:
    """Choice of records; a series brings its jobs with it, since their records name each other."""

    def __init__(self, *, failed: bool, series: str | Sequence[str] | None) -> None:
        self._failed = failed
        self._all = series is None
        named = [series] if isinstance(series, str) else series or ()
        self._prefixes = tuple(_id_prefix(text) for text in named)
        self._known: set[str] = set()

    def of(self, found: Iterable[Record]) -> Iterator[Record]:
        for record in found:
            if self._takes(record):
                yield record

    def _takes(self, record: Record) -> bool:
        if not self._all:
            named = {record.id, str(record.figures.get("series", "")), str(record.figures.get("job", ""))} - {
                ""
            }
            if not (named & self._known or any(name.startswith(self._prefixes) for name in named)):
                return False
            self._known |= named
        return not self._failed or record.level in ("warning", "error")


def _id_prefix(series: str) -> str:
    text = series.strip().lower()
    if "." in text and not text.strip("0123456789."):
        return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
    if len(text) < SHORTEST_PREFIX or text.strip("0123456789abcdef"):
        raise NotFoundError(
            f"{series!r} names no series or job here: give an ID ({SHORTEST_PREFIX} or more hex digits), a UID or an "
            "accession number"
        )
    return text[:ID_LENGTH]


def _parsed(lines: Iterable[str]) -> Iterator[Record]:
    for line in lines:
        try:
            yield Record.from_json(line)
        except ValueError:  # torn by a full disk or a lost machine; its neighbours are whole
            continue


def _chain(*parts: Iterable[str]) -> Iterator[str]:
    for part in parts:
        yield from part


def _rotated_lines(folder: Path) -> Iterator[str]:
    """Lines of ``worklog.jsonl.2.gz``, ``worklog.jsonl.1`` and their like, oldest file first."""
    for path in _rotated(folder):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                yield line.decode(errors="replace")


def _rotated(folder: Path) -> list[Path]:
    """Return the rotated files, oldest first."""
    files = [path for path in folder.glob(f"{JSON_NAME}?*") if path.is_file()]
    return sorted(files, key=lambda path: path.stat().st_mtime_ns)


class _Tail:
    """Whole lines of a growing file, each once, also when the file is renamed or cut to nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._at = 0  # bytes of whole lines that were given
        self._mark = (
            b""  # the last bytes before there: other ones mean that the file was cut and has grown again
        )

    def lines(self) -> Iterator[str]:
        """Give the lines that have come since the last call."""
        while self._fd is not None or self._open():
            assert self._fd is not None
            moved = self._was_moved(
                self._fd
            )  # asked before reading: what the old file got last is read first
            if self._was_cut(self._fd):
                self._at, self._mark = 0, b""
            whole = self._whole_lines(self._fd)
            if whole:
                self._at += len(whole)
                self._mark = whole[-MARK_BYTES:]
                yield from whole.decode(errors="replace").split("\n")[:-1]
            elif moved:
                self.close()
            else:
                return

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._at, self._mark = None, 0, b""

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        return True

    def _whole_lines(self, fd: int) -> bytes:
        size = BLOCK_BYTES
        while True:
            block = os.pread(fd, size, self._at)
            if b"\n" in block or len(block) < size:
                return block[: block.rfind(b"\n") + 1]
            size *= 2

    def _was_moved(self, fd: int) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False  # between the rename and the next line: the old file may still get one
        then = os.fstat(fd)
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino)

    def _was_cut(self, fd: int) -> bool:
        return os.pread(fd, len(self._mark), self._at - len(self._mark)) != self._mark
