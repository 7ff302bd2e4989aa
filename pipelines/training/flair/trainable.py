"""Networks on FLAIR and the FLAIR pipeline as the command line asks them; each method imports what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import WeightsError
from pipelines.training.extra import need
from pipelines.training.flair.recipes import NAMES, check_name, recipe
from pipelines.training.options import (
    FATSAT_ONLY,
    PIPELINE,
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
    index_of,
)
from pipelines.training.trainable import Report, Trainable, Watch

if TYPE_CHECKING:
    from pipelines.training.scoring.scorer import OpenScorer


class FlairNetwork(Trainable):
    """A network of `recipes.NAMES`: the joint one, that of the mask, five slices, or one of the papers'.

    Parameters
    ----------
    name : str
    """

    unknown = FATSAT_ONLY

    def __init__(self, name: str) -> None:
        self.name, self.kind = name, check_name(name)

    def recipe(self, device: str) -> str:
        """Return its phases."""
        return "; ".join(phase.text() for phase in recipe(self.name, device))

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Train it on synthetic cases and on those of a data set."""
        need("matplotlib", "sklearn")
        from pipelines.training.flair.training import train
        from pipelines.training.flair.training_settings import TrainingSettings

        settings = TrainingSettings(
            self.name,
            asked.data,
            asked.folder,
            steps=asked.steps,
            minutes=asked.minutes,
            resume=asked.resume,
            device=asked.device,
            seed=asked.seed,
            leave_out=asked.patients_left_out,
            workers=asked.workers,
            pool_size=asked.pool_size,
            given_share=asked.given_share,
            fixed_pool=asked.fixed_pool,
            learn_from_all=asked.learn_from_all,
            init=asked.init,
            weights=asked.weights_name,
            early_stop=asked.early_stop,
        )
        return train(settings, report=report, watch=watch)

    def scorer(self, *, flips: bool = False) -> OpenScorer:
        """Return what loads its weights to score cases."""
        need("sklearn")
        from pipelines.training.flair.scorer import NetworkScorer

        return lambda folder, device: NetworkScorer(self.name, folder, device=device, flips=flips)

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it on the cube: every case and the mean, real and synthetic ones apart."""
        scorer = self.scorer(flips=asked.flips)
        from pipelines.training.scoring.asked import evaluate_cases

        return evaluate_cases(self.name, scorer, asked, report)

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse nothing: it stands in the papers' tables beside any other network on FLAIR."""

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Train or load each on the same folds, for the tables of papers 1 and 3."""
        need("matplotlib", "sklearn")
        from pipelines.training.flair.comparison import compare

        return compare(
            asked.names,
            index_of(asked.data),
            asked.folder,
            folds=asked.folds,
            weights=asked.weights,
            device=asked.device,
            seed=asked.seed,
            flips=asked.flips,
            progress=report,
            minutes=asked.minutes,
            steps=asked.steps,
            given_share=asked.given_share,
            workers=asked.workers,
            watch=watch,
        )

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Fit the temperature of its classes."""
        if self.kind == "segmentation":
            raise WeightsError(
                f"{self.name} is no network that tells classes; joint, five-slices and lesion-pattern are, and {PIPELINE} "
                "fits the interval of the volume"
            )
        need("sklearn")
        from pipelines.training.flair.export import INPUTS
        from pipelines.training.scoring.asked import calibrate_classes

        return calibrate_classes(self.name, self.scorer(), INPUTS[check_name(self.name)], asked, report)


class FlairPipeline(Trainable):
    """The pipeline as it runs in the node, with its default settings; its networks are trained, it is not."""

    name = PIPELINE
    kind = "pipeline"
    unknown = (*FATSAT_ONLY, "flips")

    def recipe(self, device: str) -> str:
        """Return what is trained in its place."""
        return "its networks are trained, each by its name"

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Refuse."""
        raise WeightsError(
            f"{self.name} is the whole pipeline; train one of its networks: {', '.join(NAMES)}"
        )

    def scorer(self) -> OpenScorer:
        """Return what loads all of its weights to score cases."""
        need("sklearn")
        from pipelines.training.flair.pipeline_scorer import PipelineScorer

        return lambda folder, device: PipelineScorer(folder, device=device)

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it on the cases' own voxels: every case and the mean, real and synthetic ones apart."""
        scorer = self.scorer()
        from pipelines.training.scoring.asked import evaluate_cases

        return evaluate_cases(self.name, scorer, asked, report)

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse: no paper has it."""
        raise WeightsError(f"{self.name} is the whole pipeline; compare networks: {', '.join(NAMES)}")

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Refuse."""
        self.check_comparison(asked.names)
        return ""

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Fit the interval of the total lesion volume."""
        need("sklearn")
        from pipelines.training.flair.volume_interval import calibrate_volume

        fitted = calibrate_volume(asked.data, weights=asked.weights, device=asked.device, progress=report)
        return (
            f"interval of the volume: fitted on {fitted['cases']:.0f} cases, held the truth in {100 * fitted['held']:.0f} % "
            f"of them with their patient left out; the upper end is {fitted['width']:.2f} times the lower one (median)"
        )
