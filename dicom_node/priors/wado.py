"""WADO-RS of one series over HTTP: its objects as the parts of one answer.

References
----------
DICOM PS3.18 10.4 (retrieve transaction), RFC 2046 5.1.1 (multipart)
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from itertools import chain
from typing import Protocol
from urllib.parse import quote

from dicom_node.errors import PriorError
from dicom_node.priors.again import AskAgainError
from dicom_node.priors.archive import Archive
from dicom_node.priors.arrival import Arrival

ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
CHUNK = 1 << 16
HEADERS_BYTES = 1 << 16
OBJECT_BYTES = 1 << 30
PREFIX_AT, PREFIX = 128, b"DICM"
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
REFUSED = (401, 403)


class Stream(Protocol):
    """Body of an answer."""

    def read(self, amount: int, /) -> bytes:
        """Return some bytes, none at the end."""


class MultipartError(Exception):
    """A body that is cut off, or no multipart at all."""


def wado_series(
    archive: Archive, study_uid: str, series_uid: str, on_progress: Callable[[], None], arrival: Arrival
) -> str:
    """Get a series over DICOMweb into the inbox; return what came.

    Raises
    ------
    AskAgainError
        The archive can't be reached, lacks resources, or breaks off.
    PriorError
        It does not give the series.
    SpoolError
        An object can't be written.
    """
    count = 0
    try:
        with opened(archive, study_uid, series_uid) as answer:
            boundary = _boundary(answer.headers)
            for pieces in parts(answer, boundary):
                arrival.take(*_head_and_rest(pieces))
                count += 1
                on_progress()
    except MultipartError as error:
        raise AskAgainError(f"DICOMweb: {error}, after {count} objects") from error
    except (OSError, http.client.HTTPException) as error:
        raise AskAgainError(f"DICOMweb broke off ({type(error).__name__}), after {count} objects") from error
    return f"WADO-RS gave {count} objects"


def opened(archive: Archive, study_uid: str, series_uid: str) -> http.client.HTTPResponse:
    """Return the answer to the request for a series, its body unread.

    Raises
    ------
    AskAgainError
        The archive can't be reached, or lacks resources.
    PriorError
        It refuses, or has no such series.
    """
    section = archive.section
    # The UIDs are what the archive said that they are.
    url = f"{section.web_url}/studies/{quote(study_uid, safe='')}/series/{quote(series_uid, safe='')}"
    request = urllib.request.Request(url, headers={"Accept": ACCEPT})
    if authorization := section.web_authorization.get_secret_value():
        # Another host that it redirects to is not told who we are.
        request.add_unredirected_header("Authorization", authorization)
    tls = archive.address.tls
    context = ssl.create_default_context(cafile=str(tls.ca) if tls is not None and tls.ca else None)
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(
            request, timeout=archive.timeouts.dimse_s, context=context
        )
    except urllib.error.HTTPError as error:
        error.close()
        text = f"DICOMweb answered {error.code} {http.client.responses.get(error.code, '')}".rstrip()
        if error.code in TEMPORARY:
            raise AskAgainError(text) from error
        if error.code in REFUSED:
            raise PriorError(
                f"{text}: it wants to know who we are; set [priors] web_authorization"
            ) from error
        raise NotThereError(f"{text}; is [priors] web_url right?") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise AskAgainError(f"{section.web_url}: can't be reached ({reason})") from error
    if answer.status != http.client.OK:
        answer.close()
        raise NotThereError(f"DICOMweb answered {answer.status} without a series")
    return answer


class NotThereError(PriorError):
    """The archive has no such series."""


def parts(stream: Stream, boundary: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the content of each part of a multipart body, piece by piece; each is to be read before the next is asked for.

    Raises
    ------
    MultipartError
        The body ends before its last boundary, or is none.
    """
    body = _Body(stream, b"\r\n--" + boundary)
    for _ in body.to_delimiter():  # the preamble
        pass
    while not body.is_last():
        body.skip_headers()
        pieces = body.to_delimiter()
        yield pieces
        for _ in pieces:
            pass


class _Body:
    """Body of a multipart, read up to a place."""

    def __init__(self, stream: Stream, delimiter: bytes) -> None:
        self._stream = stream
        self._delimiter = delimiter
        self._rest = b"\r\n"  # the first boundary may stand at the very begin

    def _fill(self) -> None:
        chunk = self._stream.read(CHUNK)
        if not chunk:
            raise MultipartError("the answer is cut off")
        self._rest += chunk

    def to_delimiter(self) -> Iterator[bytes]:
        """Yield what stands before the next delimiter, and go behind it."""
        while (found := self._rest.find(self._delimiter)) < 0:
            safe = len(self._rest) - len(self._delimiter) + 1  # a delimiter may begin in the last bytes
            if safe > 0:
                piece, self._rest = self._rest[:safe], self._rest[safe:]
                yield piece
            self._fill()
        piece, self._rest = self._rest[:found], self._rest[found + len(self._delimiter) :]
        if piece:
            yield piece

    def is_last(self) -> bool:
        """Tell whether the delimiter that was passed is the last one."""
        while len(self._rest) < 2:
            self._fill()
        return self._rest.startswith(b"--")

    def skip_headers(self) -> None:
        """Go behind the headers of a part."""
        while (found := self._rest.find(b"\r\n\r\n")) < 0:
            if len(self._rest) > HEADERS_BYTES:
                raise MultipartError("the headers of a part do not end")
            self._fill()
        self._rest = self._rest[found + 4 :]


def _boundary(headers: Message) -> bytes:
    boundary = headers.get_param("boundary")
    if headers.get_content_maintype() != "multipart" or not isinstance(boundary, str) or not boundary:
        raise PriorError("DICOMweb gives no multipart of DICOM objects; is [priors] web_url right?")
    return boundary.encode("latin-1", "replace")


def _head_and_rest(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the begin of an object, its preamble at least, and the rest of it."""
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= PREFIX_AT + len(PREFIX):
            break
    if head[PREFIX_AT : PREFIX_AT + len(PREFIX)] != PREFIX:
        raise PriorError("DICOMweb gives what is no DICOM object; is [priors] web_url right?")
    return head, _bounded(chain(pieces), len(head))


def _bounded(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    for piece in pieces:
        length += len(piece)
        if length > OBJECT_BYTES:
            raise PriorError(f"DICOMweb gives an object of more than {OBJECT_BYTES} bytes")
        yield piece
