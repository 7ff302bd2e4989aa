"""Evaluation and calibration as the command line asks for them, for whatever scores cases of FLAIR."""

from __future__ import annotations

from pipelines.training.options import CalibrateOptions, EvaluateOptions, index_of
from pipelines.training.results_folder import write_json
from pipelines.training.scoring.evaluation import evaluate, lines_of
from pipelines.training.scoring.recalibration import recalibrate
from pipelines.training.scoring.scorer import OpenScorer
from pipelines.training.trainable import Report


def evaluate_cases(name: str, open_scorer: OpenScorer, asked: EvaluateOptions, report: Report) -> list[str]:
    """Score weights on a data set, write the figures where that is asked for, and return lines for the screen.

    Raises
    ------
    DataSetError, WeightsError
        See `evaluate`; no data set is given.
    """
    degrade = asked.thicknesses_mm
    scores = evaluate(
        name,
        open_scorer,
        index_of(asked.data),
        weights=asked.weights,
        device=asked.device,
        degrade=degrade,
        report=report,
    )
    if asked.file is not None:
        write_json(asked.file, scores)
    return lines_of(scores)


def calibrate_classes(
    name: str, open_scorer: OpenScorer, read: str, asked: CalibrateOptions, report: Report
) -> str:
    """Fit temperature and undecided band of a network of classes, and return a line about it; see `recalibrate`."""
    said = recalibrate(
        name,
        open_scorer,
        asked.data,
        read=read,
        weights=asked.weights,
        device=asked.device,
        report=report,
    )
    return (
        f"temperature {said['temperature']:.3g}, was {said['before']:.3g}; undecided while the probability of MS is from "
        f"{said['low']:.2f} to {said['high']:.2f}; AUC {said['auc']:.2f}, accuracy "
        f"{100 * said['accuracy']:.0f} % of {said['n']:.0f} cases"
    )
