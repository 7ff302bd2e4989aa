"""Folder of a series in the spool: the link that gives a received file its name there, before the inbox lets go of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import sync_folder
from dicom_node.spool.spool import FOLDER_MODE


def make_folder(folder: Path) -> None:
    """Make a folder of the spool, such as that of a series, durably, if it is not there."""
    if folder.exists():
        return
    try:
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
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
