"""``dicom-node models``: each command imports what it needs, so that its help is there without torch."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from pipelines.training.data_cli import import_nifti, phantom, pseudo_label
from pipelines.training.options import (
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
    check_options,
    takes,
)
from pipelines.training.results_folder import make_folder
from pipelines.training.screen import console, print_line, progress_bar

models = typer.Typer(
    help="Models: list, train, evaluate, compare, and phantoms with known truth.", no_args_is_help=True
)


@models.command("list")
def list_models(
    networks: Annotated[
        bool, typer.Option("--networks", help="List what can be trained, with its recipes, instead.")
    ] = False,
) -> None:
    """List the weights that are installed, what they were trained on, and whether their files are whole."""
    if networks:
        _list_networks()
        return
    from pipelines.weights import card, verify
    from pipelines.weights import installed as installed_weights

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "version", "trained on", "digest", "purpose"):
        table.add_column(heading, overflow="fold")
    for name in installed_weights():
        entry = card(name)
        table.add_row(name, entry.version, f"{entry.trained_on} data", entry.digest[:12], entry.purpose)
    console.print(table)
    verify()


def _list_networks() -> None:
    from pipelines.training.networks import networks

    table = Table(box=None, pad_edge=False)
    for heading in ("network", "kind", "on a CPU", "on a GPU"):
        table.add_column(heading, overflow="fold")
    for network in networks():
        table.add_row(network.name, network.kind, network.recipe("cpu"), network.recipe("cuda:0"))
    console.print(table)


models.command()(phantom)
models.command()(import_nifti)
models.command()(pseudo_label)


@models.command()
@takes(TrainOptions)
def train(ctx: typer.Context, asked: TrainOptions) -> None:
    """Train a network, or the fatsat ensemble, on synthetic cases and on those of a data set; resumable."""
    from pipelines.training.networks import network_of

    network = network_of(asked.name)
    check_options(ctx, network.name, network.unknown)
    make_folder(asked.folder)
    with progress_bar() as (report, watch):
        card = network.train(asked, report, watch)
    print_line(f"model card: {card}")


@models.command()
@takes(EvaluateOptions)
def evaluate(ctx: typer.Context, asked: EvaluateOptions) -> None:
    """Score a network or the whole pipeline on a data set: every case and the mean, real and synthetic ones apart."""
    from pipelines.training.networks import network_of

    network = network_of(asked.name)
    check_options(ctx, network.name, network.unknown)
    if asked.file is not None:
        make_folder(asked.file.parent)
    with progress_bar() as (report, watch):
        lines = network.evaluate(asked, report, watch)
    print_line("\n".join(lines))


@models.command()
@takes(CalibrateOptions)
def calibrate(ctx: typer.Context, asked: CalibrateOptions) -> None:
    """Fit how sure MS versus NMOSD may be, how far volumes may err, or the weights of change, on cases not learnt from."""
    from pipelines.training.networks import network_of

    print_line(network_of(asked.name).calibrate(asked, print_line))


@models.command()
@takes(CompareOptions)
def compare(ctx: typer.Context, asked: CompareOptions) -> None:
    """Train or load several networks on the same folds and print the papers' tables with ours beside them; resumable."""
    from pipelines.training.networks import network_of

    named = [network_of(name) for name in asked.names]
    for network in named:
        network.check_comparison(asked.names)
    check_options(ctx, named[0].name, named[0].unknown)
    make_folder(asked.folder)
    with progress_bar() as (report, watch):
        tables = named[0].compare(asked, report, watch)
    print_line(tables)
