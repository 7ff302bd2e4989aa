"""Consoles, configuration and a person's points, as all commands use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_node.errors import UnreadableError
from pipelines.errors import PipelineError

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.worklog.records import Record

# Without markup: what is printed may come from files and peers, and "[node] port" is meant as it is.
out = Console(highlight=False, soft_wrap=True, markup=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The TOML file; without it, the defaults and DICOM_NODE__SECTION__KEY hold.",
        envvar="DICOM_NODE_CONFIG",
    ),
]
ParentOption = Annotated[int, typer.Option("--parent", hidden=True)]
"""Of a program that another one of ours starts: its process ID."""
POINTS_FORM = '{"left": [x, y, z], "right": [x, y, z]}'
PathsArgument = Annotated[list[Path], typer.Argument(help="DICOM files or folders of them.")]
PointsOption = Annotated[
    Path | None,
    typer.Option(
        "--points",
        help="FAT-SAT: JSON file with where a person saw the optic nerve leave each globe, in mm of the patient (LPS): "
        f"{POINTS_FORM}; either side may be left out.",
    ),
]


def settings_of(config: Path | None) -> Settings:
    """Return the configuration of ``--config``, or the defaults."""
    from dicom_node.config.settings import check_routes, load_settings

    settings = load_settings(config)
    if settings.route:
        from pipelines.registry import NAMES

        check_routes(settings, NAMES)
    return settings


def print_record(record: Record) -> None:
    """Print a line of the worklog in the colour of its level."""
    style = {"warning": "yellow", "error": "red"}.get(record.level, "")
    out.print(record.line(), style=style)


def given_points(points: Path | None) -> dict[str, object]:
    """Return the settings that a person gives in a file, checked; nothing without a file."""
    from pipelines.fatsat.settings import points_of

    if points is None:
        return {}
    try:
        found = points_of(json.loads(points.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise UnreadableError(f"{points}: can't be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise UnreadableError(f"{points}: no JSON (at {place}); it should hold {POINTS_FORM}") from error
    except ValueError as error:
        raise UnreadableError(f"{points}: not text in UTF-8; it should hold {POINTS_FORM}") from error
    except PipelineError as error:
        raise UnreadableError(f"{points}: {error}") from error
    if not found:
        raise UnreadableError(f"{points}: no points in it")
    return {"points": {side: list(point) for side, point in found.items()}}


def quieten_libraries() -> None:
    """Keep warnings of the DICOM libraries out of logs and journals: they quote element values, which may be a patient's."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
