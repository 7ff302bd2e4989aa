"""The web server: who is let in, what is answered, and with which headers."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Iterator

import pytest

from dicom_node.errors import PortTakenError
from dicom_node.overview.web import Answer, WebServer
from dicom_node.worklog.metrics import Metrics

PASSWORD = "correct horse battery"


class Browser:
    """A server and what it is asked."""

    def __init__(self, password: str = "") -> None:
        self.troubles: list[str] = []
        self.server = WebServer(
            {"/": Answer("<p>page</p>")}.get, Metrics().app, lambda: self.troubles, password
        )
        self.server.listen(0)

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        try:
            connection.request(
                method, path, headers={name.replace("_", "-"): text for name, text in headers.items()}
            )
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()


@pytest.fixture
def browser() -> Iterator[Browser]:
    browser = Browser()
    yield browser
    browser.server.stop()


@pytest.fixture
def guarded() -> Iterator[Browser]:
    browser = Browser(PASSWORD)
    yield browser
    browser.server.stop()


def basic(password: str, user: str = "admin") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_page_metrics_and_health_stand_at_their_paths(browser: Browser) -> None:
    assert browser.ask("/")[:2] == (200, "<p>page</p>")
    status, text, headers = browser.ask("/metrics")
    assert (status, headers["content-type"][:10]) == (200, "text/plain")
    assert "dicom_node_images_total 0.0" in text
    assert browser.ask("/healthz")[:2] == (200, "ok\n")
    assert browser.ask("/none")[0] == 404


def test_health_names_the_trouble(browser: Browser) -> None:
    browser.troubles.append("the broker does not answer")
    assert browser.ask("/healthz")[:2] == (503, "the broker does not answer\n")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/none"])
def test_every_answer_forbids_scripts_frames_and_guessing(browser: Browser, path: str) -> None:
    headers = browser.ask(path)[2]
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert (headers["cache-control"], headers["server"]) == ("no-store", "dicom-node")


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz"])
def test_only_get_and_head_are_answered(browser: Browser, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        status, _, headers = browser.ask(path, method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")
    status, text, headers = browser.ask(path, "HEAD")
    assert (status, text) == (200, "")


def test_password_is_asked_of_everybody_under_any_user_name(guarded: Browser) -> None:
    wrong = ["", "Basic", "Basic !!!", basic("wrong"), basic(""), basic(PASSWORD).replace("Basic", "Bearer")]
    for path in ("/", "/metrics", "/none"):
        for given in wrong:
            status, text, headers = guarded.ask(path, Authorization=given)
            assert (status, headers["www-authenticate"]) == (401, 'Basic realm="dicom-node", charset="UTF-8"')
            assert "page" not in text
    for user in ("admin", "", "prometheus"):
        assert guarded.ask("/", Authorization=basic(PASSWORD, user))[0] == 200
        assert guarded.ask("/metrics", Authorization=basic(PASSWORD, user))[0] == 200


def test_health_without_the_password_says_whether_and_not_why(guarded: Browser) -> None:
    assert guarded.ask("/healthz")[:2] == (200, "ok\n")
    guarded.troubles.append("jobs wait")
    assert guarded.ask("/healthz")[:2] == (503, "not well\n")
    assert guarded.ask("/healthz", Authorization=basic(PASSWORD))[:2] == (503, "jobs wait\n")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9112", 200),
        ("127.0.0.1", 200),
        ("[::1]:9112", 200),
        ("10.1.2.3:9112", 200),
        ("rebound.example.org:9112", 421),
        ("rebound.example.org", 421),
    ],
)
def test_without_a_password_a_name_that_anybody_can_point_here_is_refused(
    browser: Browser, host: str, status: int
) -> None:
    assert browser.ask("/", Host=host)[0] == status


def test_with_a_password_any_name_will_do(guarded: Browser) -> None:
    assert guarded.ask("/", Host="node.example.org", Authorization=basic(PASSWORD))[0] == 200


def test_port_zero_is_off() -> None:
    server = WebServer(lambda path: None, Metrics().app, tuple)
    server.start(0)
    assert server.port == 0
    server.stop()


def test_taken_port_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"metrics_port 127.0.0.1:{port}"):
            WebServer(lambda path: None, Metrics().app, tuple).start(port)


def test_address_of_ipv6_can_be_listened_on() -> None:
    server = WebServer(lambda path: Answer("six"), Metrics().app, tuple)
    try:
        server.listen(0, "::1")
    except PortTakenError:
        pytest.skip("this machine has no IPv6")
    connection = http.client.HTTPConnection("::1", server.port, timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"six"
    connection.close()
    server.stop()
