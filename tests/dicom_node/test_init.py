"""``dicom-node init``: the first configuration, from options or answers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_node import cli
from dicom_node.commands import init as module
from dicom_node.config.initial import initial_configuration
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigError
from dicom_node.node.probes import Verdict


@pytest.fixture(autouse=True)
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Settings]:
    """The configurations that were checked; nothing listens at a PACS."""
    found: list[Settings] = []

    def check_node(settings: Settings, _extra: object) -> list[Verdict]:
        found.append(settings)
        return [Verdict(not settings.destination, "destination", "as it is")]

    monkeypatch.setattr("dicom_node.node.probes.check_node", check_node)
    monkeypatch.chdir(tmp_path)
    return found


def init(*arguments: str, answers: str | None = None) -> Any:
    return CliRunner().invoke(cli.app, ["init", *arguments], input=answers)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_terminal", lambda: True)


def test_options_make_a_configuration_that_is_checked(tmp_path: Path, checked: list[Settings]) -> None:
    told = init(
        "--title", "BRAIN", "--port", "104", "--pacs", "PACS1@pacs.example.org:4242", "--data", "/srv/x"
    )
    assert told.exit_code == 1, "nobody answers there"
    settings = load_settings(tmp_path / "node.toml")
    assert checked == [settings]
    assert (settings.node.ae_title, settings.node.port, settings.node.data) == ("BRAIN", 104, Path("/srv/x"))
    (pacs,) = settings.destination
    assert (pacs.ae_title, pacs.host, pacs.port) == ("PACS1", "pacs.example.org", 4242)
    assert [caller.ae_title for caller in settings.accept.callers] == ["PACS1"]
    assert told.stdout.endswith("Mend what is wrong, then start it: dicom-node up --config node.toml\n")


def test_answers_are_asked_for_again_until_they_can_be_used(tmp_path: Path, terminal: None) -> None:
    told = init("--config", "a.toml", answers="SEVENTEEN_LETTERS\nBRAIN\nx\n0\n\nPACS1\nPACS1@[::1]:104\n")
    for said in (
        "is not 1 to 16 characters",
        "from 1 to 65535, not 'x'",
        "not '0'",
        "no AE title before an @",
    ):
        assert told.output.count(said) == 1
    settings = load_settings(tmp_path / "a.toml")
    assert (settings.node.ae_title, settings.node.port) == ("BRAIN", 11112)
    assert settings.destination[0].host == "::1"


def test_only_what_no_option_gives_is_asked(tmp_path: Path, terminal: None) -> None:
    told = init("--title", "BRAIN", "--pacs", "none", answers="\n")
    assert told.exit_code == 0
    assert "AE title of this node" not in told.output
    assert "The PACS" not in told.output
    assert load_settings(tmp_path / "node.toml").destination == ()
    assert told.stdout.endswith("Start it: dicom-node up --config node.toml\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "init asks on a terminal, and this is none: give --title, --port and --pacs AET@HOST:PORT"),
        (("--title", "Ä"), "--title: AE title 'Ä' has a character that DICOM forbids"),
        (("--port", "x"), "--port: a port is a number from 1 to 65535, not 'x'"),
        (("--pacs", "PACS1@999.1.1.1:104"), "--pacs: 'PACS1@999.1.1.1:104': '999.1.1.1': no IP address"),
        (("--port", "5", "--data", ""), "[node] data = '': empty: give a path"),
        (("--port", "5", "--config", "none/node.toml"), "can't be written: No such file or directory"),
    ],
)
def test_wrong_options_are_one_line_and_leave_no_file(
    tmp_path: Path, arguments: tuple[str, ...], said: str, checked: list[Settings]
) -> None:
    told = init(*arguments)
    assert isinstance(told.exception, ConfigError)
    assert said in str(told.exception)
    assert "\n" not in str(told.exception)
    assert not checked
    assert list(tmp_path.iterdir()) == []


def test_file_that_is_there_stays_as_it_is(tmp_path: Path, terminal: None) -> None:
    (tmp_path / "node.toml").write_text("mine")
    told = init()
    assert (
        str(told.exception)
        == "node.toml: is there already, and stays as it is; name another file with --config"
    )
    assert (tmp_path / "node.toml").read_text() == "mine"
    assert told.output == "", "nothing is asked in vain"


@pytest.mark.parametrize("pacs", [None, ("PACS1", "pacs.example.org", 104)])
def test_keys_in_comments_are_those_that_there_are_with_their_defaults(
    tmp_path: Path, pacs: tuple[str, str, int] | None
) -> None:
    text = initial_configuration("LESIONNODE", 11112, "./node-data", pacs)
    assert max(map(len, text.splitlines())) <= 120
    keys = re.sub(r"(?m)^# (?=\w+ = |\[\[)", "", text)
    keys = re.sub(r"(?m)^(callers|tls) = .*\n", "", keys)  # examples, and no defaults
    path = tmp_path / "all.toml"
    path.write_text(keys)
    assert len(tomllib.loads(keys)["results"]) == 2
    whole, plain = load_settings(path), load_settings()
    for section in ("node", "accept", "series", "storage", "worker", "results"):
        given = getattr(whole, section).model_dump()
        assert {**given, "data": None} == {**getattr(plain, section).model_dump(), "data": None}
    assert whole.destination[0].confirm == "c-find"


def test_titles_that_toml_would_misread_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(initial_configuration('A"B{x}', 1, "a'b/ü", ('"]', "h", 1)))
    settings = load_settings(path)
    assert (settings.node.ae_title, settings.node.data.name) == ('A"B{x}', "ü")
    assert settings.accept.callers[0].ae_title == settings.destination[0].ae_title == '"]'
