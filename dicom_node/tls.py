"""TLS both ways, towards peers and for those who call: contexts, and the fault of a handshake in one line.

References
----------
DICOM PS3.15 B.9 (BCP 195 TLS secure transport connection profile), RFC 9325 (BCP 195)
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dicom_node.errors import ConfigError

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL"
"""RFC 9325 4.2: forward secrecy and authenticated encryption (TLS 1.2; all suites of TLS 1.3 are such)."""

# X509_V_ERR of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_NOT_TRUSTED = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})

_REASONS_OF_PEERS = {
    "WRONG_VERSION_NUMBER": "does not speak TLS on that port",
    "HTTP_REQUEST": "does not speak TLS on that port",
    "RECORD_LAYER_FAILURE": "does not speak TLS on that port",
    "UNSUPPORTED_PROTOCOL": "offers neither TLS 1.2 nor 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "offers neither TLS 1.2 nor 1.3",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "wants a certificate of ours: set tls certificate and key",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "has no cipher in common with us, or wants a certificate of ours",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "refuses our certificate, which has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "refuses our certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "refuses our certificate: it does not know who signed it",
    "TLSV1_ALERT_DECRYPT_ERROR": "refuses our certificate",
}

_REASONS_OF_CALLERS = {
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


@dataclass(frozen=True)
class ClientTls:
    """TLS towards a peer that we call.

    Attributes
    ----------
    ca : Path or None
        PEM file of the authorities that may have signed the peer's certificate; None: those of this system.
    certificate, key : Path or None
        PEM files of our own certificate, with its chain, and of its key, for a peer that asks who we are.
        Without a key it is expected in the certificate's file.
    name : str
        The name that must stand in the peer's certificate; empty: the host that is called.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    name: str = ""

    def context(self) -> ssl.SSLContext:
        """Return what a connection is made with; the files are read anew, so that renewed ones are used.

        Raises
        ------
        ConfigError
            A file can't be read, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        if self.ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            load_authorities(context, self.ca)
        if self.certificate is not None:
            load_certificate(context, self.certificate, self.key)
        elif self.key is not None:
            raise ConfigError(f"tls key {self.key}: there is no tls certificate that it belongs to")
        return context


def check_files(where: str, ca: Path | None, certificate: Path | None, key: Path | None) -> None:
    """Raise ConfigError when a file of a ``tls`` table can't be used; the message begins with `where`."""
    try:
        ClientTls(ca, certificate, key).context()
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error


def load_authorities(context: ssl.SSLContext, ca: Path) -> None:
    """Trust the authorities of a PEM file.

    Raises
    ------
    ConfigError
        It can't be read, or holds none.
    """
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ConfigError(f"tls ca {ca}: no PEM file of certificates") from error
    except OSError as error:
        raise ConfigError(f"tls ca {ca}: can't be read: {error.strerror}") from error


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Say who we are by the certificate and the key of two PEM files, or of one.

    Raises
    ------
    ConfigError
        A file can't be read, or they don't belong together.
    """
    for what, path in (("certificate", certificate), ("key", key)):
        if path is not None:
            try:
                path.open("rb").close()
            except OSError as error:
                raise ConfigError(f"tls {what} {path}: can't be read: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        reason = "don't belong together" if error.reason == "KEY_VALUES_MISMATCH" else "are no PEM files"
        raise ConfigError(f"tls certificate {certificate} and {key or 'the key in it'} {reason}") from error


def _no_password() -> bytes:
    raise ConfigError("tls key: it is protected by a password; give one without, readable by this user only")


def explain_peer(error: ssl.SSLError, tls: ClientTls, host: str) -> str:
    """Say what is wrong between a peer and us, and the way out, to follow the peer's address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate {_fault(error, tls, host)}"
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return "broke off in the TLS handshake; does that port speak TLS?"
    return _REASONS_OF_PEERS.get(error.reason or "", f"TLS fails: {error.reason or 'no reason given'}")


def _fault(error: ssl.SSLCertVerificationError, tls: ClientTls, host: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "has expired: it must be renewed there"
    if code == _NOT_YET_VALID:
        return "is not valid yet: compare the clocks"
    if code in _OTHER_NAME:
        return f"is not for {tls.name or host}: call it by a name in it, or set tls name"
    if code in _NOT_TRUSTED:
        who = f"an authority in {tls.ca}" if tls.ca else "an authority that this system knows"
        return f"is not trusted: {who} must have signed it; set tls ca"
    return f"is not accepted: {error.verify_message}"


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
    """TLS of the node's own port.

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


def explain_caller(error: OSError) -> str:
    """Say why a caller did not get through the handshake."""
    if isinstance(error, TimeoutError):
        return "the handshake took too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return _REASONS_OF_CALLERS.get(
            error.reason or "", f"the handshake failed: {error.reason or 'no reason given'}"
        )
    return "it broke off in the handshake"
