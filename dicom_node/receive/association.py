"""An association as the rest of the node sees it, and what it is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Association:
    """Who called, from where, and whom.

    Attributes
    ----------
    id : str
        Our own: random hex digits, fit for file names.
    calling_ae, called_ae : str
        AE titles as the caller gave them, without padding; not to be trusted further than the admission
        checked them.
    address : str
        IP address of the caller.
    """

    id: str
    calling_ae: str
    address: str
    called_ae: str


class ReceiveEvents(Protocol):
    """What the receiver reports.

    All are called on the threads of the association and must be quick; one that raises is logged, and the
    association goes on.
    """

    def association_opened(self, association: Association) -> None:
        """The association was accepted."""

    def association_refused(self, association: Association, reason: str) -> None:
        """The association was rejected; nothing else follows for it."""

    def association_cut(self, association: Association, reason: str) -> None:
        """An accepted association is aborted by us, because its peer is too slow or breaks the protocol."""

    def image_stored(self, association: Association, path: Path) -> None:
        """A file is in the inbox and on the disk; Success is answered next."""

    def image_refused(self, association: Association, status: int, reason: str) -> None:
        """An object was not kept, and the caller is told so by this status."""

    def association_ended(self, association: Association, images: int, seconds: float) -> None:
        """An accepted association ended in whatever way: told once, after its last ``image_stored``."""
