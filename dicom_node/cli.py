"""The command line: ``dicom-node COMMAND``. Each command imports what it needs, so that the node starts without torch."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from dicom_node import __version__
from dicom_node.commands.check import check
from dicom_node.commands.cohort import cohort
from dicom_node.commands.console import (
    ConfigOption,
    ParentOption,
    err,
    out,
    print_record,
    quieten_libraries,
    settings_of,
)
from dicom_node.commands.files import route
from dicom_node.commands.history import hold, release, retry, summarise, why, worklog
from dicom_node.commands.init import init
from dicom_node.commands.network import echo, send
from dicom_node.commands.priors import priors
from dicom_node.commands.status import status
from dicom_node.errors import NodeError
from pipelines.errors import PipelineError
from pipelines.training.cli import models

app = typer.Typer(
    name="dicom-node",
    help="A DICOM node that finds MS and NMOSD lesions on FLAIR, judges the optic nerves on FAT-SAT, and returns SEG, SR and "
    "heatmaps. Research use only.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
NUMBERS = {"integer": "a whole number is needed", "number": "a number is needed"}
"""What is wanted where typer says that "Input should be a valid ..."."""

app.add_typer(models, name="models")
models.add_typer(cohort, name="cohort")


def main() -> None:
    """Run the command line; what a person can mend ends in one line and status 1."""
    os.umask(0o077)
    try:
        status = app(
            prog_name="dicom-node", standalone_mode=False
        )  # what is wrong comes to us, and is told in our form
    except TyperException as error:
        sys.exit(_tell_usage(error))
    except typer.Abort:
        sys.exit(1)
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
    sys.exit(status if isinstance(status, int) else 0)


def _tell_usage(error: TyperException) -> int:
    """Say what is wrong with options and arguments, in one line; without any, show the help."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if "\n" in message:  # the help itself
        out.print(message)
    else:
        command = context.command_path if context else "dicom-node"
        for found, words in NUMBERS.items():
            message = re.sub(f"Input should be a valid {found}.*", words, message)
        err.print(f"{command}: {message.rstrip('.')}; {command} -h tells how it is used", style="red")
    return error.exit_code


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
    from dicom_node.cohort.table import read_cohort
    from dicom_node.node.supervise import run, stop_on_signals, stop_without
    from pipelines.registry import installed
    from pipelines.weights import verify

    quieten_libraries()
    settings = settings_of(config)
    verify()
    if with_worker:
        read_cohort(settings.cohort.file)  # its worker would stop over a mistake in it, again and again
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
def demo(
    keep: Annotated[Path | None, typer.Option(help="Keep the scratch folder here.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which phantom.")] = 7,
) -> None:
    """Show the whole way on this machine: a phantom study goes in over DICOM, results come back to a small PACS."""
    from dicom_node.demo.demonstration import Demo, scratch_folder
    from dicom_node.demo.studies import EYES_LPS, NEW_LESIONS, Series, Study, moved
    from pipelines.phantoms.flair import flair_phantom
    from pipelines.phantoms.orbits import geometric_orbits
    from pipelines.registry import installed

    folder = scratch_folder(keep)
    head = flair_phantom(seed)
    series = [Series("flair", "Phantom FLAIR from the MNI152 template", head.volume, head.lesions)]
    if "fatsat" in installed():
        orbits = geometric_orbits(seed, lesions=("right",), contrast=1.8)  # of 1.3 to 2: a plain lesion
        eye = orbits.eye("right")
        assert eye is not None, "nothing was asked to be missing"
        volume = moved(orbits.volume, EYES_LPS)
        series.append(
            Series("fatsat", "Phantom FAT-SAT orbits from geometry", volume, eye.lesion, side="right")
        )
    before = flair_phantom(seed, not_yet=NEW_LESIONS)
    earlier = Study(
        "phantom-before",
        (Series("flair", "The same head before", before.volume, before.lesions),),
        day="20241203",
    )
    studies = [Study("phantom", tuple(series), earlier=earlier, new_lesions=NEW_LESIONS)]
    raise typer.Exit(0 if Demo(out, studies, folder, is_kept=keep is not None).run() else 1)


for command in (
    init,
    send,
    echo,
    route,
    status,
    worklog,
    why,
    priors,
    retry,
    hold,
    release,
    summarise,
    check,
):
    app.command()(command)
for provider in entry_points(group="dicom_node.commands"):
    provider.load()(app)

if __name__ == "__main__":
    main()
