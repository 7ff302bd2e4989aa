"""``dicom-node models``: each command imports what it needs, so that its help is there without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipelines.errors import DataSetError

models = typer.Typer(
    help="Models: list, train, evaluate, and phantoms with known truth.", no_args_is_help=True
)
console = Console(highlight=False, soft_wrap=True)

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="A data set, or a folder with head_labels/; else the MNI152 template alone."),
]


@models.command("list")
def list_models() -> None:
    """List the weights that are installed, what they were trained on, and whether their files are whole."""
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


@models.command()
def phantom(
    folder: Annotated[Path, typer.Option("--out", help="Where the cases and index.csv go.")],
    count: Annotated[int, typer.Option(help="How many cases.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cases.")] = 0,
    data: DataOption = None,
) -> None:
    """Write synthetic FLAIR cases with known lesions as a data set in NIfTI."""
    from pipelines.training.commands import phantom_cases

    phantom_cases(folder, count, seed, data, console.print)


@models.command()
def train(
    name: Annotated[str, typer.Argument(help="The network: joint.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Where checkpoints, history, weights and model card go.")
    ],
    data: DataOption = None,
    minutes: Annotated[float | None, typer.Option(help="How long; 75 on a CPU, 360 on a GPU.")] = None,
    steps: Annotated[int | None, typer.Option(help="How many steps of the first phase.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoint in --out.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    leave_out: Annotated[str, typer.Option(help="Patients to leave out, separated by commas.")] = "",
) -> None:
    """Train a network on synthetic cases and on those of a data set; resumable."""
    from pipelines.training.commands import train as train_network

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {folder}: {error.strerror}; give --out another folder") from error
    patients = tuple(patient.strip() for patient in leave_out.split(",") if patient.strip())
    weights = train_network(
        name,
        data,
        folder,
        steps=steps,
        minutes=minutes,
        resume=resume,
        device=device,
        seed=seed,
        leave_out=patients,
        progress=console.print,
    )
    console.print(f"weights: {weights}", markup=False)


@models.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="The network: joint.")],
    data: Annotated[Path, typer.Option("--data", help="A data set with index.csv.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of the weights; the installed ones by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0.")] = "auto",
) -> None:
    """Score a network on a data set: every case, the mean, and the classes."""
    from pipelines.training.commands import evaluate as evaluate_network

    scores = evaluate_network(name, data, weights=weights, device=device, progress=console.print)
    console.print_json(data={key: scores[key] for key in ("mean", "classes")})
