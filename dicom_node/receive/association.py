"""An association as the rest of the node sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Association:
    """Caller of an association, its address, and the title that it called.

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
