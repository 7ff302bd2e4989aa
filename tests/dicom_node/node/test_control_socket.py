import threading
from pathlib import Path

import pytest

from dicom_node.errors import NodeError, NotFoundError
from dicom_node.node.control_socket import ControlServer, ask


def test_command_reaches_the_node_and_its_answer_comes_back(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, lambda verb, identifier, given: f"{verb} of {identifier}")
    server.start()
    try:
        assert ask(tmp_path, "retry", "abcd") == "retry of abcd"
    finally:
        server.stop()


def test_refusal_of_the_node_is_raised_again(tmp_path: Path) -> None:
    def refuse(verb: str, identifier: str, given: object) -> str:
        raise NotFoundError(f"nothing has the ID {identifier}")

    server = ControlServer(tmp_path, refuse)
    server.start()
    try:
        with pytest.raises(NodeError, match="nothing has the ID abcd"):
            ask(tmp_path, "hold", "abcd")
    finally:
        server.stop()


def test_long_data_folder_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    server = ControlServer(folder, lambda verb, identifier, given: "done")
    server.start()
    try:
        assert ask(folder, "hold", "abcd") == "done"
    finally:
        server.stop()


def test_without_a_node_the_person_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no node runs with the data folder"):
        ask(tmp_path, "retry", "abcd")


def test_node_that_stumbles_still_answers(tmp_path: Path) -> None:
    def stumble(verb: str, identifier: str, given: object) -> str:
        raise RuntimeError

    server = ControlServer(tmp_path, stumble)
    server.start()
    try:
        with pytest.raises(NodeError, match="the node could not do this: see its log"):
            ask(tmp_path, "hold", "abcd")
    finally:
        server.stop()


def test_node_that_takes_too_long_is_not_said_to_be_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.node.control_socket.ANSWER_TIMEOUT_S", 0.1)
    asked = threading.Event()
    server = ControlServer(tmp_path, lambda verb, identifier, given: str(asked.wait(10)))
    server.start()
    try:
        with pytest.raises(NodeError, match=r"did not answer within 0\.1 s") as caught:
            ask(tmp_path, "hold", "abcd")
        assert not isinstance(caught.value, NotFoundError)
    finally:
        asked.set()
        server.stop()


def test_user_without_rights_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("dicom_node.node.control_socket.os.open", refuse)
    with pytest.raises(NodeError, match="only the user that runs the node may steer it"):
        ask(tmp_path, "hold", "abcd")
