"""A person's points: the file is checked before anything is asked of the node or of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from factories import mr_series
from typer.testing import CliRunner

from dicom_node.cli import app
from dicom_node.errors import NotFoundError, UnreadableError
from dicom_node.node.control_socket import ControlServer


def retry(tmp_path: Path, content: str) -> Any:
    path = tmp_path / "points.json"
    path.write_text(content)
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata = "data"\n')
    return CliRunner().invoke(app, ["retry", "abcd", "--points", str(path), "--config", str(config)])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("left", r"no JSON \(at line 1, column 1\); it should hold \{\"left\": \[x, y, z\]"),
        ("[1, 2, 3]", r'\{"left": \[x, y, z\]'),
        ("{}", r'\{"left": \[x, y, z\]'),
        ('{"nose": [1, 2, 3]}', "'nose' is no side"),
        ('{"left": [1, 2]}', r"left has \[1, 2\]"),
        ('{"left": [1, 2, "3"]}', "left has"),
        ('{"right": [1, NaN, 3]}', "right has"),
        ("null", "no points in it"),
    ],
)
def test_file_that_is_no_points_is_named_with_what_is_wrong(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(UnreadableError, match=said) as caught:
        raise retry(tmp_path, content).exception
    assert str(caught.value).startswith(f"{tmp_path / 'points.json'}: ")
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["retry", "abcd", "--points", str(tmp_path / "none.json")])
    assert isinstance(result.exception, UnreadableError)
    assert str(result.exception) == f"{tmp_path / 'none.json'}: can't be read: No such file or directory"


def test_file_of_another_kind_is_told_without_the_words_of_a_library(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\xff")
    result = CliRunner().invoke(app, ["retry", "abcd", "--points", str(picture)])
    assert str(result.exception).startswith(f"{picture}: not text in UTF-8; it should hold")


def test_pipeline_that_takes_no_points_says_so_before_it_is_loaded(tmp_path: Path) -> None:
    series = mr_series(tmp_path / "flair", shape=(8, 16, 16), EchoTime=90.0, RepetitionTime=9000.0)
    points = tmp_path / "points.json"
    points.write_text('{"left": [1, 2, 3]}')
    arguments = ["analyse", str(series[0].parent), "--out", str(tmp_path / "out"), "--points", str(points)]
    result = CliRunner().invoke(app, [*arguments, "--pipeline", "flair"])
    assert isinstance(result.exception, NotFoundError)
    assert "the pipeline flair takes no --points" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_points_reach_the_node_as_settings_of_this_one_job(tmp_path: Path) -> None:
    heard: list[object] = []

    def handle(verb: str, identifier: str, given: Any) -> str:
        heard.extend([verb, identifier, given])
        return "done"

    (tmp_path / "data").mkdir()
    server = ControlServer(tmp_path / "data", handle)
    server.start()
    try:
        result = retry(tmp_path, json.dumps({"right": [-31, 10, 2.5]}))
    finally:
        server.stop()
    assert result.output == "done\n"
    assert heard == ["retry", "abcd", {"points": {"right": [-31.0, 10.0, 2.5]}}]
