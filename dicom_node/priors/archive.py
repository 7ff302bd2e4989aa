"""The archive that is asked for priors, and the associations with it that are open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pynetdicom.association import Association

from dicom_node.config.sections import PriorsSection
from dicom_node.config.settings import Settings
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts
from dicom_node.errors import ConfigError

SHORTEST_WAIT_S = 60.0
"""An archive may be silent for so long, or for `wait_s` where that is longer: it may have to fetch a tape."""


class OpenAssociations:
    """Associations that are open, to be aborted when the node stops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[Association] = []
        self.are_aborted = False

    @contextmanager
    def holding(self, assoc: Association) -> Iterator[Association]:
        """Count an association as open within the block."""
        with self._lock:
            self._open.append(assoc)
        try:
            yield assoc
        finally:
            with self._lock:
                self._open.remove(assoc)

    def abort(self) -> None:
        """Abort all of them."""
        self.are_aborted = True
        with self._lock:
            found = list(self._open)
        for assoc in found:
            assoc.abort()


@dataclass(frozen=True)
class Archive:
    """Archive by the configuration.

    Attributes
    ----------
    name : str
        Of the ``[[destination]]``.
    address : Address
        Where it is.
    ae_title : str
        Our own AE title, to which C-MOVE sends.
    section : PriorsSection
        How it is asked.
    timeouts : Timeouts
        For associations with it.
    open : OpenAssociations
        Those that are open.
    """

    name: str
    address: Address
    ae_title: str
    section: PriorsSection
    timeouts: Timeouts
    open: OpenAssociations = field(default_factory=OpenAssociations)

    @classmethod
    def of(cls, settings: Settings) -> Archive:
        """Return the archive that the configuration names.

        Raises
        ------
        ConfigError
            It names none.
        """
        section = settings.priors
        for destination in settings.destination:
            if destination.name == section.from_:
                timeouts = Timeouts(dimse_s=max(SHORTEST_WAIT_S, section.wait_s))
                return cls(
                    destination.name, Address.of(destination), settings.node.ae_title, section, timeouts
                )
        raise ConfigError(
            'no earlier studies are looked for: [priors] from = "NAME" names the [[destination]] to ask'
        )
