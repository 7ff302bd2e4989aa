"""``route``: series of files on the disk judged by the rules, without a node or a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.console import (
    ConfigOption,
    PathsArgument,
    err,
    out,
    settings_of,
)
from dicom_node.errors import NoDicomError, UnreadableError

if TYPE_CHECKING:
    from dicom_node.routing.match import Decision
    from dicom_node.routing.rules import Rule
    from dicom_node.series.headers import ImageHeader


DAMAGED_NAMED = 20


@dataclass
class FilesFound:
    """Files on the disk: headers by series and file, a line for each damaged file, and files that are no DICOM."""

    series: dict[str, dict[Path, ImageHeader]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return a line for each damaged file, up to a number, and one for all that are no DICOM."""
        lines = self.damaged[:DAMAGED_NAMED]
        if more := len(self.damaged) - len(lines):
            lines.append(f"{more} more files that can't be read")
        if self.others:
            are = "file is" if len(self.others) == 1 else "files are"
            for_example = "" if len(self.others) == 1 else "for example "
            lines.append(f"{len(self.others)} {are} no DICOM and left out, {for_example}{self.others[0]}")
        return lines


ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Show every rule with every condition, as tables.")
]


def route(paths: PathsArgument, explain: ExplainOption = False, config: ConfigOption = None) -> None:
    """Dry run: a line for each series, with the pipeline and rule that take it, or why none does."""
    from dicom_node.routing.rules import built_in_rules

    rules = list(settings_of(config).route) or built_in_rules()
    found = series_on_disk(files_in(paths))
    for by_file in found.series.values():
        (_explain if explain else _tell)(list(by_file.values()), rules)
    for line in found.lines():
        err.print(line, style="red" if found.damaged or not found.series else "yellow")
    raise typer.Exit(1 if found.damaged or not found.series else 0)


def _title(headers: Sequence[ImageHeader]) -> str:
    first = headers[0]
    number = "" if first.series_number is None else f"series {first.series_number}, "
    images = "1 image" if len(headers) == 1 else f"{len(headers)} images"
    return f"{number}{images}, {first.tags.get('SeriesDescription', 'no description')}"


def _tell(headers: Sequence[ImageHeader], rules: Sequence[Rule]) -> None:
    from dicom_node.series.completeness import assess

    decision = _decision(headers, rules)
    line = f"{_title(headers)} -> {decision.pipeline or 'no pipeline'}: {decision.reason}"
    if decision.pipeline and (assessment := assess(headers)).state != "whole":
        line += f"; but it would be held: {assessment.reason}"
    out.print(line, style="green" if decision.pipeline else "")


def _explain(headers: Sequence[ImageHeader], rules: Sequence[Rule]) -> None:
    from dicom_node.routing.explain import explain
    from dicom_node.series.completeness import assess

    assessment = assess(headers)
    out.rule(_title(headers), align="left")
    out.print(f"geometry: {assessment.state}{f', {assessment.reason}' if assessment.reason else ''}")
    out.print(explain(_decision(headers, rules)))


def _decision(headers: Sequence[ImageHeader], rules: Sequence[Rule]) -> Decision:
    from dicom_node.routing.match import decide

    # headers that were exported without their pixels are judged as the images that they describe
    return decide([replace(header, is_image=True) for header in headers], rules)


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


def series_on_disk(files: list[Path]) -> FilesFound:
    """Read the headers of files."""
    from dicom_node.series.headers import read_header

    found = FilesFound()
    for file in files:
        try:
            header = read_header(file)
        except NoDicomError:
            found.others.append(file)
        except UnreadableError as error:
            found.damaged.append(str(error))
        else:
            found.series.setdefault(header.series_uid, {})[file] = header
    return found
