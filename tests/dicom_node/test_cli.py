"""Commands with wrong input: one line that names the thing and the way out, and no traceback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from factories import mr_series

from dicom_node import cli
from dicom_node.node.probes import Verdict


def said(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail, and return what it says."""
    monkeypatch.setattr(sys, "argv", ["dicom-node", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code
    return capfd.readouterr().err.strip()


@pytest.mark.parametrize(
    ("title", "reason"),
    [("SEVENTEEN_LETTERS", "not 1 to 16 characters"), ("", "not 1 to 16 characters"), ("Ä", "forbids")],
)
@pytest.mark.parametrize("command", [["echo", "A@localhost:1"], ["send", ".", "--to", "A@localhost:1"]])
def test_title_of_ours_that_can_not_be_one(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: list[str],
    title: str,
    reason: str,
) -> None:
    line = said(monkeypatch, capfd, *command, "--from", title)
    assert line.startswith("dicom-node: --from: AE title ") and reason in line and "\n" not in line


@pytest.mark.parametrize(
    ("arguments", "option"), [(("worklog", "-n", "-5"), "-n"), (("demo", "--seed", "-1"), "--seed")]
)
def test_number_below_nought_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    option: str,
) -> None:
    assert f"Invalid value for '{option}'" in said(monkeypatch, capfd, *arguments)


def test_demo_in_what_is_no_empty_folder_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert "file: File exists; give --keep another folder" in said(
        monkeypatch, capfd, "demo", "--keep", tmp_path / "file"
    )
    assert "not empty; give --keep a new folder" in said(monkeypatch, capfd, "demo", "--keep", tmp_path)


def test_trouble_of_the_machine_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/data/state.sqlite")

    monkeypatch.setattr("dicom_node.jobs.why.why", refuse)
    monkeypatch.chdir(tmp_path)
    assert said(monkeypatch, capfd, "why", "abcd") == "dicom-node: /data/state.sqlite: Permission denied"


def test_check_shows_the_names_of_sections(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "dicom_node.node.probes.check_node", lambda *_: [Verdict(False, "[accept] tls", "set [node] data")]
    )
    monkeypatch.setattr(sys, "argv", ["dicom-node", "check"])
    with pytest.raises(SystemExit):
        cli.main()
    output = capfd.readouterr().out
    assert "[accept] tls" in output and "set [node] data" in output


def test_route_shows_a_description_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    series = mr_series(tmp_path / "a", shape=(3, 8, 8), SeriesDescription="T2 [/tra] [b]FS")
    monkeypatch.setattr(sys, "argv", ["dicom-node", "route", str(series[0].parent)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "3 images, T2 [/tra] [b]FS" in capfd.readouterr().out


def test_address_is_shown_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("dicom_node.deliver.c_echo.echo", lambda *_: 0.001)
    monkeypatch.setattr(sys, "argv", ["dicom-node", "echo", "[/A]@localhost:104"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capfd.readouterr().out == "[/A]@localhost:104 answers in 1 ms\n"


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_file_of_the_broker_that_is_not_there_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[broker]\nurl = "rediss://127.0.0.1:1/0"\ntls = { ca = "none.pem" }\n')
    monkeypatch.setattr("pipelines.weights.verify", lambda: "")
    monkeypatch.setattr("dicom_node.node.supervise.Node", None)
    monkeypatch.setattr("worker.app.run_worker", None)
    line = said(monkeypatch, capfd, command, "--config", config)
    assert (
        line
        == f"dicom-node: [broker] tls ca {tmp_path / 'none.pem'}: can't be read: No such file or directory"
    )
