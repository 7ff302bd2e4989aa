"""From the inbox to the series: one thread reads the header of each received file and gives the file its
place.

A file leaves the inbox only after its owner has been told and its new place is on the disk, so that a crash
at any point makes it come again at the next start; who listens must take the same image twice.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from dicom_node.errors import NodeError, SpoolError, UnreadableError
from dicom_node.receive.association import Association
from dicom_node.receive.duplicates import same_content
from dicom_node.receive.spool import FOLDER_MODE, Spool, sync_folder
from dicom_node.series.headers import ImageHeader, read_header

Result = TypeVar("Result")

LOGGER = logging.getLogger(__name__)

BATCH = 64
"""At most so many filed images wait until their folders are synchronised, the slowest part of filing."""

RETRY_S = 2.0
"""How long the filer waits before it tries again when the disk or the database refuses."""


@dataclass(frozen=True)
class FiledImage:
    """An image that has been given its place.

    Attributes
    ----------
    header : ImageHeader
        What the file says.
    path : Path
        Where the file lies: in its series; for a duplicate the copy that was there first; for a conflict in
        the quarantine.
    association : Association or None
        What brought it; None when it was found in the inbox at the start.
    outcome : str
        ``new``; ``duplicate``: the same pixels were there already, the file is dropped; ``conflict``: other
        pixels were.
    """

    header: ImageHeader
    path: Path
    association: Association | None
    outcome: Literal["new", "duplicate", "conflict"]


@dataclass(frozen=True)
class _Received:
    path: Path
    association: Association | None

    @property
    def association_id(self) -> str:
        """Its ID, which the file's name gives when the association itself is long over."""
        return self.association.id if self.association else self.path.stem.partition("-")[0]


@dataclass(frozen=True)
class _Rejected:
    path: Path
    reason: str


class _StoppedError(Exception):
    """The filer was told to stop while it waited."""


class Filer:
    """Files what arrives, in the order of arrival, on its own thread.

    Parameters
    ----------
    spool : Spool
        Where files come from and go.
    on_filed : callable
        Gets each FiledImage, on the filer's thread. Told again after a crash or when it raised. A NodeError
        or OSError means "not now": the same file is tried again until it works.
    on_rejected : callable
        Gets the association's ID, the reason and the place in the quarantine of a file that can't be filed.
    on_association_filed : callable
        Gets an association that has ended, after the last of its files.
    guard : context manager
        Held from an image's place until its owner has been told: whoever holds it finds no image between.
    """

    def __init__(
        self,
        spool: Spool,
        on_filed: Callable[[FiledImage], None],
        on_rejected: Callable[[str, str, Path], None],
        on_association_filed: Callable[[Association], None],
        guard: AbstractContextManager[object] | None = None,
    ) -> None:
        self._spool = spool
        self._on_filed = on_filed
        self._on_rejected = on_rejected
        self._on_association_filed = on_association_filed
        self._guard = guard or nullcontext()
        self._queue: queue.SimpleQueue[_Received | Association | None] = queue.SimpleQueue()
        self._settled: list[tuple[Path, Path]] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with what an earlier run left in the inbox. To be called before anything is received."""
        kept, removed = self._spool.recover()
        if kept or removed:
            LOGGER.warning("a crash left %d whole files, and %d half-written ones that go", kept, removed)
        for path in self._spool.waiting():
            self._queue.put(_Received(path, None))
        self._thread = threading.Thread(target=self._run, name="filer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the file at work; the others stay in the inbox for the next start."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread:
            self._thread.join()

    def put(self, association: Association, path: Path) -> None:
        """Take a file that was received."""
        self._queue.put(_Received(path, association))

    def association_ended(self, association: Association) -> None:
        """Note that nothing more comes over an association."""
        self._queue.put(association)

    def _run(self) -> None:
        while not self._stopping.is_set():
            item = self._queue.get()
            if item is None:
                break
            try:
                self._handle(item)
            except _StoppedError:
                break
            # One file must never stop the filing of the others: it stays in the inbox, and the log says why.
            except Exception:
                name = item.id if isinstance(item, Association) else item.path.name
                LOGGER.exception("%s could not be filed", name)
        with suppress(OSError):  # what can't be settled now is found in the inbox at the next start
            self._settle()

    def _handle(self, item: _Received | Association) -> None:
        if isinstance(item, Association):
            self._patiently(self._settle)
            self._patiently(lambda: self._on_association_filed(item))
            return
        placed: FiledImage | _Rejected | None = None

        def file() -> None:
            nonlocal placed
            with self._guard:
                if placed is None or not placed.path.exists():
                    placed = self._place(item)
                if isinstance(placed, FiledImage):
                    self._on_filed(placed)

        self._patiently(file)
        if isinstance(placed, _Rejected):
            self._patiently(lambda: self._on_rejected(item.association_id, placed.reason, placed.path))
        if placed is not None:
            self._settled.append((placed.path.parent, item.path))
        if len(self._settled) >= BATCH or self._queue.empty():
            self._patiently(self._settle)

    def _settle(self) -> None:
        """Take files out of the inbox whose places in the series are on the disk."""
        for folder in {folder for folder, _ in self._settled}:
            sync_folder(folder)
        for _, path in self._settled:
            path.unlink(missing_ok=True)
        self._settled.clear()

    def _patiently(self, action: Callable[[], Result]) -> Result:
        """Do something, however often the disk or the database refuses: until then no other file could be
        filed either.
        """
        while True:
            try:
                return action()
            except (NodeError, OSError) as error:
                LOGGER.warning("filing waits %g s: %s", RETRY_S, error)
                if self._stopping.wait(RETRY_S):
                    raise _StoppedError from error

    def _place(self, item: _Received) -> FiledImage | _Rejected | None:
        """Give a file its place beside the one in the inbox; None when that is no longer there."""
        path = item.path
        if not path.exists():
            return None
        try:
            header = _header(path)
        except UnreadableError as error:
            return _Rejected(self._spool.quarantine_file(path, str(error)), str(error))
        final = self._spool.image_path(header.series_uid, header.sop_instance_uid)
        # The same file under both names was linked before a crash, and nobody was told.
        if not final.exists() or path.samefile(final):
            _link(path, final)
            return FiledImage(header, final, item.association, "new")
        reason = "its SOP Instance UID is there already, with other content"
        try:
            if same_content(final, path):
                return FiledImage(header, final, item.association, "duplicate")
        except UnreadableError as error:
            reason = f"its SOP Instance UID is there already, and can't be compared: {error}"
        aside = self._spool.quarantine_file(path, reason)
        return FiledImage(header, aside, item.association, "conflict")


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


def _link(path: Path, final: Path) -> None:
    """Give a file of the inbox its name in the series as well."""
    folder = final.parent
    try:
        if not folder.exists():
            folder.mkdir(mode=FOLDER_MODE)
            sync_folder(folder.parent)
        try:
            os.link(path, final)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            path.rename(final)
    except OSError as error:
        raise SpoolError(f"{folder}: can't file an image: {error.strerror}") from error
