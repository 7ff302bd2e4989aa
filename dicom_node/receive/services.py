"""The services beside storage that an association may ask for; they are pynetdicom's to encode and decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt

from dicom_node.receive.association import Association
from dicom_node.receive.commitment_scp import CommitmentPolicy, CommitmentService
from dicom_node.receive.events import Tell
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import PUSH_MODEL
from dicom_node.standard.contexts import VERIFICATION
from dicom_node.standard.status import SUCCESS

Handler = Callable[[Any, Association, Tell], Any]
"""Gets pynetdicom's event, the association that it is of, and what to tell of it; returns what pynetdicom answers.

It runs on the association's thread, perhaps in a process of its own that has no database.
"""


@dataclass(frozen=True)
class Service:
    """A service by one kind of message.

    Attributes
    ----------
    abstract_syntax : str
        Negotiated for it.
    event : pynetdicom event
        The message.
    handler : Handler
        Answers it.
    either_role : bool
        Whether the caller may be the provider, as one that reports on a request of ours.
    """

    abstract_syntax: str
    event: Any
    handler: Handler
    either_role: bool = False


def services(spool: Spool, policy: CommitmentPolicy) -> tuple[Service, ...]:
    """Return what is offered beside storage."""
    commitment = CommitmentService(spool, policy)
    return (
        Service(VERIFICATION, evt.EVT_C_ECHO, lambda event, association, tell: SUCCESS),
        Service(PUSH_MODEL, evt.EVT_N_ACTION, commitment.asked, either_role=True),
        Service(PUSH_MODEL, evt.EVT_N_EVENT_REPORT, commitment.reported, either_role=True),
    )
