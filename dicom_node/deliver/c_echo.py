"""C-ECHO towards a peer (PS3.7 9.1.5)."""

from __future__ import annotations

import time

from pynetdicom import build_context

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import DEFAULT_TIMEOUTS, Timeouts, UnreachableError, associate
from dicom_node.standard.contexts import VERIFICATION
from dicom_node.standard.status import describe


def echo(address: Address, ae_title: str, *, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> float:
    """Ask a peer with C-ECHO whether it is there, and return the seconds from connecting to its answer.

    Raises
    ------
    DeliveryError
        It is not, or it does not talk to us; the message says why.
    """
    started = time.monotonic()
    with associate(address, ae_title, [build_context(VERIFICATION)], timeouts=timeouts) as assoc:
        status = assoc.send_c_echo()
        if "Status" not in status:
            raise UnreachableError(f"{address}: took the association and did not answer C-ECHO")
        if status.Status != 0:
            raise UnreachableError(f"{address}: answered C-ECHO with {describe(status.Status)}")
        return time.monotonic() - started
