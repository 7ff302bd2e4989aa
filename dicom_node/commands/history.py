"""``worklog`` and ``why`` tell what happened; ``retry``, ``hold``, ``release`` and ``summarise`` steer what happens next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.commands.console import (
    ConfigOption,
    PointsOption,
    given_points,
    out,
    print_record,
    settings_of,
)
from dicom_node.errors import NotFoundError, StateError

IdArgument = Annotated[
    str, typer.Argument(help="ID (a prefix will do), series or study UID, or accession number.")
]


def worklog(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Lines of JSON.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Warnings and errors only.")] = False,
    series: Annotated[
        str, typer.Option("--series", help="One series or job: what why takes, also when it is gone.")
    ] = "",
    last: Annotated[
        int | None, typer.Option("-n", "--last", min=0, help="Begin with the last N lines.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Read or follow the worklog."""
    from dicom_node.worklog.follow import records

    folder = settings_of(config).node.data
    named = _ids_of(folder, series) if series else None
    for record in records(folder, follow=follow, failed=failed, series=named, last=last):
        if json:
            typer.echo(record.json())
        else:
            print_record(record)


def _ids_of(folder: Path, text: str) -> list[str]:
    """Return the IDs of the series or job that a text names; the text itself where the database does not know it."""
    from dicom_node.jobs.store import Store

    path = folder / "state.sqlite"
    if not path.exists():
        return [text]
    try:
        store = Store(path)
        try:
            match = store.find(text)
        finally:
            store.close()
    except (NotFoundError, StateError):  # removed long ago, or damaged: the log still tells
        return [text]
    return [one.id for one in (match.jobs if match.kind == "job" else match.series)]


def why(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Tell the whole history of a series or job, and why it stands where it stands."""
    from dicom_node.jobs.why import why as explain_state

    for line, style in explain_state(settings_of(config).node.data, identifier):
        out.print(line, style=style)


def _steer(
    verb: str, identifier: str, config: Path | None, given: Mapping[str, object] | None = None
) -> None:
    from dicom_node.node.control_socket import ask

    out.print(ask(settings_of(config).node.data, verb, identifier, given))


def retry(identifier: IdArgument, points: PointsOption = None, config: ConfigOption = None) -> None:
    """Deliver again what was not delivered; analyse a finished job again, as a new run; judge an ignored series again.

    With --points: analyse a FAT-SAT series again with these points, as a new job whose report replaces the last one.
    """
    _steer("retry", identifier, config, given_points(points))


def hold(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Keep a job that waits or runs from going on."""
    _steer("hold", identifier, config)


def release(identifier: IdArgument, config: ConfigOption = None) -> None:
    """Let a held job run, or analyse a held series as it is."""
    _steer("release", identifier, config)


def summarise(
    study: Annotated[
        str, typer.Argument(help="The study: its UID, accession number, or a series or job of it.")
    ],
    config: ConfigOption = None,
) -> None:
    """Make the page of a study now, of the results that there are, instead of waiting for the others."""
    _steer("summarise", study, config)
