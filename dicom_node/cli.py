"""The command line: ``dicom-node COMMAND``. Each command imports what it needs, so that the node starts without torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import __version__
from dicom_node.commands.check import check
from dicom_node.commands.console import ConfigOption, ParentOption, err, out, print_record, settings_of
from dicom_node.commands.files import analyse, route
from dicom_node.commands.history import hold, release, retry, why, worklog
from dicom_node.commands.network import echo, send
from dicom_node.errors import NodeError, NotFoundError
from pipelines.errors import PipelineError
from pipelines.training.cli import models

app = typer.Typer(
    name="dicom-node",
    help="A DICOM node that finds MS and NMOSD lesions on FLAIR, judges the optic nerves on FAT-SAT, and returns SEG, SR and "
    "heatmaps. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(models, name="models")


@models.command("import-dicom")
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


def main() -> None:
    """Run the command line; what a person can mend ends in one line and status 1."""
    os.umask(0o077)
    try:
        app()
    except (NodeError, PipelineError) as error:
        err.print(f"dicom-node: {error}", style="red")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:  # of the machine: rights, space, a file that is none
        place = f"{error.filename}: " if error.filename else ""
        err.print(f"dicom-node: {place}{error.strerror or type(error).__name__}", style="red")
        sys.exit(1)


def _quieten_libraries() -> None:
    """Keep warnings of the DICOM libraries out of logs and journals: they quote element values, which may be a patient's."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        out.print(f"dicom-node {__version__}")
        raise typer.Exit


@app.command()
def up(config: ConfigOption = None, parent: ParentOption = 0) -> None:
    """Run everything on one machine: the node, a worker, and the broker where it is embedded. Ctrl-C stops it."""
    _run_node(config, with_worker=True, parent=parent)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the node alone; workers on this or other hosts join it with "dicom-node worker"."""
    _run_node(config, with_worker=False)


def _run_node(config: Path | None, *, with_worker: bool, parent: int = 0) -> None:
    from dicom_node.node.supervise import run, stop_on_signals, stop_without
    from pipelines.registry import installed
    from pipelines.weights import verify

    _quieten_libraries()
    settings = settings_of(config)
    verify()
    on_record = print_record if sys.stdout.isatty() else None  # a service's journal stays short
    stop = stop_on_signals()
    if parent:
        stop_without(parent, stop)
    run(
        settings,
        settings.configured(installed()),
        config=config,
        with_worker=with_worker,
        stop=stop,
        on_record=on_record,
    )


@app.command()
def worker(
    config: ConfigOption = None,
    queues: Annotated[
        str, typer.Option(help="Pipelines to run, separated by commas; all installed ones by default.")
    ] = "",
    parent: ParentOption = 0,
) -> None:
    """Run a worker: it takes jobs from the broker and writes results into the spool."""
    from dicom_node.node.embedded_broker import read_url
    from pipelines.registry import installed
    from pipelines.weights import verify
    from worker.app import run_worker

    _quieten_libraries()
    settings = settings_of(config)
    verify()
    names = tuple(name.strip() for name in queues.split(",") if name.strip()) or tuple(installed())
    unknown = sorted(set(names) - set(installed()))
    if unknown:
        raise NotFoundError(f"no pipeline {unknown[0]!r} installed; there are {', '.join(installed())}")
    settings.broker.check_tls()
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
    )
    raise typer.Exit(status)


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the scratch folder here.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which phantom.")] = 7,
) -> None:
    """Show the whole way on this machine: phantom studies go in over DICOM, results come back to a small PACS."""
    from dicom_node.demo.demonstration import Demo, scratch_folder
    from dicom_node.demo.studies import Study
    from pipelines.phantoms.flair import flair_phantom
    from pipelines.phantoms.orbits import geometric_orbits
    from pipelines.registry import installed

    folder = scratch_folder(keep)
    head = flair_phantom(seed)
    studies = [Study("flair", "Phantom FLAIR from the MNI152 template", head.volume, head.lesions)]
    if "fatsat" in installed():
        orbits = geometric_orbits(seed, lesions=("right",), contrast=1.8)  # of 1.3 to 2: a plain lesion
        eye = orbits.eye("right")
        assert eye is not None, "nothing was asked to be missing"
        studies.append(
            Study("fatsat", "Phantom FAT-SAT orbits from geometry", orbits.volume, eye.lesion, side="right")
        )
    raise typer.Exit(0 if Demo(out, studies, folder, is_kept=keep is not None).run() else 1)


for command in (send, echo, route, analyse, worklog, why, retry, hold, release, check):
    app.command()(command)

if __name__ == "__main__":
    main()
