"""The data folder: where everything that came in, and everything made of it, lies.

Layout: ``inbox/`` received and not yet looked at, ``series/`` filed images, ``quarantine/`` what can't be
filed, ``results/`` and ``jobs/``, ``refused/`` word of workers that could not read a message, ``priors/`` searches for
earlier studies and requests for their series, ``examined/`` what analyses found, for comparisons. Names are made of
our own random IDs, of counters and of digests of UIDs, never of anything that a caller sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
from functools import cached_property
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import FILE_MODE, NO_SPACE, SpoolFullError, sync_folder, write_all
from dicom_node.spool.examined import FOLDER as EXAMINED
from dicom_node.spool.inbox import InboxWriter, recover
from dicom_node.standard.uids import uid_key

__all__ = ["InboxWriter", "Spool", "SpoolFullError"]

FOLDER_MODE = 0o700

_OUR_ID = re.compile(r"[A-Za-z0-9]{1,64}")


class Spool:
    """The folders of one node, and the ways in which files enter them and move between them.

    Parameters
    ----------
    root : Path
        The data folder (``[node] data``); made when it is missing.
    high_water : float
        Fraction of the disk in use beyond which :meth:`has_room` says no.

    Raises
    ------
    SpoolError
        A folder can't be made or written.
    """

    def __init__(self, root: Path, high_water: float = 0.90) -> None:
        self.root = Path(root).absolute()
        self.high_water = high_water
        self.inbox = self.root / "inbox"
        self.series = self.root / "series"
        self.quarantine = self.root / "quarantine"
        self.results = self.root / "results"
        self.jobs = self.root / "jobs"
        self.refused = self.root / "refused"
        self.examined = self.root / EXAMINED
        try:
            # Only a folder of our own making is closed to others: the root may be a mount point that somebody
            # else rules.
            if not self.root.exists():
                self.root.mkdir(mode=FOLDER_MODE, parents=True)
            folders = (self.inbox, self.series, self.quarantine, self.results, self.jobs, self.refused)
            for folder in (*folders, self.examined):
                folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
                if folder.stat().st_mode & 0o077:
                    folder.chmod(FOLDER_MODE)
        except OSError as error:
            raise SpoolError(
                f"{self.root}: the data folder can't be used: {error.strerror}. "
                "Choose another [node] data, or give this user the rights"
            ) from error

    @cached_property
    def identity_key(self) -> bytes:
        """Key of the digests by which the node compares patients; from its own ID, which is random.

        It outlasts the process, since headers are kept in the database; without an ID, in a folder that no node has used, it
        is a constant.
        """
        try:
            node_id = (self.root / "node-id").read_bytes().strip()
        except FileNotFoundError:
            node_id = b""
        except OSError as error:
            raise SpoolError(f"{self.root / 'node-id'}: can't be read: {error.strerror}") from error
        return hashlib.sha256(b"identity of patients " + node_id).digest()

    def has_room(self) -> bool:
        """Tell whether the disk is below the high-water mark (space kept for root counts as used).

        Raises
        ------
        SpoolError
            The data folder is gone.
        """
        try:
            usage = shutil.disk_usage(self.root)
        except OSError as error:
            raise SpoolError(f"{self.root}: can't be used: {error.strerror}") from error
        return usage.used / max(1, usage.used + usage.free) <= self.high_water

    def inbox_writer(self, association: str) -> InboxWriter:
        """Return the place in the inbox for what an association sends.

        Parameters
        ----------
        association : str
            Our own ID of it: letters and digits.
        """
        if not _OUR_ID.fullmatch(association):
            raise ValueError(f"association ID {association!r}: letters and digits only")
        return InboxWriter(self.inbox, association)

    def series_folder(self, series_uid: str) -> Path:
        """Return the folder of a series (it need not exist)."""
        return self.series / uid_key(series_uid)

    def image_path(self, series_uid: str, sop_instance_uid: str) -> Path:
        """Return the place of an image (it need not exist)."""
        return self.series_folder(series_uid) / f"{uid_key(sop_instance_uid)}.dcm"

    def relative(self, path: Path) -> str:
        """Return a path of the spool as it is written in messages and the database: relative, with slashes.

        Raises
        ------
        SpoolError
            The path is not in the spool.
        """
        try:
            return Path(path).absolute().relative_to(self.root).as_posix()
        except ValueError:
            raise SpoolError(f"{path}: not in the data folder {self.root}") from None

    def absolute(self, relative: str) -> Path:
        """Return where a relative path lies on this host.

        Raises
        ------
        SpoolError
            The path leads out of the spool, by ``..``, as an absolute path or through a link.
        """
        path = self.root / relative
        try:
            path.resolve().relative_to(self.root.resolve())
        except (ValueError, OSError):
            raise SpoolError(f"{relative}: leads out of the data folder {self.root}") from None
        return path

    def quarantine_file(self, path: Path, reason: str) -> Path:
        """Set a file aside, with the reason in a text file beside it, and return its new place.

        Raises
        ------
        SpoolError
            It can't be moved.
        """
        target = self.quarantine / f"{path.stem}.dcm"
        for again in itertools.count(2):
            if not target.exists():
                break
            target = self.quarantine / f"{path.stem}.{again}.dcm"
        note = target.with_suffix(".txt")
        try:
            descriptor = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
            try:
                write_all(descriptor, f"{reason}\n".encode())
            finally:
                os.close(descriptor)
            path.rename(target)
            sync_folder(self.quarantine)
        except OSError as error:
            kind = SpoolFullError if error.errno in NO_SPACE else SpoolError
            raise kind(f"{path.name}: can't be moved to the quarantine: {error.strerror}") from error
        return target

    def waiting(self, association: str = "") -> list[Path]:
        """Return the files of the inbox that were received and not yet filed, oldest first; of one association
        when its ID is given.
        """
        entries = []
        for entry in os.scandir(self.inbox):
            if entry.name.endswith(".dcm") and entry.name.startswith(association):
                with contextlib.suppress(FileNotFoundError):  # filed meanwhile, perhaps by another process
                    entries.append((entry.stat().st_mtime_ns, entry.name))
        return [self.inbox / name for _, name in sorted(entries)]

    def recover(self, association: str = "") -> tuple[int, int]:
        """Sort out what a crash left in the inbox under a name that is not final.

        For all associations, before anything is received; or for one whose process is gone.

        Returns
        -------
        kept, removed : int
            Files that were complete, and files that were not, none of which was ever acknowledged.
        """
        return recover(self.inbox, association)
