"""The check of plausibility as the command line asks it: it is judged, there is nothing to train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import DataSetError, WeightsError
from pipelines.training.options import (
    FATSAT_ONLY,
    CalibrateOptions,
    CompareOptions,
    EvaluateOptions,
    TrainOptions,
)
from pipelines.training.trainable import Report, Trainable, Watch

NAME = "plausibility"


class Plausibility(Trainable):
    """The check whether findings are like demyelination."""

    name = NAME
    kind = "check of findings"
    unknown = (
        *(option for option in FATSAT_ONLY if option != "series"),
        *("device", "flips", "degrade"),
    )

    def recipe(self, device: str) -> str:
        """Return that it is not trained."""
        return "limits that are set, not trained"

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Refuse: it has limits, no weights."""
        raise WeightsError(
            f"{self.name} has no weights; its limits stand in pipelines/flair/signs_in_mask.py and signs_in_image.py"
        )

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Judge it on synthetic heads that its limits were not set on, and on real scans of MS and of the healthy."""
        from dataclasses import asdict

        from pipelines.flair.segmenter import MaskModel
        from pipelines.regions.model import RegionsModel
        from pipelines.training.plausibility.evaluation import (
            CASES,
            counts_by_sign,
            judged_heads,
            judged_scan,
            real_files,
            shares_by_kind,
            targets_of,
        )
        from pipelines.training.results_folder import write_json
        from pipelines.weights import FOLDER

        folder = asked.weights or FOLDER
        structures, masks = RegionsModel(folder=folder), MaskModel(folder=folder)
        found = judged_heads(
            structures, asked.data, cases=asked.series or CASES, seed=asked.seed, report=report
        )
        for path in real_files(asked.data):
            report(f"scan {path.name}")
            of = judged_scan(structures, masks, path)
            if of is not None:
                found.append(of)
        targets = targets_of(found)
        if asked.file is not None:
            write_json(
                asked.file,
                {"targets": [of.as_dict() for of in targets], "cases": [asdict(of) for of in found]},
            )
        return [
            *(target.text() for target in targets),
            *(f"{name}: {true} true, {false} false" for name, (true, false) in counts_by_sign(found).items()),
            *(f"{kind}: {signs} of {count}" for kind, (signs, count) in shares_by_kind(found).items()),
            *(of.text() for of in found),
        ]

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse: no paper has it."""
        raise WeightsError(
            f"{self.name} stands in no paper's table and is not compared; judge it with models evaluate"
        )

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Refuse."""
        self.check_comparison(asked.names)
        return ""

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Refuse: it gives no probability."""
        raise DataSetError(f"{self.name} has nothing to calibrate; judge it with models evaluate")
