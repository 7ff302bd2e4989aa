"""Socket by which a command reaches the node that runs: one line of JSON each way, in the data folder."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dicom_node.errors import NodeError, NotFoundError

LOGGER = logging.getLogger(__name__)
SOCKET_NAME = "control"
ANSWER_TIMEOUT_S = 30.0


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """Name the socket by way of the folder's descriptor: sun_path holds 107 bytes only (unix(7))."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


class ControlServer:
    """Answers commands in a thread.

    Parameters
    ----------
    folder : Path
        The data folder (0700: its owner alone may steer the node).
    handle : callable
        Called with the verb, the ID, and the settings that a person gives for this one job; returns the line for the person,
        or raises NodeError.
    """

    def __init__(self, folder: Path, handle: Callable[[str, str, Mapping[str, Any]], str]) -> None:
        self.folder = folder

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    request = json.loads(self.rfile.readline())
                    given = dict(request.get("settings") or {})
                    answer = {"answer": handle(str(request["verb"]), str(request["id"]), given)}
                except NodeError as error:
                    answer = {"error": str(error)}
                except Exception:  # whatever it is, the person gets an answer
                    LOGGER.exception("a command could not be done")
                    answer = {"error": "the node could not do this: see its log"}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        (folder / SOCKET_NAME).unlink(missing_ok=True)
        with _short_path(folder) as path:
            self._server = socketserver.ThreadingUnixStreamServer(path, Handler)
        (folder / SOCKET_NAME).chmod(0o600)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="control", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and remove the socket."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        (self.folder / SOCKET_NAME).unlink(missing_ok=True)


def ask(folder: Path, verb: str, identifier: str, settings: Mapping[str, Any] | None = None) -> str:
    """Send a command, with settings for this one job where a person gives some, to the node; return its answer.

    Raises
    ------
    NotFoundError
        No node runs there.
    NodeError
        What the node says against it, or that it does not answer.
    """
    try:
        with _short_path(folder) as path, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_TIMEOUT_S)
            client.connect(path)
            request = {"verb": verb, "id": identifier, "settings": settings or {}}
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as stream:
                answer = json.loads(stream.readline())
    except PermissionError as error:
        raise NodeError(f"{folder}: only the user that runs the node may steer it") from error
    except TimeoutError as error:
        raise NodeError(
            f"the node did not answer within {ANSWER_TIMEOUT_S:g} s; what was asked may still be done: see dicom-node why"
        ) from error
    except ValueError as error:
        raise NodeError("the node broke off: what was asked may be half done; see dicom-node why") from error
    except OSError as error:
        raise NotFoundError(
            f"no node runs with the data folder {folder}: start it, or give its --config"
        ) from error
    if "error" in answer:
        raise NodeError(answer["error"])
    return str(answer["answer"])
