"""The options of ``dicom-node models``, and which of them apply to what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.errors import DataSetError

FATSAT = "fatsat"
"""The ensemble of the optic nerves; every other name is a network on FLAIR."""
PATTERN = "lesion-pattern"
"""The network that reads the lesion mask; its training makes no images."""
PIPELINE = "flair"
"""All of the FLAIR pipeline, as it runs in the node; it can be evaluated."""
_NOT_FATSAT = (
    *("minutes", "steps", "weights_name", "given_share", "pool_size"),
    *("fixed_pool", "workers", "early_stop", "folds", "flips", "degrade"),
)
_NOT_PATTERN = (
    *("minutes", "weights_name", "given_share", "pool_size", "fixed_pool", "early_stop", "leave_out", "init"),
    "degrade",
)
_FATSAT_ONLY = ("members", "crop", "series", "epochs", "repeats", "on_card")


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="A data set, or a folder with head_labels/; without it, what ships: MNI152 template or geometry.",
    ),
]
IndexOption = Annotated[Path, typer.Option("--data", help="A data set with index.csv.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda:0.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
MinutesOption = Annotated[
    float | None,
    typer.Option(help="How long a training lasts at most; the recipe's time by default.", min=0.01),
]
StepsOption = Annotated[
    int | None, typer.Option(help="How many steps a training has; the recipe's by default.", min=1)
]
ShareOption = Annotated[
    float, typer.Option(help="Share of the cases that are made from those of the data set, 0 to 1.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Processes that make cases; 1 beside a CPU training.", min=1)
]
FlipsOption = Annotated[bool, typer.Option("--flips", help="Take the mean with the mirrored case.")]
MembersOption = Annotated[
    int | None, typer.Option(help="fatsat: networks of the ensemble, 1 to 32.", min=1, max=32)
]
CropOption = Annotated[str, typer.Option(help="fatsat: published, or along-nerve.")]
SeriesOption = Annotated[
    int | None, typer.Option(help="fatsat: phantom series, where --data is no data set.", min=1)
]
EpochsOption = Annotated[int | None, typer.Option(help="fatsat: epochs of a network at most.", min=1)]
MaybeIndexOption = Annotated[
    Path | None,
    typer.Option("--data", help="A data set with index.csv; fatsat: or a folder with head_labels/, or none."),
]
NAME_HELP = "The network; 'dicom-node models list --networks' names them all."


def check_options(ctx: typer.Context, name: str) -> None:
    """Refuse an option that the named network does not know, rather than ignore it."""
    unknown = _NOT_FATSAT if name == FATSAT else _FATSAT_ONLY
    if name == PATTERN:
        unknown = (*unknown, *_NOT_PATTERN)
    if name == PIPELINE:
        unknown = (*unknown, "flips")
    for option in unknown:
        source = ctx.get_parameter_source(option) if option in ctx.params else None
        if source is not None and source.name == "COMMANDLINE":
            said = "name" if option == "weights_name" else option.replace("_", "-")
            raise DataSetError(f"--{said} does not apply to {name}; leave it out")


def index_of(data: Path | None) -> Path:
    """Return the data set, which cannot be left out here."""
    if data is None:
        raise DataSetError("give --data, a data set with index.csv")
    return data


def make_folder(folder: Path) -> None:
    """Make a folder for results, or say why that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {folder}: {error.strerror}; give another folder") from error
