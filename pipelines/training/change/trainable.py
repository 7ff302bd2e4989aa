"""The comparison of two time points as the command line asks it; each method imports what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import WeightsError
from pipelines.training.options import (
    FATSAT_ONLY,
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
)
from pipelines.training.trainable import Report, Trainable, Watch

NAME = "change"


class ChangeRule(Trainable):
    """The rule that tells what has changed between two scans; its evidence has fitted weights, and it needs no training."""

    name = NAME
    kind = "change between two scans"
    unknown = (*(option for option in FATSAT_ONLY if option != "series"), "flips", "degrade")

    def recipe(self, device: str) -> str:
        """Return that it is not trained."""
        return "not trained"

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Refuse: it is a rule."""
        raise WeightsError(
            f"{self.name} is a rule and is not trained; fit its weights with models calibrate {self.name}"
        )

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it on synthetic pairs, and on the real FLAIR scans of the folder against moved copies of themselves."""
        from dataclasses import asdict

        from pipelines.device import resolve_device
        from pipelines.training.change.evaluation import (
            SERIES,
            Scores,
            examiner_for,
            moved_score,
            real_scans,
            report_lines,
            score_sessions,
            synthetic_sessions,
            targets_of,
        )
        from pipelines.training.results_folder import write_json
        from pipelines.weights import FOLDER

        kept = None if asked.file is None else asked.file.parent / "examinations"
        examiner = examiner_for(asked.weights or FOLDER, resolve_device(asked.device), kept)
        scores, moved = Scores(), []
        series = asked.series or SERIES
        for number, sessions in enumerate(
            synthetic_sessions(asked.data, series=series, seed=asked.seed), start=1
        ):
            report(f"head {number} of {series}, grade {sessions.grade}")
            score_sessions(sessions, examiner, scores)
        if asked.data is not None:
            for path in real_scans(asked.data):
                report(f"scan {path.name}")
                moved.append(moved_score(path, asked.data, examiner))
        if asked.file is not None:
            targets = [target.as_dict() for target in targets_of(scores, moved)]
            write_json(
                asked.file,
                {"targets": targets, "pairs": asdict(scores), "moved": [asdict(of) for of in moved]},
            )
        return report_lines(scores, moved)

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse: no paper's table has it."""
        raise WeightsError(
            f"{self.name} stands in no paper's table and is not compared; score it with models evaluate"
        )

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Refuse."""
        self.check_comparison(asked.names)
        return ""

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Fit the weights of its evidence, on synthetic pairs and on the real FLAIR scans of the folder."""
        from pipelines.device import resolve_device
        from pipelines.training.change.evaluation import examiner_for
        from pipelines.training.change.fitting import fit_lines, fitted
        from pipelines.weights import FOLDER

        examiner = examiner_for(asked.weights or FOLDER, resolve_device(asked.device), None)
        return "\n".join(fit_lines(fitted(asked.data, examiner, report)))
