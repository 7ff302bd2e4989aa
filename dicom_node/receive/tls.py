"""TLS for those who call.

References
----------
DICOM PS3.15 B.9 (BCP 195 TLS secure transport connection profile), RFC 9325 (BCP 195)
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_node.deliver.tls import CIPHERS, load_authorities, load_certificate
from dicom_node.errors import ConfigError

_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no client certificate was shown",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it offers neither TLS 1.2 nor 1.3",
    "NO_SHARED_CIPHER": "it has no cipher in common with us",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know who signed our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it refuses our certificate, which has expired",
}


class ServerFiles(Protocol):
    """``[accept] tls``."""

    @property
    def certificate(self) -> Path:
        """PEM file."""

    @property
    def key(self) -> Path | None:
        """PEM file."""

    @property
    def ca(self) -> Path | None:
        """PEM file."""


@dataclass(frozen=True)
class ServerTls:
    """How the node is called over TLS.

    Attributes
    ----------
    certificate : Path
        PEM file of the node's certificate, with its chain.
    key : Path or None
        PEM file of its key; None: it is in the certificate's file.
    ca : Path or None
        PEM file of the authorities one of which must have signed the callers' certificates; None: callers
        need none.
    """

    certificate: Path
    key: Path | None = None
    ca: Path | None = None

    @classmethod
    def of(cls, files: ServerFiles | None) -> ServerTls | None:
        """Return what the configuration says, if it does."""
        return cls(files.certificate, files.key, files.ca) if files else None

    def context(self) -> ssl.SSLContext:
        """Return what connections are accepted with.

        Raises
        ------
        ConfigError
            A file can't be read, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        try:
            load_certificate(context, self.certificate, self.key)
            if self.ca is not None:
                load_authorities(context, self.ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ConfigError as error:
            raise ConfigError(f"[accept] {error}") from error
        return context


def explain(error: OSError) -> str:
    """Say why a caller did not get through the handshake."""
    if isinstance(error, TimeoutError):
        return "the handshake took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _REASONS.get(error.reason or "", f"the handshake failed: {error.reason or 'no reason given'}")
    return "it broke off in the handshake"
