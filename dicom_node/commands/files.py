"""``route``: series of files on the disk judged by the rules, without a node or a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.commands.console import (
    ConfigOption,
    PathsArgument,
    err,
    out,
    settings_of,
)
from dicom_node.errors import UnreadableError

if TYPE_CHECKING:
    from dicom_node.series.headers import ImageHeader


def route(paths: PathsArgument, config: ConfigOption = None) -> None:
    """Dry run: for each series the rule that matches, and why the others do not."""
    from dataclasses import replace

    from dicom_node.routing.explain import explain
    from dicom_node.routing.match import decide
    from dicom_node.routing.rules import built_in_rules
    from dicom_node.series.completeness import assess

    rules = list(settings_of(config).route) or built_in_rules()
    series, unreadable = series_on_disk(files_in(paths))
    for by_file in series.values():
        headers = list(by_file.values())
        first = headers[0]
        assessment = assess(headers)
        number = "" if first.series_number is None else f"series {first.series_number}, "
        out.rule(
            f"{number}{len(headers)} images, {first.tags.get('SeriesDescription', 'no description')}",
            align="left",
        )
        out.print(
            f"geometry: {assessment.state}{f', {assessment.reason}' if assessment.reason else ''}",
            markup=False,
        )
        # headers that were exported without their pixels are judged as the images that they describe
        out.print(explain(decide([replace(header, is_image=True) for header in headers], rules)))
    for line in unreadable:
        err.print(line, style="red")
    raise typer.Exit(1 if unreadable or not series else 0)


def files_in(paths: list[Path]) -> list[Path]:
    """All files of the given files and folders, in a stable order."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(
                p
                for p in path.rglob("*")
                if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR"
            )
        elif path.is_file():
            files.append(path)
        else:
            raise UnreadableError(f"{path}: no such file or folder")
    if not files:
        raise UnreadableError(f"{', '.join(map(str, paths))}: no files in it")
    return files


def series_on_disk(files: list[Path]) -> tuple[dict[str, dict[Path, ImageHeader]], list[str]]:
    """Headers by series, and a line for each file that is not readable DICOM."""
    from dicom_node.series.headers import read_header

    series: dict[str, dict[Path, ImageHeader]] = {}
    unreadable: list[str] = []
    for file in files:
        try:
            header = read_header(file)
        except UnreadableError as error:
            unreadable.append(str(error))
            continue
        series.setdefault(header.series_uid, {})[file] = header
    return series, unreadable
