"""The messages that the node and a receiver process exchange, beside the events of associations."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from dicom_node.receive.admission import Refusal
from dicom_node.receive.association import Association
from dicom_node.receive.channel import Channel
from dicom_node.receive.commitment_scp import CommitmentPolicy
from dicom_node.receive.events import AssociationEvent
from dicom_node.receive.limits import Limits
from dicom_node.receive.message_codec import MessageCodec
from dicom_node.tls import ServerTls


@dataclass(frozen=True)
class Begin:
    """First message of the node: receive with these settings (see :class:`dicom_node.receive.scp.StorageSCP`)."""

    ae_title: str
    root: Path
    high_water: float
    limits: Limits
    tls: ServerTls | None
    commitment: CommitmentPolicy


@dataclass(frozen=True)
class Admitted:
    """Answer to :class:`Admit` of the same number; without a refusal the association may come in."""

    number: int
    refusal: Refusal | None


@dataclass(frozen=True)
class Stop:
    """Stop receiving; :class:`Stopped` is answered."""


@dataclass(frozen=True)
class Ready:
    """The process receives."""


@dataclass(frozen=True)
class Admit:
    """May this association come in?"""

    number: int
    association: Association


@dataclass(frozen=True)
class Leave:
    """An association that was admitted is over."""

    association: Association


@dataclass(frozen=True)
class Stopped:
    """The process receives no longer, and has told everything."""


FromNode = Begin | Admitted | Stop
FromReceiver = AssociationEvent | Ready | Admit | Leave | Stopped

FROM_NODE = MessageCodec[FromNode](*get_args(FromNode))
FROM_RECEIVER = MessageCodec[FromReceiver](*get_args(FromReceiver))


def node_channel(end: socket.socket) -> Channel[FromNode, FromReceiver]:
    """Return the node's end of a channel."""
    return Channel(end, FROM_NODE, FROM_RECEIVER)


def receiver_channel(end: socket.socket) -> Channel[FromReceiver, FromNode]:
    """Return the receiver process's end of a channel."""
    return Channel(end, FROM_RECEIVER, FROM_NODE)
