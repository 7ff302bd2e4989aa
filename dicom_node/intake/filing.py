"""Filing, from the inbox to the series: one thread has the header of each received file read and gives the file its
place. A file that takes long is filed when it is read; the others go on.

A file leaves the inbox only after its owner has been told and its new place is on the disk, so that a crash
at any point makes it come again at the next start; who listens must take the same image twice.

Files are taken in batches: what follows their headers costs hardly more for many than for one.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.intake.parser import DeadlyError, ParserStoppedError, Reader
from dicom_node.intake.parser_process import Answer, Request
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

STOP_WAIT_S = 2.0
"""How long the batch at work has to end before its reading is broken off."""

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


@dataclass(frozen=True)
class _Late:
    """Answer about a file that took long: to read or, with its header, to compare."""

    item: _Received
    header: ImageHeader | None
    answer: Answer


_Sound = tuple[_Received, ImageHeader]
_Item = _Received | _Late | Association


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
    reader : Reader
        Reads and compares; by its processes, not here.
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
        reader: Reader,
        guard: AbstractContextManager[object] | None = None,
        is_correction: Callable[[ImageHeader], bool] = lambda header: False,
    ) -> None:
        self._spool = spool
        self._on_filed = on_filed
        self._on_rejected = on_rejected
        self._on_association_filed = on_association_filed
        self._reader = reader
        self._guard = guard or nullcontext()
        self._is_correction = is_correction
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._late: Counter[str] = Counter()  # by association: files that take long
        self._ended: dict[str, Association] = {}  # associations that are over but for these
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
            self._thread.join(STOP_WAIT_S)
            self._reader.stop()
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

    def _gather(self) -> list[_Item]:
        """Wait for something to do, and take what else has come by then."""
        item = self._queue.get()
        if isinstance(item, _Received):
            self._stopping.wait(GATHER_S)
        items: list[_Item] = []
        while item is not None:
            items.append(item)
            if len(items) == BATCH:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        return items

    def _handle(self, items: Sequence[_Item]) -> None:
        """File what was received, then tell which associations are over."""
        late = [item for item in items if isinstance(item, _Late)]
        self._late.subtract(one.item.association_id for one in late)
        again = [one for one in late if isinstance(one.answer, OSError)]
        late = [one for one in late if one not in again]
        read = self._read(
            [item for item in items if isinstance(item, _Received)] + [one.item for one in again]
        )
        read += [(one.item, one.answer) for one in late if one.header is None]
        for item, answer in read:
            if isinstance(answer, UnreadableError):
                self._surely(item.path.name, partial(self._reject, item, str(answer)))
        self._file([(item, header) for item, header in read if isinstance(header, ImageHeader)], {}, {})
        for one in late:
            if one.header is not None:
                self._file([(one.item, one.header)], {}, {one.item.path: one.answer})
        self._tell_ended(item for item in items if isinstance(item, Association))

    def _tell_ended(self, ended: Iterable[Association]) -> None:
        """Tell which associations are over, once nothing of them is awaited."""
        self._ended.update((association.id, association) for association in ended)
        for association in list(self._ended.values()):
            if not self._late[association.id]:
                del self._ended[association.id], self._late[association.id]
                self._surely(association.id, partial(self._on_association_filed, association))

    def _read(self, received: Sequence[_Received]) -> list[tuple[_Received, Answer]]:
        """Return what came of reading files; those that take long are left out, and come again as `_Late`."""
        items = {Request(item.path): item for item in received}
        answers = self._ask(items, lambda request, answer: _Late(items[request], None, answer))
        return [(item, answers[request]) for request, item in items.items() if request in answers]

    def _compare(self, copies: Sequence[_Sound]) -> dict[Path, Answer]:
        """Return what came of comparing files with those that have their places; as `_read`."""
        images = {
            Request(item.path, self._spool.image_path(header.series_uid, header.sop_instance_uid)): (
                item,
                header,
            )
            for item, header in copies
        }
        answers = self._ask(images, lambda request, answer: _Late(*images[request], answer))
        return {request.path: answer for request, answer in answers.items()}

    def _ask(
        self,
        items: Mapping[Request, object],
        late_of: Callable[[Request, Answer], _Late],
    ) -> dict[Request, Answer]:
        """Return what came of requests, asked again while the disk or the system refuses them."""

        def on_late(request: Request, answer: Answer) -> None:
            self._queue.put(late_of(request, answer))

        answers: dict[Request, Answer] = {}
        pending = list(items)
        while pending:
            answers |= self._patiently(partial(self._reader.ask, pending, on_late))
            late = [request for request in pending if request not in answers]
            self._late.update(late_of(request, None).item.association_id for request in late)
            pending = [request for request in pending if isinstance(answers.get(request), OSError)]
            for request in pending:
                self._wait_over(answers.pop(request))
        return answers

    def _file(
        self, images: Sequence[_Sound], placed: dict[Path, FiledImage], compared: dict[Path, Answer]
    ) -> None:
        """File images together or, when something is wrong with one of them, each by itself.

        One that can't be filed stays in the inbox, and the log says why. `compared` is what is known of copies.
        """
        try:
            self._patiently(partial(self._file_new, images, placed))
            copies = [image for image in images if image[0].path not in placed | compared]
            compared |= self._compare(copies)
            for image in images:
                self._patiently(partial(self._file_copy, image, placed, compared))
            filed = [item.path for item, _ in images if item.path in placed]
            folders = {placed[path].path.parent for path in filed}
            self._patiently(partial(settle, folders, filed))
        except _StoppedError:
            raise
        except Exception:
            if len(images) == 1:
                LOGGER.exception("%s could not be filed", images[0][0].path.name)
                return
            for image in images:
                self._file([image], placed, compared)

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

    def _file_copy(
        self, image: _Sound, placed: dict[Path, FiledImage], compared: Mapping[Path, Answer]
    ) -> None:
        """Tell what comes of an image that has no place, once it has been compared with the one that has it."""
        item, header = image
        known = placed.get(item.path)
        if known is None and item.path not in compared:
            return  # it takes long
        if known is not None and known.outcome == "new":
            return
        with self._guard:
            if known is None or not known.path.exists():
                if not self._spool.image_path(header.series_uid, header.sop_instance_uid).exists():
                    self._file_new([image], placed)  # the first one was removed meanwhile
                    return
                known = placed[item.path] = self._judged(item, header, compared[item.path])
            self._on_filed([known])

    def _judged(self, item: _Received, header: ImageHeader, answer: Answer) -> FiledImage:
        path, association = item.path, item.association
        final = self._spool.image_path(header.series_uid, header.sop_instance_uid)
        if answer is True and not self._is_correction(header):
            return FiledImage(header, final, association, "duplicate")
        if answer is True:
            replace(path, final)
            return FiledImage(header, final, association, "corrected")
        reason = "its SOP Instance UID is there already, with other content"
        if isinstance(answer, Exception):
            reason = f"its SOP Instance UID is there already, and can't be compared: {answer}"
        aside = self._spool.quarantine_file(path, reason)
        if isinstance(answer, DeadlyError):
            self._on_rejected(item.association_id, reason, aside)
        return FiledImage(header, aside, association, "conflict")

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
            except ParserStoppedError as error:
                raise _StoppedError from error
            except (NodeError, OSError) as error:
                self._wait_over(error)

    def _wait_over(self, error: object) -> None:
        LOGGER.warning("filing waits %g s: %s", RETRY_S, error)
        if self._stopping.wait(RETRY_S):
            raise _StoppedError
