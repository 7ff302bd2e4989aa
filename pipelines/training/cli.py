"""``dicom-node models``: each command imports what it needs, so that its help is there without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipelines.errors import DataSetError
from pipelines.training.data_cli import import_nifti, phantom, pseudo_label
from pipelines.training.options import (
    FATSAT,
    NAME_HELP,
    PATTERN,
    PIPELINE,
    CropOption,
    DataOption,
    DeviceOption,
    EpochsOption,
    FlipsOption,
    IndexOption,
    MaybeIndexOption,
    MembersOption,
    MinutesOption,
    SeedOption,
    SeriesOption,
    ShareOption,
    StepsOption,
    WorkersOption,
    check_options,
    index_of,
    make_folder,
)
from pipelines.training.screen import console, print_line, print_scores, progress_bar

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
    from pipelines.training.recipes import NAMES, check_name, recipe

    table = Table(box=None, pad_edge=False)
    for heading in ("network", "kind", "on a CPU", "on a GPU"):
        table.add_column(heading, overflow="fold")
    for name in NAMES:
        said = ["; ".join(phase.text() for phase in recipe(name, device)) for device in ("cpu", "cuda:0")]
        table.add_row(name, check_name(name), *said)
    from pipelines.training.fatsat.cli import RECIPE
    from pipelines.training.pattern_training import RECIPE as PATTERN_RECIPE

    table.add_row(PATTERN, "classes by the lesion mask", PATTERN_RECIPE, "the same")
    table.add_row(FATSAT, "optic nerves on FAT-SAT", RECIPE, "the same")
    console.print(table)


models.command()(phantom)
models.command()(import_nifti)
models.command()(pseudo_label)


@models.command()
def train(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    folder: Annotated[
        Path, typer.Option("--out", help="Results: checkpoints, curves, metrics, weights and model card.")
    ],
    data: DataOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoint in --out.")] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    leave_out: Annotated[str, typer.Option(help="Patients to leave out, separated by commas.")] = "",
    init: Annotated[
        Path | None, typer.Option(help="Folder of weights of the same network to start from.")
    ] = None,
    weights_name: Annotated[
        str | None, typer.Option("--name", help="Name of the weights; that of the network by default.")
    ] = None,
    given_share: ShareOption = 0.5,
    pool_size: Annotated[int, typer.Option(help="Cases at hand at any time; an epoch.", min=1)] = 400,
    fixed_pool: Annotated[
        bool, typer.Option("--fixed-pool", help="Make the cases once: the same seed gives the same network.")
    ] = False,
    workers: WorkersOption = None,
    early_stop: Annotated[
        int | None,
        typer.Option(help="Epochs without a better validation score that end a phase; 0: never.", min=0),
    ] = None,
    members: MembersOption = None,
    crop: CropOption = "published",
    series: SeriesOption = None,
    epochs: EpochsOption = None,
) -> None:
    """Train a network, or the fatsat ensemble, on synthetic cases and on those of a data set; resumable."""
    check_options(ctx, name)
    left_out = tuple(patient.strip() for patient in leave_out.split(",") if patient.strip())
    make_folder(folder)
    if name == FATSAT:
        from pipelines.training.fatsat.cli import train_ensemble

        with progress_bar() as (report, watch):
            card = train_ensemble(
                data,
                folder,
                members=members,
                crop=crop,
                series=series,
                epochs=epochs,
                resume=resume,
                device=device,
                seed=seed,
                leave_out=left_out,
                init=init,
                report=report,
                watch=watch,
            )
        print_line(f"model card: {card}")
        return
    if name == PATTERN:
        if device != "auto":
            raise DataSetError(f"--device does not apply to the training of {PATTERN}; leave it out")
        from pipelines.training.pattern import PATTERNS
        from pipelines.training.pattern_training import train_pattern

        with progress_bar() as (report, watch):
            card = train_pattern(
                data,
                folder,
                patterns=steps or PATTERNS,
                workers=workers or 2,
                resume=resume,
                seed=seed,
                progress=report,
                watch=watch,
            )
        print_line(f"model card: {card}")
        return
    from pipelines.training.commands import train as train_network

    with progress_bar() as (report, watch):
        card = train_network(
            name,
            data,
            folder,
            steps=steps,
            minutes=minutes,
            resume=resume,
            device=device,
            seed=seed,
            leave_out=left_out,
            workers=workers,
            pool_size=pool_size,
            given_share=given_share,
            fixed_pool=fixed_pool,
            init=init,
            weights=weights_name,
            early_stop=early_stop,
            progress=report,
            watch=watch,
        )
    console.print(f"model card: {card}", markup=False)


@models.command()
def evaluate(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help=f"{NAME_HELP} {PIPELINE}: the whole pipeline as it runs in the node.")
    ],
    data: MaybeIndexOption = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the weights; the installed ones by default.")
    ] = None,
    device: DeviceOption = "auto",
    flips: FlipsOption = False,
    degrade: Annotated[
        str, typer.Option(help="Score again with slices of so many mm, separated by commas: 3,5.")
    ] = "",
    file: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None,
    crop: CropOption = "published",
    series: SeriesOption = None,
    seed: SeedOption = 0,
    on_card: Annotated[
        bool, typer.Option("--on-card", help="fatsat: put the figures on the model card of --weights, too.")
    ] = False,
) -> None:
    """Score a network or the whole pipeline on a data set: every case and the mean, real and synthetic ones apart."""
    check_options(ctx, name)
    if file is not None:
        make_folder(file.parent)
    if name == FATSAT:
        from pipelines.training.fatsat.cli import evaluate_ensemble

        with progress_bar() as (report, watch):
            lines = evaluate_ensemble(
                data,
                file,
                weights=weights,
                crop=crop,
                series=series,
                on_card=on_card,
                device=device,
                seed=seed,
                report=report,
                watch=watch,
            )
        print_line("\n".join(lines))
        return
    from pipelines.training.evaluation import evaluate as evaluate_network
    from pipelines.training.results import write_json

    try:
        thicknesses = [float(text) for text in degrade.split(",") if text.strip()]
    except ValueError:
        raise DataSetError(f"--degrade takes thicknesses in mm such as 3,5, not {degrade!r}") from None
    scores: Any = evaluate_network(
        name,
        index_of(data),
        weights=weights,
        device=device,
        flips=flips,
        degrade=thicknesses,
        progress=print_line,
    )
    if file is not None:
        write_json(file, scores)
    print_scores(scores)


@models.command()
def calibrate(
    name: Annotated[
        str,
        typer.Argument(
            help=f"joint, five-slices, lesion-pattern, or another that tells classes; {PIPELINE}: the volume's interval."
        ),
    ],
    data: IndexOption,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the weights; the installed ones by default.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Fit how sure MS versus NMOSD may be, or how far volumes may err, on cases not learnt from; for the model card."""
    if name == PIPELINE:
        from pipelines.training.volume_fit import calibrate_volume

        fitted = calibrate_volume(data, weights=weights, device=device, progress=print_line)
        print_line(
            f"interval of the volume: fitted on {fitted['cases']:.0f} cases, held the truth in {100 * fitted['held']:.0f} % "
            f"of them with their patient left out; the upper end is {fitted['width']:.2f} times the lower one (median)"
        )
        return
    from pipelines.training.recalibration import recalibrate

    said = recalibrate(name, data, weights=weights, device=device, progress=print_line)
    print_line(
        f"temperature {said['temperature']:.3g}, was {said['before']:.3g}; AUC {said['auc']:.2f}, accuracy "
        f"{100 * said['accuracy']:.0f} % of {said['n']:.0f} cases"
    )


