"""One received file: what it says, its name in its series, and the end of its name in the inbox."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from dicom_node.errors import NodeError, SpoolError, UnreadableError
from dicom_node.receive.spool import FOLDER_MODE, sync_folder
from dicom_node.series.headers import ImageHeader, read_header


def read_received(path: Path) -> ImageHeader | UnreadableError | None:
    """Return what a received file says, or why it can't be filed; None when it is no longer there."""
    try:
        return _header(path)
    except UnreadableError as error:
        return error
    except FileNotFoundError:
        return None


def _header(path: Path) -> ImageHeader:
    try:
        return read_header(path)
    except UnreadableError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in (None, errno.EIO):
            raise cause from None  # too many open files and the like: the image is sound
        raise
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # A damaged sector stays damaged: waiting for it would hold up every other file.
        raise UnreadableError(f"{path.name}: the disk can't read it") from error
    except NodeError:
        raise
    # Bytes from the network: whatever they do to the parser, their sender was told that they are kept.
    except Exception as error:
        raise UnreadableError(f"{path.name}: not readable as DICOM ({type(error).__name__})") from error


def make_folder(folder: Path) -> None:
    """Make the folder of a series, if it is not there."""
    if folder.exists():
        return
    try:
        folder.mkdir(mode=FOLDER_MODE)
        sync_folder(folder.parent)
    except OSError as error:
        raise SpoolError(f"{folder}: can't be made: {error.strerror}") from error


def link(path: Path, final: Path) -> bool:
    """Give a file of the inbox its name in the series as well; tell whether it has it, and no other file."""
    try:
        os.link(path, final)
    except FileExistsError:
        return path.samefile(final)  # a crash came between its name and its being told of
    except OSError as error:
        return _move(path, final, error)
    return True


def _move(path: Path, final: Path, why: OSError) -> bool:
    """Give a file its name in the series alone, on a file system without hard links."""
    if final.exists():
        return False
    try:
        path.rename(final)
    except OSError as error:
        raise SpoolError(f"{final.parent}: can't file an image: {error.strerror}") from why
    return True


def settle(folders: Iterable[Path], paths: Iterable[Path]) -> None:
    """Take files out of the inbox, once their places in the series are on the disk."""
    for folder in folders:
        sync_folder(folder)
    for path in paths:
        path.unlink(missing_ok=True)
