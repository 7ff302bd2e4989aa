"""Address of a DICOM peer: ``AET@HOST:PORT``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dicom_node.config.hosts import fault_of_host
from dicom_node.config.sections import Destination
from dicom_node.errors import AddressError, ConfigError
from dicom_node.standard.titles import fault_of_title
from dicom_node.tls import ClientTls

FORM = "AET@HOST:PORT, for example ORTHANC@pacs.example.org:4242"
LAST_PORT = 65535
_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^\s@:\[\]]+")


@dataclass(frozen=True)
class Address:
    """AE title, host name or IP address, and TCP port of a peer; and how, if it is spoken to over TLS.

    Raises
    ------
    AddressError
        A part is not allowed; the message says which and why.
    """

    ae_title: str
    host: str
    port: int
    tls: ClientTls | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if reason := fault_of_title(self.ae_title):
            raise AddressError(f"{self}: {reason}; write {FORM}")
        if not 1 <= self.port <= LAST_PORT:
            raise AddressError(
                f"{self}: a port is a number from 1 to {LAST_PORT}, not {self.port}; write {FORM}"
            )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"

    def check_tls(self) -> None:
        """Raise ConfigError when a file that TLS needs can't be used."""
        if self.tls is not None:
            try:
                self.tls.context()
            except ConfigError as error:
                raise ConfigError(f"{self}: {error}") from error

    @classmethod
    def of(cls, destination: Destination) -> Address:
        """Return the address of a ``[[destination]]``."""
        files = destination.tls
        tls = ClientTls(files.ca, files.certificate, files.key, files.name) if files else None
        return cls(destination.ae_title, destination.host, destination.port, tls)

    @classmethod
    def parse(cls, text: str, tls: ClientTls | None = None) -> Address:
        """Read ``AET@HOST:PORT``; an IPv6 address stands in brackets.

        Raises
        ------
        AddressError
            It can't be read; the message says what is wrong and which form is expected.
        """
        title, at, place = text.strip().rpartition("@")
        if not at:
            raise AddressError(f"{text!r}: no AE title before an @; write {FORM}")
        host, colon, port = place.rpartition(":")
        if not colon:
            raise AddressError(f"{text!r}: no port after a colon; write {FORM}")
        if not _HOST.fullmatch(host):
            raise AddressError(
                f"{text!r}: {host!r} is no host name or IP address (IPv6 in brackets); write {FORM}"
            )
        if reason := fault_of_host(host.strip("[]")):
            raise AddressError(f"{text!r}: {host!r}: {reason}; write {FORM}")
        if not (port.isascii() and port.isdigit()):
            raise AddressError(
                f"{text!r}: a port is a number from 1 to {LAST_PORT}, not {port!r}; write {FORM}"
            )
        return cls(title.strip(), host.strip("[]"), int(port), tls)
