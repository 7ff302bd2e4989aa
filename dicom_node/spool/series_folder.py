"""Folder of a series in the spool: the link that gives a received file its name there, before the inbox lets go of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import NO_SPACE, SpoolFullError, sync_folder
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


def replace(path: Path, final: Path) -> None:
    """Put a file of the inbox in the place of an earlier copy, durably; it keeps its name in the inbox until it is settled.

    There is a whole file in that place at any moment, and a crash makes the one in the inbox come again.
    """
    part = final.with_suffix(".part")
    try:
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, part)
            _sync_file(part)
        part.replace(final)
        part.unlink(missing_ok=True)  # two names of one file are not renamed: it was there already
        sync_folder(final.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        kind = SpoolFullError if error.errno in NO_SPACE else SpoolError
        raise kind(f"{final.parent}: can't replace an image: {error.strerror}") from error


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(folders: Iterable[Path], paths: Iterable[Path]) -> None:
    """Take files out of the inbox, once their places in the series are on the disk."""
    for folder in folders:
        sync_folder(folder)
    for path in paths:
        path.unlink(missing_ok=True)
