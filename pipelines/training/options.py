"""Options of ``dicom-node models train``, ``evaluate``, ``compare`` and ``calibrate``: a dataclass for each command.

A field is one argument or option, with its help, and carries what was given to the network that it is meant for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from pipelines.errors import DataSetError

Options = TypeVar("Options")
FATSAT = "fatsat"
"""The ensemble of the optic nerves; every other name is a network on FLAIR."""
PATTERN = "lesion-pattern"
"""The network that reads the lesion mask; its training makes no images."""
PIPELINE = "flair"
"""All of the FLAIR pipeline, as it runs in the node; it can be evaluated."""
FATSAT_ONLY = ("members", "crop", "series", "epochs", "repeats", "on_card")
"""Options that no other network knows."""

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
    int | None,
    typer.Option(
        help="fatsat: phantom series, where --data is no data set; regions, plausibility: synthetic brains; change: heads.",
        min=1,
    ),
]
EpochsOption = Annotated[int | None, typer.Option(help="fatsat: epochs of a network at most.", min=1)]
MaybeIndexOption = Annotated[
    Path | None,
    typer.Option("--data", help="A data set with index.csv; fatsat: or a folder with head_labels/, or none."),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Folder of the weights; the installed ones by default.")
]
NAME_HELP = "The network; 'dicom-node models list --networks' names them all."


@dataclass(frozen=True)
class TrainOptions:
    """Arguments and options of ``models train``."""

    name: Annotated[str, typer.Argument(help=NAME_HELP)]
    folder: Annotated[
        Path, typer.Option("--out", help="Results: checkpoints, curves, metrics, weights and model card.")
    ]
    data: DataOption = None
    minutes: MinutesOption = None
    steps: StepsOption = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the checkpoint in --out.")] = False
    device: DeviceOption = "auto"
    seed: SeedOption = 0
    leave_out: Annotated[str, typer.Option(help="Patients to leave out, separated by commas.")] = ""
    init: Annotated[
        Path | None, typer.Option(help="Folder of weights of the same network to start from.")
    ] = None
    weights_name: Annotated[
        str | None, typer.Option("--name", help="Name of the weights; that of the network by default.")
    ] = None
    given_share: ShareOption = 0.5
    pool_size: Annotated[int, typer.Option(help="Cases at hand at any time; an epoch.", min=1)] = 400
    fixed_pool: Annotated[
        bool, typer.Option("--fixed-pool", help="Make the cases once: the same seed gives the same network.")
    ] = False
    learn_from_all: Annotated[
        bool,
        typer.Option(
            "--learn-from-all", help="Keep no patient for a validation: the last state is the result."
        ),
    ] = False
    workers: WorkersOption = None
    early_stop: Annotated[
        int | None,
        typer.Option(help="Epochs without a better validation score that end a phase; 0: never.", min=0),
    ] = None
    members: MembersOption = None
    crop: CropOption = "published"
    series: SeriesOption = None
    epochs: EpochsOption = None

    @property
    def patients_left_out(self) -> tuple[str, ...]:
        """The patients of ``--leave-out``."""
        return tuple(patient.strip() for patient in self.leave_out.split(",") if patient.strip())


@dataclass(frozen=True)
class EvaluateOptions:
    """Arguments and options of ``models evaluate``."""

    name: Annotated[
        str,
        typer.Argument(
            help=f"{NAME_HELP} {PIPELINE}: the whole pipeline as it runs in the node; plausibility: its check of findings."
        ),
    ]
    data: MaybeIndexOption = None
    weights: WeightsOption = None
    device: DeviceOption = "auto"
    flips: FlipsOption = False
    degrade: Annotated[
        str, typer.Option(help="Score again with slices of so many mm, separated by commas: 3,5.")
    ] = ""
    file: Annotated[Path | None, typer.Option("--json", help="File for all figures.")] = None
    crop: CropOption = "published"
    series: SeriesOption = None
    seed: SeedOption = 0
    on_card: Annotated[
        bool,
        typer.Option(
            "--on-card", help="fatsat, regions: put the figures on the model card of --weights, too."
        ),
    ] = False

    @property
    def thicknesses_mm(self) -> list[float]:
        """The slice thicknesses of ``--degrade``; a DataSetError where they are no numbers."""
        try:
            return [float(text) for text in self.degrade.split(",") if text.strip()]
        except ValueError:
            raise DataSetError(
                f"--degrade takes thicknesses in mm such as 3,5, not {self.degrade!r}"
            ) from None


@dataclass(frozen=True)
class CompareOptions:
    """Arguments and options of ``models compare``."""

    names: Annotated[list[str], typer.Argument(help="The networks; fatsat stands alone, with its baselines.")]
    folder: Annotated[
        Path, typer.Option("--out", help="Results: tables, and a folder for each network and fold.")
    ]
    data: MaybeIndexOption = None
    folds: Annotated[
        str, typer.Option(help="A number of folds by patient, 'patients' (each left out), 'draws' (paper 1).")
    ] = "5"
    weights: Annotated[
        Path | None, typer.Option(help="Folder of weights to load; nothing is trained then.")
    ] = None
    device: DeviceOption = "auto"
    minutes: MinutesOption = None
    steps: StepsOption = None
    seed: SeedOption = 0
    given_share: ShareOption = 0.5
    workers: WorkersOption = None
    flips: FlipsOption = False
    repeats: Annotated[
        int | None, typer.Option(help="fatsat: repeats of the cross-validation; the paper has 200.", min=1)
    ] = None
    members: MembersOption = None
    series: SeriesOption = None
    epochs: EpochsOption = None


@dataclass(frozen=True)
class CalibrateOptions:
    """Arguments and options of ``models calibrate``."""

    name: Annotated[
        str,
        typer.Argument(
            help=f"joint, five-slices, lesion-pattern, or another that tells classes; {PIPELINE}: the volume's interval;"
            " change: the weights of its evidence."
        ),
    ]
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="A data set with index.csv; change: a folder with head_labels/ and FLAIR scans."
        ),
    ]
    weights: WeightsOption = None
    device: DeviceOption = "auto"


def takes(kind: type[Options]) -> Callable[[Callable[[typer.Context, Options], None]], Any]:
    """Make a function of a context and options a command that typer gives the fields one by one."""
    hints = get_type_hints(kind, include_extras=True)
    parameters = [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for field in fields(kind):  # type: ignore[arg-type]
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        parameters.append(
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
            )
        )

    def decorate(function: Callable[[typer.Context, Options], None]) -> Any:
        def command(ctx: typer.Context, **given: Any) -> None:
            function(ctx, kind(**given))

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def check_options(ctx: typer.Context, name: str, unknown: tuple[str, ...]) -> None:
    """Refuse an option that the named network does not know, rather than ignore it."""
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