@models.command()
def compare(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(help="The networks; fatsat stands alone, with its baselines.")
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Results: tables, and a folder for each network and fold.")
    ],
    data: MaybeIndexOption = None,
    folds: Annotated[
        str, typer.Option(help="A number of folds by patient, 'patients' (each left out), 'draws' (paper 1).")
    ] = "5",
    weights: Annotated[
        Path | None, typer.Option(help="Folder of weights to load; nothing is trained then.")
    ] = None,
    device: DeviceOption = "auto",
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    given_share: ShareOption = 0.5,
    workers: WorkersOption = None,
    flips: FlipsOption = False,
    repeats: Annotated[
        int | None, typer.Option(help="fatsat: repeats of the cross-validation; the paper has 200.", min=1)
    ] = None,
    members: MembersOption = None,
    series: SeriesOption = None,
    epochs: EpochsOption = None,
) -> None:
    """Train or load several networks on the same folds and print the papers' tables with ours beside them; resumable."""
    if FATSAT in names and len(names) > 1:
        raise DataSetError(f"{FATSAT} is compared with its own baselines; name it alone")
    check_options(ctx, names[0])
    make_folder(folder)
    if names == [FATSAT]:
        from pipelines.training.fatsat.cli import compare_with_paper

        with progress_bar() as (report, watch):
            tables = compare_with_paper(
                data,
                folder,
                repeats=repeats,
                members=members,
                series=series,
                epochs=epochs,
                weights=weights,
                device=device,
                seed=seed,
                report=report,
                watch=watch,
            )
        print_line(tables)
        return
    from pipelines.training.comparison import compare as compare_networks

    with progress_bar() as (report, watch):
        tables = compare_networks(
            names,
            index_of(data),
            folder,
            folds=folds,
            weights=weights,
            device=device,
            seed=seed,
            flips=flips,
            progress=report,
            minutes=minutes,
            steps=steps,
            given_share=given_share,
            workers=workers,
            watch=watch,
        )
    print_line(tables)
