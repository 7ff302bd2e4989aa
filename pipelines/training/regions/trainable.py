"""The network of structures as the command line asks it; each method imports what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import DataSetError, WeightsError
from pipelines.training.extra import need
from pipelines.training.options import (
    FATSAT_ONLY,
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
)
from pipelines.training.trainable import Report, Trainable, Watch

NAME = "regions"


class Regions(Trainable):
    """The network that tells the structures of a brain."""

    name = NAME
    kind = "structures of the brain"
    unknown = (
        *(option for option in FATSAT_ONLY if option not in ("series", "on_card")),
        *(
            "device",
            "weights_name",
            "given_share",
            "fixed_pool",
            "workers",
            "early_stop",
            "leave_out",
            "init",
            "learn_from_all",
        ),
        *("flips", "degrade"),
    )

    def recipe(self, device: str) -> str:
        """Return how long it is trained."""
        if device != "cpu":
            return "not on a GPU"
        from pipelines.training.regions.results import MINUTES

        return f"synthetic brains of head_labels, whole; {MINUTES:.0f} min on two cores"

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Train it on synthetic brains; a step is a brain."""
        need("matplotlib")
        from pipelines.training.regions.results import MINUTES, train_regions

        return train_regions(
            asked.data,
            asked.folder,
            minutes=asked.minutes or MINUTES,
            steps=asked.steps,
            pool_size=asked.pool_size,
            resume=asked.resume,
            seed=asked.seed,
            progress=report,
            watch=watch,
        )

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it on synthetic brains of the heads kept apart, and on real scans with masks of their ventricles."""
        from dataclasses import asdict

        from pipelines.regions.model import RegionsModel
        from pipelines.training.regions.evaluation import (
            SETS,
            real_cases,
            real_score,
            synthetic_scores,
            targets_of,
        )
        from pipelines.training.regions.results import add_figures
        from pipelines.training.results_folder import write_json
        from pipelines.weights import FOLDER

        folder = asked.weights or FOLDER
        model = RegionsModel(folder=folder)
        scores = synthetic_scores(
            model, asked.data, sets=asked.series or SETS, seed=asked.seed, report=report
        )
        real = []
        for name, flair, mask in real_cases(asked.data):
            report(f"scan {name}")
            of = real_score(model, name, flair, mask)
            if of is not None:
                real.append(of)
        targets = targets_of(scores, real)
        if asked.file is not None:
            write_json(
                asked.file,
                {"targets": [of.as_dict() for of in targets], "real": [asdict(of) for of in real]},
            )
        if asked.on_card:
            add_figures(folder, scores, real)
        return [
            *(target.text() for target in targets),
            *(
                f"{of.case} (real): Dice of the ventricles {of.ventricles:.3f}{of.doubt and '; ' + of.doubt}"
                for of in real
            ),
        ]

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse: no paper has it."""
        raise WeightsError(
            f"{self.name} stands in no paper's table and is not compared; score it with models evaluate"
        )

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Refuse."""
        self.check_comparison(asked.names)
        return ""

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Refuse: it tells no classes of patients."""
        raise DataSetError(f"{self.name} has nothing to calibrate; score it with models evaluate")
