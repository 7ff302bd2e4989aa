"""Admission of associations: by caller, and by how many are open."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dicom_node.errors import ConfigError
from dicom_node.receive.association import Association
from dicom_node.standard.status import (
    CALLED_AE_NOT_RECOGNISED,
    CALLING_AE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    Rejection,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Caller(Protocol):
    """An entry of ``[accept] callers``: an AE title and the address or network that it may call from."""

    @property
    def ae_title(self) -> str:
        """The calling AE title."""

    @property
    def address(self) -> str:
        """An address or a network, as ``10.1.2.3`` or ``10.1.0.0/16``."""


@dataclass(frozen=True)
class Refusal:
    """Reason for rejecting an association: the numbers for the caller, and a line for the worklog."""

    rejection: Rejection
    reason: str


class Admission:
    """Decides on each association request.

    Parameters
    ----------
    callers : iterable of Caller
        Those who may call; none: anyone. The same AE title may stand in several entries.
    require_called_ae : bool
        Whether the caller must know the node's own AE title.

    Raises
    ------
    ConfigError
        An address is neither an IP address nor a network.
    """

    def __init__(self, callers: Iterable[Caller] = (), *, require_called_ae: bool = True) -> None:
        self.require_called_ae = require_called_ae
        self._networks: dict[str, list[Network]] = {}
        for caller in callers:
            title = caller.ae_title.strip()
            self._networks.setdefault(title, []).append(_network(title, caller.address))

    def check(self, association: Association, ae_title: str) -> Refusal | None:
        """Return why a caller is refused, or None when it may come in.

        Parameters
        ----------
        association : Association
            The request.
        ae_title : str
            The node's own.
        """
        if self.require_called_ae and association.called_ae != ae_title:
            return Refusal(
                CALLED_AE_NOT_RECOGNISED, f"calls {association.called_ae!r}, and this is {ae_title!r}"
            )
        if self._networks:
            networks = self._networks.get(association.calling_ae)
            if networks is None:
                return Refusal(CALLING_AE_NOT_RECOGNISED, "AE title is not in [accept] callers")
            if not any(_contains(network, association.address) for network in networks):
                return Refusal(CALLING_AE_NOT_RECOGNISED, "AE title may not call from this address")
        return None


class Gatekeeper(Protocol):
    """Lets associations in, and counts those that are there. Called from many threads."""

    def admit(self, association: Association) -> Refusal | None:
        """Count an association in, or say why it is refused."""

    def leave(self, association: Association) -> None:
        """Count an association out; one that is not in is no matter."""


class Gate:
    """The gatekeeper of a node: who may come in, and how many at once.

    Parameters
    ----------
    admission : Admission
        Who.
    ae_title : str
        The node's own.
    max_associations : int
        How many in all.
    max_per_caller : int
        How many from one address, whatever titles they give; 0: as many as in all.
    """

    def __init__(
        self, admission: Admission, ae_title: str, *, max_associations: int = 32, max_per_caller: int = 0
    ) -> None:
        self._admission = admission
        self._ae_title = ae_title.strip()
        self._max_associations = max_associations
        self._max_per_caller = max_per_caller or max_associations
        self._lock = threading.Lock()
        self._addresses: dict[str, str] = {}  # of those that are in, by their IDs

    def admit(self, association: Association) -> Refusal | None:
        """Count an association in, or say why it is refused."""
        refusal = self._admission.check(association, self._ae_title)
        if refusal is not None:
            return refusal
        with self._lock:
            count = len(self._addresses)
            if count >= self._max_associations:
                reason = f"{count} associations are open, the limit is {self._max_associations}"
                return Refusal(LOCAL_LIMIT_EXCEEDED, reason)
            count = sum(address == association.address for address in self._addresses.values())
            if count >= self._max_per_caller:
                reason = f"{count} associations of this address are open, its limit is {self._max_per_caller}"
                return Refusal(LOCAL_LIMIT_EXCEEDED, reason)
            self._addresses[association.id] = association.address
        return None

    def leave(self, association: Association) -> None:
        """Count an association out; one that is not in is no matter."""
        with self._lock:
            self._addresses.pop(association.id, None)


def _network(title: str, address: str) -> Network:
    try:
        return ipaddress.ip_network(address.strip(), strict=False)
    except ValueError:
        raise ConfigError(
            f"[accept] callers {title}: address {address!r} is no IP address or network (10.1.0.0/16)"
        ) from None


def _contains(network: Network, address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # A socket that serves IPv4 and IPv6 shows an IPv4 caller as ::ffff:a.b.c.d.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    # The default of the configuration, 0.0.0.0/0, means any address of either family.
    return (mapped or ip) in network or network.prefixlen == 0
