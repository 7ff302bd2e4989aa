"""What ``dicom-node models ... fatsat`` does; the commands themselves are in `pipelines.training.cli`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.errors import DataSetError
from pipelines.fatsat.settings import KINDS, CropKind
from pipelines.training.fatsat.comparison import MEMBERS as COMPARED_MEMBERS
from pipelines.training.fatsat.comparison import REPEATS
from pipelines.training.fatsat.comparison import SERIES as COMPARED_SERIES
from pipelines.training.fatsat.comparison import compare as compare_methods
from pipelines.training.fatsat.evaluation import CONTRAST_SERIES, evaluate
from pipelines.training.fatsat.evaluation import SERIES as TEST_SERIES
from pipelines.training.fatsat.networks import EPOCHS
from pipelines.training.fatsat.training import MEMBERS, SERIES, Watch, train

RECIPE = (
    f"Adam 3e-4, batches of 16 eyes, at most {EPOCHS} epochs a member, {MEMBERS} members of {SERIES} phantoms"
)
Report = Callable[[str], None]


def crop_of(text: str) -> CropKind:
    """Return a kind of crop.

    Raises
    ------
    DataSetError
        There is none of that name.
    """
    for kind in KINDS:
        if kind == text:
            return kind
    raise DataSetError(f"--crop is {' or '.join(KINDS)}, not {text!r}")


def train_ensemble(
    data: Path | None,
    out: Path,
    *,
    members: int | None,
    crop: str,
    series: int | None,
    epochs: int | None,
    resume: bool,
    device: str,
    seed: int,
    leave_out: tuple[str, ...],
    init: Path | None,
    report: Report,
    watch: Watch,
) -> Path:
    """Train, and return the card; None stands for the default."""
    return train(
        data,
        out,
        members=members or MEMBERS,
        crop=crop_of(crop),
        series=series or SERIES,
        epochs=epochs or EPOCHS,
        resume=resume,
        device=device,
        seed=seed,
        leave_out=leave_out,
        init=init,
        report=report,
        watch=watch,
    )


def evaluate_ensemble(
    data: Path | None,
    file: Path | None,
    *,
    weights: Path | None,
    crop: str,
    series: int | None,
    on_card: bool,
    device: str,
    seed: int,
    report: Report,
    watch: Watch,
) -> list[str]:
    """Score an ensemble and return lines for the screen; what it makes is kept beside ``file`` if there is one."""

    def run(out: Path) -> list[str]:
        return evaluate(
            data,
            out,
            file=file,
            weights=weights,
            crop=crop_of(crop),
            series=series or TEST_SERIES,
            contrast_series=CONTRAST_SERIES if series is None else max(1, series // 5),
            on_card=on_card,
            device=device,
            seed=seed,
            report=report,
            watch=watch,
        ).lines

    if file is not None:
        return run(file.parent)
    with TemporaryDirectory() as folder:
        return run(Path(folder))


def compare_with_paper(
    data: Path | None,
    out: Path,
    *,
    repeats: int | None,
    members: int | None,
    series: int | None,
    epochs: int | None,
    weights: Path | None,
    device: str,
    seed: int,
    report: Report,
    watch: Watch,
) -> str:
    """Compare, and return the table."""
    return compare_methods(
        data,
        out,
        repeats=repeats or REPEATS,
        members=members or COMPARED_MEMBERS,
        series=series or COMPARED_SERIES,
        test_series=TEST_SERIES if series is None else max(1, series // 2),
        epochs=epochs or EPOCHS,
        weights=weights,
        device=device,
        seed=seed,
        report=report,
        watch=watch,
    )
