"""Commands with wrong input: one line that names the thing and the way out, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from factories import mr_series
from rig import header
from typer.testing import CliRunner

from dicom_node import cli
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store, series_identity
from dicom_node.node.probes import Verdict
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog


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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("worklog", "--bogus"),
            "dicom-node worklog: No such option: --bogus; dicom-node worklog -h tells how it is used",
        ),
        (
            ("worklog", "-n", "abc"),
            "dicom-node worklog: Invalid value for '-n' / '--last': a whole number is needed; "
            "dicom-node worklog -h tells how it is used",
        ),
        (("route",), "dicom-node route: Missing argument 'paths'; dicom-node route -h tells how it is used"),
        (("frob",), "dicom-node: No such command 'frob'; dicom-node -h tells how it is used"),
        (
            ("models", "frob"),
            "dicom-node models: No such command 'frob'; dicom-node models -h tells how it is used",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["dicom-node", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capfd.readouterr().err.strip() == line


def test_without_a_command_the_help_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dicom-node"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "Commands:" in capfd.readouterr().out


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


def run(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_route_is_a_line_a_series_and_tables_on_demand(tmp_path: Path) -> None:
    mr_series(tmp_path / "a", shape=(6, 8, 8), EchoTime=90.0, RepetitionTime=9000.0, InversionTime=2500.0)
    mr_series(tmp_path / "b", shape=(6, 8, 8), SeriesDescription="t1", EchoTime=9.0, seed=2)
    (tmp_path / "notes.txt").write_text("seen on Monday")
    (tmp_path / "empty").touch()
    told = run("route", tmp_path)
    assert told.exit_code == 0
    flair, t1 = told.stdout.splitlines()
    assert " -> flair: rule flair-by-physics: TI 2500 ms" in flair
    assert "6 images, t1 -> no pipeline: no rule wants it" in t1
    assert told.stderr == f"2 files are no DICOM and left out, for example {tmp_path / 'empty'}\n"
    assert "geometry: whole" in (explained := run("route", tmp_path, "--explain")).stdout
    assert len(explained.stdout.splitlines()) > 100


def test_route_names_what_is_damaged_and_fails(tmp_path: Path) -> None:
    files = mr_series(tmp_path / "a", shape=(6, 8, 8))
    files[0].write_bytes(files[0].read_bytes()[:-40])
    told = run("route", tmp_path)
    assert told.exit_code == 1
    assert told.stderr.startswith(f"{files[0].name}: cut off")
    assert len(told.stderr.splitlines()) == 1


def test_route_without_any_dicom_fails(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("seen on Monday")
    told = run("route", tmp_path)
    assert told.exit_code == 1
    assert told.stderr == f"1 file is no DICOM and left out, {tmp_path / 'notes.txt'}\n"


def all_commands() -> list[list[str]]:
    def below(command: Any, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from below(inner, [*path, name])

    return list(below(typer.main.get_command(cli.app), []))


@pytest.mark.parametrize("command", all_commands(), ids=" ".join)
def test_every_command_has_help_under_both_names(command: list[str]) -> None:
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short.exit_code == long.exit_code == 0
    assert short.stdout == long.stdout
    assert short.stdout.startswith("Usage: ")


@pytest.mark.parametrize("text", ["1.2.9", "2026-004711", "1.2.9.5.1", "a" * 6, "b" * 8])
def test_worklog_takes_what_why_takes(tmp_path: Path, text: str) -> None:
    spool = Spool(tmp_path / "data")
    store = Store(spool.root / "state.sqlite", spool.jobs)
    one = replace(header(1, series="1.2.9.5", accession="2026-004711"), study_uid="1.2.9")
    store.add_image(one, "series/a.dcm", "SCANNER", 0.0)
    store.create_job(
        job_id="a" * 32, series_uid="1.2.9.5", pipeline="flair", rule="", state=JobState.QUEUED, settings={}, images=[]
    )  # fmt: skip
    store.close()
    log = Worklog(spool.root)
    log.write("routed", series_identity("1.2.9.5"), pipeline="flair", job="a" * 32)
    log.write("ignored", "b" * 32, reason="long gone from the database")
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata = "data"\n')
    told = run("worklog", "--series", text, "--config", config)
    assert told.exit_code == 0
    assert [line.split()[3] for line in told.stdout.splitlines()] == [
        "ignored" if text == "b" * 8 else "routed"
    ]


def test_worklog_of_what_nothing_is_called_says_what_to_give(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[node]\ndata = "data"\n')
    (tmp_path / "data").mkdir()
    Worklog(tmp_path / "data")
    told = run("worklog", "--series", "2026-004712", "--config", config)
    assert str(told.exception).endswith("give an ID (4 or more hex digits), a UID or an accession number")


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
