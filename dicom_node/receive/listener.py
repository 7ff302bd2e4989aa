"""The port, bound once: by one process, for all that receive."""

from __future__ import annotations

import errno
import socket

from dicom_node.errors import AddressError, PortTakenError

BACKLOG = 128
"""Connections that may wait to be accepted; more than a PACS opens at once."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one.

    It does not block: of several processes that wake for one connection, those that come late go on.
    SO_REUSEPORT is not set: a second node would share the port unseen.

    Raises
    ------
    PortTakenError
        Somebody else listens there, or the port needs rights that this user lacks.
    AddressError
        The host is not an address of this machine.
    """
    try:
        # An IPv4 address is preferred where a name has both, as by the clients that call by name.
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    except socket.gaierror as error:
        raise AddressError(
            f"[node] host {host!r} can't be resolved: give an address of this machine"
        ) from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise PortTakenError(
                f"port {port} needs more rights: choose a [node] port of 1024 or more"
            ) from error
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"port {port} is in use: choose another [node] port, or stop what listens there"
            ) from error
        raise AddressError(f"[node] host {host!r} can't be listened on: {error.strerror}") from error
    return listener
