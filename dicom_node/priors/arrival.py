"""Objects that come over a connection of our own making, into the inbox, as those do that the receiver takes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dicom_node.receive.association import Association
from dicom_node.spool.spool import Spool, SpoolFullError


class Takes(Protocol):
    """Taker of files of the inbox: the intake."""

    def image_stored(self, association: Association, path: Path) -> None:
        """Take a file that is durable in the inbox."""

    def association_ended(self, association: Association, images: int, seconds: float) -> None:
        """Note that nothing more comes over an association."""


class Arrival:
    """Images that come over one connection; a context manager, whose end is told.

    Parameters
    ----------
    spool : Spool
        Where it goes.
    takes : Takes
        Is told of each file.
    calling_ae, address : str
        Of the archive that sends.
    called_ae : str
        Our own AE title.
    """

    def __init__(self, spool: Spool, takes: Takes, *, calling_ae: str, address: str, called_ae: str) -> None:
        self._spool, self._takes = spool, takes
        self.association = Association(secrets.token_hex(8), calling_ae, address, called_ae)
        self._writer = spool.inbox_writer(self.association.id)
        self._images = 0
        self._since = time.monotonic()

    def take(self, head: bytes, pieces: Iterable[bytes]) -> None:
        """Write an object durably into the inbox, and tell of it.

        Parameters
        ----------
        head : bytes
            Its preamble at least, and what follows up to any place.
        pieces : iterable of bytes
            The rest.

        Raises
        ------
        SpoolFullError
            The disk is over its high-water mark, or no space is left.
        SpoolError
            It can't be written for another reason. Nothing remains of it in either case.
        """
        if not self._spool.has_room():
            raise SpoolFullError(f"the disk is over {self._spool.high_water:.0%} full")
        self._writer.begin(head)
        try:
            for piece in pieces:
                self._writer.write(piece)
        except BaseException:
            self._writer.cancel()
            raise
        path = self._writer.finish()
        self._images += 1
        self._takes.image_stored(self.association, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        self._takes.association_ended(self.association, self._images, time.monotonic() - self._since)
