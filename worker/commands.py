"""Commands of ``dicom-node`` that need both DICOM and pipelines: ``worker``, ``analyse`` and ``models import-dicom``.

The command line finds :func:`add_commands` by the entry point ``dicom_node.commands``, so that the node knows no worker.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.console import (
    ConfigOption,
    ParentOption,
    PointsOption,
    err,
    given_points,
    out,
    quieten_libraries,
    settings_of,
)
from dicom_node.commands.files import files_in, series_on_disk
from dicom_node.errors import NotFoundError, UnreadableError
from pipelines.training.cli import models

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from dicom_node.results.manifest import Manifest


def add_commands(app: typer.Typer) -> None:
    """Add the commands of the worker to the command line."""
    app.command()(worker)
    app.command()(analyse)
    models.command("import-dicom")(import_dicom)


def worker(
    config: ConfigOption = None,
    queues: Annotated[
        str,
        typer.Option(
            help="Pipelines to run, and change for comparisons with priors, separated by commas; all by default."
        ),
    ] = "",
    parent: ParentOption = 0,
) -> None:
    """Run a worker: it takes jobs from the broker and writes results into the spool."""
    from dicom_node.cohort.table import read_cohort
    from dicom_node.node.embedded_broker import read_url
    from pipelines.registry import installed
    from pipelines.weights import verify
    from worker.app import queues_of, run_worker

    quieten_libraries()
    settings = settings_of(config)
    verify()
    known = queues_of(installed())
    names = tuple(name.strip() for name in queues.split(",") if name.strip()) or tuple(known)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise NotFoundError(f"no pipeline {unknown[0]!r} installed; there are {', '.join(known)}")
    settings.broker.check_tls()
    cohort = read_cohort(settings.cohort.file)
    url = (
        settings.broker.address if settings.broker.url != "embedded" else read_url(settings.spool / "broker")
    )
    status = run_worker(
        broker_url=url,
        spool=settings.spool,
        device=settings.worker.device,
        time_limit_s=settings.worker.time_limit_s,
        queues=names,
        parent=parent,
        cohort=cohort,
    )
    raise typer.Exit(status)


def analyse(
    path: Annotated[Path, typer.Argument(help="A folder, or a file, of one MR series.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where the DICOM objects and PNG previews go.")],
    pipeline: Annotated[str, typer.Option(help="Run this pipeline whatever the rules say.")] = "",
    points: PointsOption = None,
    config: ConfigOption = None,
) -> None:
    """Run one series from disk through its pipeline to DICOM objects, without a network."""
    from dataclasses import replace

    from dicom_node.cohort.table import read_cohort
    from pipelines.registry import installed, load
    from worker.offline import analyse_files

    settings = settings_of(config)
    name, files, left_out = _series_to_analyse(path, pipeline, settings)
    if name not in installed():
        raise NotFoundError(f"no pipeline {name!r} installed; there are {', '.join(installed())}")
    info = settings.configured(installed())[name]
    given = given_points(points)
    if set(given) - set(info.default_settings):
        raise NotFoundError(f"{path}: the pipeline {name} takes no --points")
    info = replace(info, default_settings={**info.default_settings, **given})
    for line in left_out:
        err.print(line, style="yellow")

    def tell(stage: str, seconds: float) -> None:
        out.print(f"  {stage:<12}{seconds:7.1f} s")

    cohort = read_cohort(settings.cohort.file)
    model = load(name, settings.worker.device)
    manifest = analyse_files(files, model, info, out_folder, settings.results, tell, cohort)
    _print_manifest(manifest)
    for produced in sorted(out_folder.iterdir()):
        out.print(f"  {produced}")
    raise typer.Exit(1 if manifest.status == "failed" else 0)


def _series_to_analyse(path: Path, pipeline: str, settings: Settings) -> tuple[str, list[Path], list[str]]:
    """Return the pipeline and the files of the one series there that is for one, and lines about files that are left out."""
    from dicom_node.routing.match import decide
    from dicom_node.routing.rules import built_in_rules
    from pipelines.registry import installed

    rules = list(settings.route) or built_in_rules()
    found = series_on_disk(files_in([path]))
    series = found.series
    wanted = {
        uid: pipeline or decide(list(headers.values()), rules).pipeline for uid, headers in series.items()
    }
    chosen = [uid for uid, name in wanted.items() if name]
    if len(chosen) != 1:
        if not series:
            raise UnreadableError(f"{path}: {found.lines()[0]}")
        reason = f"{len(series)} series, {len(chosen)} of them for a pipeline"
        raise NotFoundError(
            f"{path}: {reason}; give one series that dicom-node route accepts, or --pipeline "
            f"{' or '.join(installed())}"
        )
    return str(wanted[chosen[0]]), sorted(series[chosen[0]]), found.lines()


def _print_manifest(manifest: Manifest) -> None:
    out.print(f"{manifest.status}{f': {manifest.reason}' if manifest.reason else ''}")
    figures = dict(manifest.figures)
    sides = figures.pop("sides", "")
    if sides:
        out.print(sides)
    for site, said in figures.pop("sites", {}).items():
        figures |= {f"{site}: {key.replace('_', ' ')}": value for key, value in said.items()}
    for name, value in figures.pop("probability", {}).items():
        figures[f"probability of {name}"] = f"{value:.2f}"
    for key, value in figures.items():
        out.print(f"  {key:<72}{value}")
    for warning in manifest.warnings:
        out.print(f"  {warning}", style="yellow")
    for model in manifest.models:
        out.print(
            f"  {model['name']} {model['version']}: trained on {model['trained_on']} data, research use only"
        )


def import_dicom(
    folder: Annotated[
        Path, typer.Argument(help="Folder with studies.csv and the DICOM studies that it names.")
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Where the data set goes.")],
) -> None:
    """Turn DICOM studies, FLAIR series with SEG masks of lesions, into a data set to train on."""
    from worker.dataset import import_dicom as import_studies

    cases = import_studies(folder, out_folder, out.print)
    out.print(f"{len(cases)} cases in {out_folder / 'index.csv'}")
