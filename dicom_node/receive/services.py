"""The services beside storage that an association may ask for; they are pynetdicom's to encode and decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt

from dicom_node.receive.commitment_scp import CommitmentService, Terms
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import PUSH_MODEL
from dicom_node.standard.contexts import VERIFICATION
from dicom_node.standard.status import SUCCESS

Tell = Callable[..., None]
"""Reports an event of ReceiveEvents about the association: its name, then details that JSON can carry."""


@dataclass(frozen=True)
class Service:
    """A service by one kind of message.

    Attributes
    ----------
    abstract_syntax : str
        What is negotiated for it.
    event : pynetdicom event
        The message.
    handler : callable
        Gets pynetdicom's event and a Tell, and returns what pynetdicom wants to answer. It runs on the
        association's thread, perhaps in a process of its own that has no database.
    either_role : bool
        Whether the caller may be the provider, as one that reports on a request of ours.
    """

    abstract_syntax: str
    event: Any
    handler: Callable[[Any, Tell], Any]
    either_role: bool = False


def services(spool: Spool, terms: Terms) -> tuple[Service, ...]:
    """Return what is offered beside storage."""
    commitment = CommitmentService(spool, terms)
    return (
        Service(VERIFICATION, evt.EVT_C_ECHO, lambda event, tell: SUCCESS),
        Service(PUSH_MODEL, evt.EVT_N_ACTION, commitment.asked, either_role=True),
        Service(PUSH_MODEL, evt.EVT_N_EVENT_REPORT, commitment.reported, either_role=True),
    )
