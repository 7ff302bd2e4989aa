"""An association as the rest of the node sees it, and what it is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Association:
    """Association as the node knows it: who called, from where, and whom.

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
    """Listener to the receiver.

    All but ``receiver_lost`` are called on the threads of the association. They must be quick; one that raises
    is logged, and the association goes on.
    """

    def receiver_lost(self, reason: str) -> None:
        """A process that receives has ended; others, or the next one, go on."""

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

    def commitment_asked(self, association: Association, name: str) -> None:
        """Somebody asks for commitment and is to be answered on an association of ours; `name` is of the request's file."""

    def commitment_given(self, association: Association, given: int, refused: int) -> None:
        """Somebody was told on the association on which it asked what we commit to, or had gone before that."""

    def commitment_reported(
        self, association: Association, transaction_uid: str, committed: list[str], failed: dict[str, int]
    ) -> None:
        """Somebody reports what it commits to: SOP Instance UIDs, and those that it does not with their reasons."""

    def association_ended(self, association: Association, images: int, seconds: float) -> None:
        """An accepted association ended in whatever way: told once, after its last ``image_stored``."""
