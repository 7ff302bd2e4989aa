"""The limits of a peer: of its time, and of what it sends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Times that a peer may take, in seconds, and sizes that it may send, in bytes.

    Attributes
    ----------
    request_s : float
        From the connection to the whole association request; TLS may take as long before it.
    idle_s : float
        Between two PDUs.
    pdu_s : float
        From the first byte of a PDU to its last.
    object_s : float
        From the first byte of a message to its last: of a C-STORE's command, to the end of its data set.
    max_pdu : int
        Length of a P-DATA PDU.
    max_object : int
        Length of a data set.
    """

    request_s: float = 10.0
    idle_s: float = 60.0
    pdu_s: float = 30.0
    object_s: float = 900.0
    max_pdu: int = 131072
    max_object: int = 4 << 30
