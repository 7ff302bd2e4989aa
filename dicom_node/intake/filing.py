"""Filing, from the inbox to the series: one thread reads the header of each received file and gives the file its
place.

A file leaves the inbox only after its owner has been told and its new place is on the disk, so that a crash
at any point makes it come again at the next start; who listens must take the same image twice.

Files are taken in batches: what follows their headers costs hardly more for many than for one.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.intake.duplicates import same_content
from dicom_node.intake.received_file import read_received
from dicom_node.receive.association import Association
from dicom_node.series.headers import ImageHeader
from dicom_node.spool.series_folder import link, make_folder, replace, settle
from dicom_node.spool.spool import Spool

Result = TypeVar("Result")

LOGGER = logging.getLogger(__name__)

BATCH = 64
"""At most so many images are filed at once."""

GATHER_S = 0.05
"""How long the first file of a batch waits for others."""

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
        ``new``; ``duplicate``: the same pixels were there already, the file is dropped; ``corrected``: the same pixels
        were there under another patient or study, and the file has taken their place; ``conflict``: other pixels were.
    """

    header: ImageHeader
    path: Path
    association: Association | None
    outcome: Literal["new", "duplicate", "corrected", "conflict"]


@dataclass(frozen=True)
class _Received:
    path: Path
    association: Association | None

    @property
    def association_id(self) -> str:
        """Its ID, which the file's name gives when the association itself is long over."""
        return self.association.id if self.association else self.path.stem.partition("-")[0]


_Sound = tuple[_Received, ImageHeader]


class _StoppedError(Exception):
    """The filer was told to stop while it waited."""


class Filer:
    """Files what arrives, by and large in the order of arrival, on its own thread.

    Parameters
    ----------
    spool : Spool
        Where files come from and go.
    on_filed : callable
        Gets the FiledImages of a batch, on the filer's thread. Told again after a crash or when it raised. A
        NodeError or OSError means "not now": the same files are tried again until it works.
    on_rejected : callable
        Gets the association's ID, the reason and the place in the quarantine of a file that can't be filed.
    on_association_filed : callable
        Gets an association that has ended, after the last of its files.
    guard : context manager
        Held from a file's place until its owner has been told: whoever holds it finds no image between.
    is_correction : callable, optional
        Tells of an image that is there already whether a copy with this header corrects whom it is of.
    """

    def __init__(
        self,
        spool: Spool,
        on_filed: Callable[[list[FiledImage]], None],
        on_rejected: Callable[[str, str, Path], None],
        on_association_filed: Callable[[Association], None],
        guard: AbstractContextManager[object] | None = None,
        is_correction: Callable[[ImageHeader], bool] = lambda header: False,
    ) -> None:
        self._spool = spool
        self._on_filed = on_filed
        self._on_rejected = on_rejected
        self._on_association_filed = on_association_filed
        self._guard = guard or nullcontext()
        self._is_correction = is_correction
        self._queue: queue.SimpleQueue[_Received | Association | None] = queue.SimpleQueue()
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
        """End after the batch at work; other files stay in the inbox for the next start."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread:
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Number of files that are received and not yet filed, about."""
        return self._queue.qsize()

    def put(self, association: Association, path: Path) -> None:
        """Take a file that was received."""
        self._queue.put(_Received(path, association))

    def association_ended(self, association: Association) -> None:
        """Note that nothing more comes over an association."""
        self._queue.put(association)

    def _run(self) -> None:
        with suppress(_StoppedError):
            while not self._stopping.is_set():
                self._handle(self._gather())

    def _gather(self) -> list[_Received | Association]:
        """Wait for something to do, and take what else has come by then."""
        item = self._queue.get()
        if isinstance(item, _Received):
            self._stopping.wait(GATHER_S)
        items: list[_Received | Association] = []
        while item is not None:
            items.append(item)
            if len(items) == BATCH:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        return items

    def _handle(self, items: Sequence[_Received | Association]) -> None:
        """File what was received, then tell which associations are over."""
        received = [item for item in items if isinstance(item, _Received)]
        read = [
            (item, self._patiently(partial(read_received, item.path, self._spool.identity_key)))
            for item in received
        ]
        for item, error in read:
            if isinstance(error, UnreadableError):
                self._surely(item.path.name, partial(self._reject, item, str(error)))
        self._file([(item, header) for item, header in read if isinstance(header, ImageHeader)], {})
        for ended in items:
            if isinstance(ended, Association):
                self._surely(ended.id, partial(self._on_association_filed, ended))

    def _file(self, images: Sequence[_Sound], placed: dict[Path, FiledImage]) -> None:
        """File images together or, when something is wrong with one of them, each by itself.

        One that can't be filed stays in the inbox, and the log says why.
        """
        try:
            self._patiently(partial(self._file_new, images, placed))
            for image in images:
                self._patiently(partial(self._file_copy, image, placed))
            folders = {placed[item.path].path.parent for item, _ in images}
            self._patiently(partial(settle, folders, [item.path for item, _ in images]))
        except _StoppedError:
            raise
        except Exception:
            if len(images) == 1:
                LOGGER.exception("%s could not be filed", images[0][0].path.name)
                return
            for image in images:
                self._file([image], placed)

    def _file_new(self, images: Sequence[_Sound], placed: dict[Path, FiledImage]) -> None:
        """Give places to the images that the spool does not have yet, and tell their owner.

        `placed` is what an earlier attempt has come to, and what this one comes to.
        """
        with self._guard:
            for series_uid in {header.series_uid for _, header in images}:
                make_folder(self._spool.series_folder(series_uid))
            for item, header in images:
                known = placed.get(item.path)
                if known is not None and known.path.exists():
                    continue
                final = self._spool.image_path(header.series_uid, header.sop_instance_uid)
                if link(item.path, final):
                    placed[item.path] = FiledImage(header, final, item.association, "new")
            filed = [placed[item.path] for item, _ in images if item.path in placed]
            if new := [image for image in filed if image.outcome == "new"]:
                self._on_filed(new)

    def _file_copy(self, image: _Sound, placed: dict[Path, FiledImage]) -> None:
        """Compare an image that has no place with the one that has it, and tell what comes of it."""
        item, header = image
        known = placed.get(item.path)
        if known is not None and known.outcome == "new":
            return
        with self._guard:
            if known is None or not known.path.exists():
                known = placed[item.path] = self._compared(item, header)
            self._on_filed([known])

    def _compared(self, item: _Received, header: ImageHeader) -> FiledImage:
        path, association = item.path, item.association
        final = self._spool.image_path(header.series_uid, header.sop_instance_uid)
        reason = "its SOP Instance UID is there already, with other content"
        try:
            if same_content(final, path):
                if not self._is_correction(header):
                    return FiledImage(header, final, association, "duplicate")
                replace(path, final)
                return FiledImage(header, final, association, "corrected")
        except UnreadableError as error:
            reason = f"its SOP Instance UID is there already, and can't be compared: {error}"
        return FiledImage(header, self._spool.quarantine_file(path, reason), association, "conflict")

    def _reject(self, item: _Received, reason: str) -> None:
        """Set a file aside that is no image, and tell of it."""
        path = self._spool.quarantine_file(item.path, reason)
        self._patiently(partial(self._on_rejected, item.association_id, reason, path))

    def _surely(self, name: str, action: Callable[[], None]) -> None:
        """Do something patiently; what nobody has foreseen is logged, and the filing goes on."""
        try:
            self._patiently(action)
        except _StoppedError:
            raise
        except Exception:
            LOGGER.exception("%s could not be filed", name)

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
