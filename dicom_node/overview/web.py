"""Web server of the node: the overview's pages, ``/metrics`` for Prometheus, and ``/healthz``.

Nothing can be changed by it: only GET and HEAD are answered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dicom_node.errors import PortTakenError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

TIMEOUT_S = 10.0
"""So long may a request take to come in."""

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "dicom-node",
}


@dataclass(frozen=True)
class Answer:
    """Answer to a request."""

    text: str
    type: str = HTML
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)


class WebServer:
    """Listens on one port, and answers each caller on a thread of its own.

    Parameters
    ----------
    page : callable
        Gives the page at a path, such as ``/``; None where there is none.
    metrics : WSGI application
        Answers ``/metrics``.
    health : callable
        Gives the reasons why the node is not well, one line each; called for each ``/healthz``.
    password : str, optional
        Asked of everybody (HTTP basic authentication, under any user name); only ``/healthz`` answers without it, and then
        says whether the node is well, not why not.
    """

    def __init__(
        self,
        page: Callable[[str], Answer | None],
        metrics: WSGIApplication,
        health: Callable[[], Iterable[str]],
        password: str = "",
    ) -> None:
        self._page = page
        self._metrics = metrics
        self._health = health
        self._password = _digest(password) if password else b""
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while off."""
        return int(self._server.server_port) if self._server else 0

    def start(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen; a `port` of 0 means off.

        Raises
        ------
        PortTakenError
            Somebody else listens there, or the address is not of this machine.
        """
        if port:
            self.listen(port, host)

    def listen(self, port: int, host: str = "127.0.0.1") -> None:
        """Listen on `port`, or on one that the system chooses when it is 0."""
        try:
            self._server = make_server(host, port, self.answer, _server_class(host), _SilentHandler)
        except OSError as error:
            raise PortTakenError(
                f"[node] metrics_port {host}:{port} can't be listened on: {error.strerror}; "
                "choose another one, or 0 for no metrics"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; the body stays away where only the head is asked for."""
        path, is_head = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD") == "HEAD"
        if path == "/metrics" and self._refusal(environ) is None:
            body = b"".join(self._metrics({**environ, "REQUEST_METHOD": "GET"}, _guarded(start_response)))
            return [] if is_head else [body]
        answer = self._refusal(environ) or self._answer(path)
        body = answer.text.encode()
        headers = {"Content-Type": answer.type, "Content-Length": str(len(body)), **answer.headers}
        _guarded(start_response)(answer.status, list(headers.items()))
        return [] if is_head else [body]

    def _answer(self, path: str) -> Answer:
        if path == "/healthz":
            return _health(list(self._health()))
        return self._page(path) or Answer(
            "there are /, /worklog, /why/ID, /metrics and /healthz\n", TEXT, "404 Not Found"
        )

    def _refusal(self, environ: WSGIEnvironment) -> Answer | None:
        """Return the answer to a request that is not let in; None for one that is."""
        if environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            text = "nothing can be changed here: only GET and HEAD are answered\n"
            return Answer(text, TEXT, "405 Method Not Allowed", {"Allow": "GET, HEAD"})
        if self._password:
            if self._is_known(environ.get("HTTP_AUTHORIZATION", "")):
                return None
            if environ.get("PATH_INFO", "") == "/healthz":
                return _health(["not well"] if list(self._health()) else [])
            challenge = {"WWW-Authenticate": 'Basic realm="dicom-node", charset="UTF-8"'}
            return Answer("the password is [node] web_password\n", TEXT, "401 Unauthorized", challenge)
        # Without a password a page elsewhere could have a browser read this one, under a name that it makes point here.
        if not _is_address(environ.get("HTTP_HOST", "")):
            text = "call it by its address or as localhost, or set [node] web_password\n"
            return Answer(text, TEXT, "421 Misdirected Request")
        return None

    def _is_known(self, authorization: str) -> bool:
        """Tell whether the password is right, in a time that does not depend on how much of it is."""
        kind, _, value = authorization.partition(" ")
        try:
            given = (
                base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace").partition(":")[2]
            )
        except (binascii.Error, ValueError):
            given = ""
        return hmac.compare_digest(_digest(given), self._password) and kind.lower() == "basic"


def _health(troubles: list[str]) -> Answer:
    status = "503 Service Unavailable" if troubles else "200 OK"
    return Answer("\n".join(troubles or ["ok"]) + "\n", TEXT, status)


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()


def _is_address(host: str) -> bool:
    """Tell whether a Host header is an IP address or localhost, or not there (HTTP/1.0)."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name.lower() in {"", "localhost"}:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _guarded(start_response: StartResponse) -> StartResponse:
    def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
        given = {name.lower() for name, _ in headers}
        added = [(name, value) for name, value in SECURITY_HEADERS.items() if name.lower() not in given]
        return start_response(status, [*headers, *added], *more)

    return begin


def _server_class(host: str) -> type[WSGIServer]:
    return _ServerOfIPv6 if ":" in host else _Server


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each caller on a thread of its own."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the name service for this host's name, as the base class would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a caller that goes away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _ServerOfIPv6(_Server):
    """The same under an IPv6 address."""

    address_family = socket.AF_INET6


class _SilentHandler(WSGIRequestHandler):
    """Writes no access log."""

    timeout = TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
