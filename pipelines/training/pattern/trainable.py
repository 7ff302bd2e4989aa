"""The network of lesion patterns as the command line asks it; each method imports what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import DataSetError, WeightsError
from pipelines.training.extra import need
from pipelines.training.options import (
    FATSAT_ONLY,
    PATTERN,
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
)
from pipelines.training.trainable import Report, Trainable, Watch

if TYPE_CHECKING:
    from pipelines.training.scoring.scorer import OpenScorer

WORKERS = 2
"""Processes that draw patterns, where none are asked for."""


class LesionPattern(Trainable):
    """The perceptron that tells MS from NMOSD by the lesion mask."""

    name = PATTERN
    kind = "classes by the lesion mask"
    unknown = (
        *FATSAT_ONLY,
        *(
            "minutes",
            "weights_name",
            "given_share",
            "pool_size",
            "fixed_pool",
            "learn_from_all",
            "early_stop",
            "leave_out",
        ),
        *("init", "degrade"),
    )

    def recipe(self, device: str) -> str:
        """Return how many patterns are drawn."""
        if device != "cpu":
            return "the same"
        from pipelines.training.pattern.lesion_patterns import PATTERNS, VIEWS

        return f"{PATTERNS} lesion patterns, each found {VIEWS} times; some 25 min on two cores"

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Train it on drawn patterns; a step is a pattern."""
        if asked.device != "auto":
            raise DataSetError(f"--device does not apply to the training of {self.name}; leave it out")
        need("matplotlib", "sklearn")
        from pipelines.training.pattern.lesion_patterns import PATTERNS
        from pipelines.training.pattern.training import train_pattern

        return train_pattern(
            asked.data,
            asked.folder,
            patterns=asked.steps or PATTERNS,
            workers=asked.workers or WORKERS,
            resume=asked.resume,
            seed=asked.seed,
            progress=report,
            watch=watch,
        )

    def scorer(self, *, flips: bool = False) -> OpenScorer:
        """Return what loads its weights, and those of the mask that are installed, to score cases."""
        need("sklearn")
        from pipelines.training.pattern.scorer import PatternScorer

        return lambda folder, device: PatternScorer(folder, device=device, flips=flips)

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it behind the installed networks of the mask."""
        scorer = self.scorer(flips=asked.flips)
        from pipelines.training.scoring.asked import evaluate_cases

        return evaluate_cases(self.name, scorer, asked, report)

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
        """Fit the temperature of its classes."""
        scorer = self.scorer()
        from pipelines.training.pattern.training import INPUT
        from pipelines.training.scoring.asked import calibrate_classes

        return calibrate_classes(self.name, scorer, INPUT, asked, report)
