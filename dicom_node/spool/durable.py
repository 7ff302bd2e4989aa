"""One durable write: a file that is there whole or not at all, and stays once the call has returned.

It is written aside, synchronised, and renamed; then its folder is synchronised, without which a power cut may take
the new name back. What had the name before stays until then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from dicom_node.errors import SpoolError

FILE_MODE = 0o600
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)

Encoded = bytes | bytearray | memoryview


class SpoolFullError(SpoolError):
    """No space is left for what should be written."""


def write_durably(path: Path, content: str | Encoded) -> None:
    """Write a file that only its owner reads, in place of what has its name; durable at the return.

    Several may write the same file at once: the last one counts.

    Parameters
    ----------
    path : Path
        Its folder exists.
    content : str or bytes
        Text is encoded as UTF-8.

    Raises
    ------
    SpoolFullError
        No space is left.
    SpoolError
        It can't be written for another reason. What had the name before is still whole in either case.
    """
    # Of this thread alone: another that writes the same file must not cut this one off.
    part = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(part, flags, FILE_MODE)
        try:
            write_all(descriptor, content.encode() if isinstance(content, str) else content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        kind = SpoolFullError if error.errno in NO_SPACE else SpoolError
        raise kind(f"{path}: can't be written: {error.strerror}. {_way_out(error)}") from error


def sync_folder(folder: Path) -> None:
    """Synchronise a folder's entries to the disk: a new name is not durable before that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, piece: Encoded) -> None:
    """Write all of it, however many calls that takes."""
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _way_out(error: OSError) -> str:
    if error.errno in NO_SPACE:
        return "Make room on its disk"
    if error.errno in NO_RIGHTS:
        return "Give this user the rights to its folder, and mount its disk for writing"
    return "See whether its folder is there and its disk is sound"
