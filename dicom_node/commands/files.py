"""``route`` and ``analyse``: files on the disk, without a node or a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.console import (
    ConfigOption,
    PathsArgument,
    PointsOption,
    err,
    given_points,
    out,
    settings_of,
)
from dicom_node.errors import NotFoundError, UnreadableError

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.results.manifest import Manifest
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


def analyse(
    path: Annotated[Path, typer.Argument(help="A folder, or a file, of one MR series.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where the DICOM objects and PNG previews go.")],
    pipeline: Annotated[str, typer.Option(help="Run this pipeline whatever the rules say.")] = "",
    points: PointsOption = None,
    config: ConfigOption = None,
) -> None:
    """Run one series from disk through its pipeline to DICOM objects, without a network."""
    from dataclasses import replace

    from pipelines.registry import installed, load
    from worker.offline import analyse_files

    settings = settings_of(config)
    name, files, unreadable = _series_to_analyse(path, pipeline, settings)
    if name not in installed():
        raise NotFoundError(f"no pipeline {name!r} installed; there are {', '.join(installed())}")
    info = settings.configured(installed())[name]
    given = given_points(points)
    if set(given) - set(info.default_settings):
        raise NotFoundError(f"{path}: the pipeline {name} takes no --points")
    info = replace(info, default_settings={**info.default_settings, **given})
    for line in unreadable:
        err.print(line, style="yellow")

    def tell(stage: str, seconds: float) -> None:
        out.print(f"  {stage:<12}{seconds:7.1f} s")

    manifest = analyse_files(
        files, load(name, settings.worker.device), info, out_folder, settings.results, tell
    )
    _print_manifest(manifest)
    for produced in sorted(out_folder.iterdir()):
        out.print(f"  {produced}")
    raise typer.Exit(1 if manifest.status == "failed" else 0)


def _series_to_analyse(path: Path, pipeline: str, settings: Settings) -> tuple[str, list[Path], list[str]]:
    """Return the pipeline and the files of the one series there that is for one, and a line for each unreadable file."""
    from dicom_node.routing.match import decide
    from dicom_node.routing.rules import built_in_rules
    from pipelines.registry import installed

    rules = list(settings.route) or built_in_rules()
    series, unreadable = series_on_disk(files_in([path]))
    wanted = {
        uid: pipeline or decide(list(headers.values()), rules).pipeline for uid, headers in series.items()
    }
    chosen = [uid for uid, name in wanted.items() if name]
    if len(chosen) != 1:
        if unreadable and not series:
            raise UnreadableError(unreadable[0])
        reason = f"{len(series)} series, {len(chosen)} of them for a pipeline"
        raise NotFoundError(
            f"{path}: {reason}; give one series that dicom-node route accepts, or --pipeline "
            f"{' or '.join(installed())}"
        )
    return str(wanted[chosen[0]]), sorted(series[chosen[0]]), unreadable


def _print_manifest(manifest: Manifest) -> None:
    out.print(f"{manifest.status}{f': {manifest.reason}' if manifest.reason else ''}")
    figures = dict(manifest.figures)
    sides = figures.pop("sides", "")
    if sides:
        out.print(sides)
    for site, said in figures.pop("sites", {}).items():
        figures |= {f"{site}: {key.replace('_', ' ')}": value for key, value in said.items()}
    for name, value in figures.pop("probability", {}).items():
        figures[f"probability of {name}"] = f"{value:.2f} (research use, see its training data below)"
    for key, value in figures.items():
        out.print(f"  {key:<72}{value}")
    for warning in manifest.warnings:
        out.print(f"  {warning}", style="yellow")


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
