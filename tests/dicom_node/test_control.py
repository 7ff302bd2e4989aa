from pathlib import Path

import pytest

from dicom_node.control import ControlServer, ask
from dicom_node.errors import NodeError, NotFoundError


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
