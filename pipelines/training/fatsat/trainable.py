"""The ensemble of the optic nerves as the command line asks it; each method imports what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.errors import DataSetError, WeightsError
from pipelines.fatsat.settings import KINDS, CropKind
from pipelines.training.extra import need
from pipelines.training.fatsat.recipe import EPOCHS, MEMBERS, SERIES
from pipelines.training.options import (
    FATSAT,
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
)
from pipelines.training.trainable import Report, Trainable, Watch


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


class OpticNerveEnsemble(Trainable):
    """The ensemble that judges the optic nerves on FAT-SAT; None in its options stands for the default."""

    name = FATSAT
    kind = "optic nerves on FAT-SAT"
    unknown = (
        *("minutes", "steps", "weights_name", "given_share", "pool_size"),
        *("fixed_pool", "learn_from_all", "workers", "early_stop", "folds", "flips", "degrade"),
    )

    def recipe(self, device: str) -> str:
        """Return how long its members are trained, and on what."""
        if device != "cpu":
            return "the same"
        return f"Adam 3e-4, batches of 16 eyes, at most {EPOCHS} epochs a member, {MEMBERS} members of {SERIES} phantoms"

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Train its members on phantoms, or on the eyes of a data set."""
        need("matplotlib", "sklearn")
        from pipelines.training.fatsat.training import train

        return train(
            asked.data,
            asked.folder,
            members=asked.members or MEMBERS,
            crop=crop_of(asked.crop),
            series=asked.series or SERIES,
            epochs=asked.epochs or EPOCHS,
            resume=asked.resume,
            device=asked.device,
            seed=asked.seed,
            leave_out=asked.patients_left_out,
            init=asked.init,
            report=report,
            watch=watch,
        )

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it; what that makes is kept beside the file of ``--json`` if there is one."""
        need("matplotlib", "sklearn")
        from pipelines.training.fatsat.evaluation import CONTRAST_SERIES, evaluate
        from pipelines.training.fatsat.evaluation import SERIES as TEST_SERIES

        def run(out: Path) -> list[str]:
            return evaluate(
                asked.data,
                out,
                file=asked.file,
                weights=asked.weights,
                crop=crop_of(asked.crop),
                series=asked.series or TEST_SERIES,
                contrast_series=CONTRAST_SERIES if asked.series is None else max(1, asked.series // 5),
                on_card=asked.on_card,
                device=asked.device,
                seed=asked.seed,
                report=report,
                watch=watch,
            ).lines

        if asked.file is not None:
            return run(asked.file.parent)
        with TemporaryDirectory() as folder:
            return run(Path(folder))

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse other networks beside it."""
        if len(names) > 1:
            raise DataSetError(f"{self.name} is compared with its own baselines; name it alone")

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Compare it with SVM and random forest, for the table of paper 0."""
        need("matplotlib", "sklearn")
        from pipelines.training.fatsat.comparison import MEMBERS as COMPARED_MEMBERS
        from pipelines.training.fatsat.comparison import REPEATS, compare
        from pipelines.training.fatsat.comparison import SERIES as COMPARED_SERIES
        from pipelines.training.fatsat.evaluation import SERIES as TEST_SERIES

        return compare(
            asked.data,
            asked.folder,
            repeats=asked.repeats or REPEATS,
            members=asked.members or COMPARED_MEMBERS,
            series=asked.series or COMPARED_SERIES,
            test_series=TEST_SERIES if asked.series is None else max(1, asked.series // 2),
            epochs=asked.epochs or EPOCHS,
            weights=asked.weights,
            device=asked.device,
            seed=asked.seed,
            report=report,
            watch=watch,
        )

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Refuse: its training is balanced, patients are not, and no data set tells how often."""
        raise WeightsError(f"{self.name} is not calibrated: its training is balanced, patients are not")
