"""``init``: the first configuration, asked for on a terminal or taken from options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from dicom_node.commands.console import ConfigOption, out, settings_of
from dicom_node.errors import ConfigError, NodeError

T = TypeVar("T")

NAME = Path("node.toml")
TITLE = "LESIONNODE"
PORT = 11112
DATA = "./node-data"
PACS_FORM = "AET@HOST:PORT"
NO_PACS = "none"
LAST_PORT = 65535

TitleOption = Annotated[str | None, typer.Option("--title", help=f"The node's AE title, by default {TITLE}.")]
PortOption = Annotated[str | None, typer.Option("--port", help=f"The port it listens on, by default {PORT}.")]
PacsOption = Annotated[
    str | None,
    typer.Option(
        "--pacs",
        help=f"{PACS_FORM} of the PACS that sends images and gets the results; none: results stay here.",
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        "--data", help="The data folder, relative to the configuration, outside of it an absolute path."
    ),
]


def init(
    title: TitleOption = None,
    port: PortOption = None,
    pacs: PacsOption = None,
    data: DataOption = DATA,
    config: ConfigOption = None,
) -> None:
    """Write a first configuration (node.toml, or --config), and check it. Asks on a terminal what no option gives."""
    from dicom_node.commands.check import look_at_everything
    from dicom_node.config.initial import initial_configuration

    path = config or NAME
    if path.exists():
        raise ConfigError(f"{path}: is there already, and stays as it is; name another file with --config")
    if not _is_terminal() and title is None and port is None and pacs is None:
        raise ConfigError(
            f"init asks on a terminal, and this is none: give --title, --port and --pacs {PACS_FORM} (or none)"
        )
    text = initial_configuration(
        _given("--title", title, "AE title of this node", TITLE, _title),
        _given("--port", port, "Port that it listens on", str(PORT), _port),
        data,
        _given("--pacs", pacs, f"The PACS, as {PACS_FORM} (none: results stay here)", NO_PACS, _pacs),
    )
    _write(path, text)
    try:
        settings = settings_of(path)
    except NodeError:  # of --data, or the environment
        path.unlink()
        raise
    out.print(f"{path} is written. All that the node needs:\n")
    wrong = look_at_everything(settings)
    out.print(f"\n{'Mend what is wrong, then start' if wrong else 'Start'} it: dicom-node up --config {path}")
    raise typer.Exit(1 if wrong else 0)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _given(option: str, value: str | None, question: str, default: str, read: Callable[[str], T]) -> T:
    """Return what an option gives or a person answers; where nobody can answer, the default."""

    def answer(text: str) -> T:
        try:
            return read(text)
        except NodeError as error:
            raise typer.BadParameter(str(error)) from error  # it is asked again

    if value is None and _is_terminal():
        found: T = typer.prompt(question, default=default, value_proc=answer)
        return found
    try:
        return read(default if value is None else value)
    except NodeError as error:
        raise ConfigError(f"{option}: {error}") from error


def _title(text: str) -> str:
    from dicom_node.standard.titles import fault_of_title

    if fault := fault_of_title(text):
        raise ConfigError(fault)
    return text.strip()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LAST_PORT):
        raise ConfigError(f"a port is a number from 1 to {LAST_PORT}, not {text!r}")
    return int(text)


def _pacs(text: str) -> tuple[str, str, int] | None:
    from dicom_node.deliver.address import Address

    if text.strip().lower() == NO_PACS:
        return None
    address = Address.parse(text)
    return address.ae_title, address.host, address.port


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be written: {error.strerror}; name another file with --config"
        ) from error
