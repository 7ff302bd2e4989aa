"""Inbox on the disk: the images of one association reach it with one wait for each.

A file is durable when its content and its name are. Names are made ahead, empty and in growing batches, and
their folder is synchronised once for a batch; each image then waits for its own content alone. The file keeps
the durable name, ``.part``, until a rename that nothing waits for. Which part files were complete is told after
a power cut by a record in the preamble, which PS3.10 leaves to the application: it is written after the rest,
and holds the length and the check sum of what follows it.

References
----------
DICOM PS3.10 7.1 (preamble)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import zlib
from collections import deque
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import FILE_MODE, NO_SPACE, Encoded, SpoolFullError, sync_folder, write_all

PREAMBLE_LENGTH = 128
LARGEST_BATCH = 64
"""Names that are made at once, after batches of 1, 2, 4 and so on: who sends one image costs one name."""

_MAGIC = b"DICOM_NODE whole"
_RECORD = struct.Struct("<16sQL")
_CHUNK = 1 << 20


class InboxWriter:
    """The place in the inbox for what one association sends. Used by one thread, one object at a time.

    Parameters
    ----------
    inbox : Path
        Where files go.
    association : str
        Our own ID of the association: the beginning of each name.
    """

    def __init__(self, inbox: Path, association: str) -> None:
        self._inbox = inbox
        self._association = association
        self._numbers = itertools.count(1)
        self._batch = 1
        self._ready: deque[str] = deque()
        self._part = ""
        self._descriptor = -1
        self._length = 0
        self._checksum = 0

    def begin(self, head: Encoded) -> None:
        """Open a file and write what stands before the data set.

        Parameters
        ----------
        head : bytes
            Preamble, prefix and File Meta Information.

        Raises
        ------
        SpoolFullError
            No space is left.
        SpoolError
            It can't be written for another reason. Nothing remains in either case; so do ``write`` and ``finish``.
        """
        try:
            if not self._ready:
                self._make_names()
            self._part = self._ready.popleft()
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            write_all(self._descriptor, head)
        except OSError as error:
            raise self._failure(error) from error
        self._length = len(head) - PREAMBLE_LENGTH
        self._checksum = zlib.crc32(memoryview(head)[PREAMBLE_LENGTH:])

    def write(self, fragment: Encoded) -> None:
        """Add a fragment of the data set."""
        try:
            write_all(self._descriptor, fragment)
        except OSError as error:
            raise self._failure(error) from error
        self._length += len(fragment)
        self._checksum = zlib.crc32(fragment, self._checksum)

    def finish(self) -> Path:
        """Synchronise the file, and return its place: whatever happens now, it will be there."""
        part = self._part
        final = part.removesuffix(".part") + ".dcm"
        try:
            os.pwrite(self._descriptor, _RECORD.pack(_MAGIC, self._length, self._checksum), 0)
            os.fsync(self._descriptor)
            os.rename(part, final)  # noqa: PTH104 - in the path of each image, as are plain strings
        except OSError as error:
            raise self._failure(error) from error
        self._forget()
        return Path(final)

    def cancel(self) -> None:
        """Remove an object that is not complete, if there is one."""
        part = self._part
        self._forget()
        if part:
            _remove(part)

    def close(self) -> None:
        """Remove what is not complete and the names that were not needed."""
        self.cancel()
        while self._ready:
            _remove(self._ready.popleft())

    def _make_names(self) -> None:
        """Make a batch of names and have them on the disk."""
        try:
            for _ in range(self._batch):
                path = f"{self._inbox}/{self._association}-{next(self._numbers):06d}.part"
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(path, flags, FILE_MODE))
                self._ready.append(path)
            sync_folder(self._inbox)
        except OSError:
            while self._ready:
                with contextlib.suppress(OSError):
                    _remove(self._ready.popleft())
            raise
        self._batch = min(2 * self._batch, LARGEST_BATCH)

    def _forget(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._part, self._descriptor = "", -1

    def _failure(self, error: OSError) -> SpoolError:
        """Remove what was begun; the error to raise."""
        with contextlib.suppress(OSError):  # what a disk that refuses leaves behind, the next start clears up
            self.cancel()
        kind = SpoolFullError if error.errno in NO_SPACE else SpoolError
        return kind(f"{self._inbox}: can't write: {error.strerror}")


def recover(inbox: Path, association: str = "") -> tuple[int, int]:
    """Give complete part files of a crash their final names, and remove the others.

    Not for associations that are open: their part files are at work.

    Returns
    -------
    kept, removed : int
        How many files; empty ones, names that were made ahead, are not counted.
    """
    kept = removed = 0
    for part in sorted(inbox.glob(f"{association}*.part")):
        if _is_whole(part):
            part.rename(part.with_suffix(".dcm"))
            kept += 1
        else:
            removed += part.stat().st_size > 0
            part.unlink()
    if kept:
        sync_folder(inbox)
    return kept, removed


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        preamble = file.read(PREAMBLE_LENGTH)
        if len(preamble) < PREAMBLE_LENGTH:
            return False
        magic, length, checksum = _RECORD.unpack_from(preamble)
        if magic != _MAGIC or path.stat().st_size != PREAMBLE_LENGTH + length:
            return False
        found = 0
        while chunk := file.read(_CHUNK):
            found = zlib.crc32(chunk, found)
        return bool(found == checksum)
