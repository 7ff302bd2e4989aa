"""Events of the associations that the receiver serves, and the calls by which the rest of the node hears of them.

They are plain data, so that they can be told in one process and handled in another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, assert_never

from dicom_node.receive.association import Association

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class AssociationOpened:
    """The association was accepted."""

    association: Association


@dataclass(frozen=True)
class AssociationRefused:
    """The association was rejected; nothing else follows for it."""

    association: Association
    reason: str


@dataclass(frozen=True)
class AssociationCut:
    """An accepted association is aborted by us, because its peer is too slow or breaks the protocol."""

    association: Association
    reason: str


@dataclass(frozen=True)
class ImageStored:
    """A file is in the inbox and on the disk; Success is answered next."""

    association: Association
    path: Path


@dataclass(frozen=True)
class ImageRefused:
    """An object was not kept, and the caller is told so by this status."""

    association: Association
    status: int
    reason: str


@dataclass(frozen=True)
class CommitmentAsked:
    """Somebody asks for commitment and is to be answered on an association of ours; `name` is of the request's file."""

    association: Association
    name: str


@dataclass(frozen=True)
class CommitmentGiven:
    """Somebody was told on the association on which it asked what we commit to, or had gone before that.

    Attributes
    ----------
    given, refused : int
        Images that we commit to, and those that we do not.
    """

    association: Association
    given: int
    refused: int


@dataclass(frozen=True)
class CommitmentReported:
    """Somebody reports what it commits to.

    Attributes
    ----------
    transaction_uid : str
        Of the request that it answers.
    committed : tuple of str
        SOP Instance UIDs.
    failed : dict of str to int
        SOP Instance UIDs that it does not commit to, with their reasons.
    """

    association: Association
    transaction_uid: str
    committed: tuple[str, ...]
    failed: dict[str, int]


@dataclass(frozen=True)
class AssociationEnded:
    """An accepted association ended in whatever way: told once, after its last :class:`ImageStored`."""

    association: Association
    images: int
    seconds: float


AssociationEvent = (
    AssociationOpened
    | AssociationRefused
    | AssociationCut
    | ImageStored
    | ImageRefused
    | CommitmentAsked
    | CommitmentGiven
    | CommitmentReported
    | AssociationEnded
)

Tell = Callable[[AssociationEvent], None]
"""Takes an event, on the thread of the association."""


class ReceiveEvents(Protocol):
    """Handler of what happens at the receiver: a method for each event, which says what it means.

    All but ``receiver_lost`` are called on the threads of the association. They must be quick; one that raises
    is logged, and the association goes on.
    """

    def receiver_lost(self, reason: str) -> None:
        """A process that receives has ended; others, or the next one, go on."""

    def association_opened(self, association: Association) -> None:
        """See :class:`AssociationOpened`."""

    def association_refused(self, association: Association, reason: str) -> None:
        """See :class:`AssociationRefused`."""

    def association_cut(self, association: Association, reason: str) -> None:
        """See :class:`AssociationCut`."""

    def image_stored(self, association: Association, path: Path) -> None:
        """See :class:`ImageStored`."""

    def image_refused(self, association: Association, status: int, reason: str) -> None:
        """See :class:`ImageRefused`."""

    def commitment_asked(self, association: Association, name: str) -> None:
        """See :class:`CommitmentAsked`."""

    def commitment_given(self, association: Association, given: int, refused: int) -> None:
        """See :class:`CommitmentGiven`."""

    def commitment_reported(
        self, association: Association, transaction_uid: str, committed: list[str], failed: dict[str, int]
    ) -> None:
        """See :class:`CommitmentReported`."""

    def association_ended(self, association: Association, images: int, seconds: float) -> None:
        """See :class:`AssociationEnded`."""


def call(events: ReceiveEvents, event: AssociationEvent) -> None:
    """Call the method that handles an event."""
    match event:
        case ImageStored(association, path):
            events.image_stored(association, path)
        case ImageRefused(association, status, reason):
            events.image_refused(association, status, reason)
        case AssociationOpened(association):
            events.association_opened(association)
        case AssociationEnded(association, images, seconds):
            events.association_ended(association, images, seconds)
        case AssociationRefused(association, reason):
            events.association_refused(association, reason)
        case AssociationCut(association, reason):
            events.association_cut(association, reason)
        case CommitmentAsked(association, name):
            events.commitment_asked(association, name)
        case CommitmentGiven(association, given, refused):
            events.commitment_given(association, given, refused)
        case CommitmentReported(association, transaction_uid, committed, failed):
            events.commitment_reported(association, transaction_uid, list(committed), failed)
        case _:
            assert_never(event)


def guarded(tell: Tell) -> Tell:
    """Return a `tell` that logs what goes wrong: it must not reach the caller on the network, nor end a thread."""

    def tell_guarded(event: AssociationEvent) -> None:
        try:
            tell(event)
        except Exception:
            name = type(event).__name__
            LOGGER.exception("association %s: %s could not be handled", event.association.id, name)

    return tell_guarded
