"""Temperature and undecided band of class probabilities, fitted anew on cases like those that a network will see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import logit

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.calibration import calibrated, fit_temperature, temperature_of
from pipelines.training.cards import NOT_CALIBRATED, write_cards
from pipelines.training.data_sets.cases import read_index
from pipelines.training.data_sets.sample import CLASSES
from pipelines.training.scoring.case_results import CaseResult, line_of
from pipelines.training.scoring.metrics import class_scores
from pipelines.training.scoring.scorer import OpenScorer, Scorer
from pipelines.training.scoring.undecided import card_entries
from pipelines.weights import FOLDER, card_details

Report = Callable[[str], None]
MIN_CALIBRATION_CASES = 4
"""Of each class."""


def recalibrate(
    name: str,
    open_scorer: OpenScorer,
    data: Path,
    *,
    read: str,
    weights: Path | None = None,
    device: str = "auto",
    report: Report = print,
) -> dict[str, float]:
    """Fit the temperature of a network of classes and its undecided band on a data set, and write both on its cards.

    Neither the weights nor which class is the more probable change.

    Parameters
    ----------
    name : str
        A network that tells MS from NMOSD.
    open_scorer : callable
        Loads its weights.
    data : Path
        Folder with ``index.csv``; its cases of MS and NMOSD that the network has not learnt from are taken.
    read : str
        Input of the network, for the card.
    weights : Path, optional
        Folder of the weights; those that are installed by default.
    report : callable
        Takes a line for each case.

    Returns
    -------
    dict
        ``temperature``, that before (``before``), the band (``low``, ``high``), and the scores of these cases (see
        `metrics.class_scores`).

    Raises
    ------
    DataSetError, WeightsError
        The data set is not as documented or has too few cases of a class; there are no weights of the network, or several.
    """
    folder = weights or FOLDER
    scorer = open_scorer(folder, resolve_device(device))
    if len(scorer.weights) != 1:
        raise WeightsError(f"{folder} has {len(scorer.weights)} weights of {name}; calibrate one at a time")
    (own,) = scorer.weights
    details = card_details(own, folder)
    before, _ = temperature_of(details)
    said = _answers(scorer, data, report)
    targets = [CLASSES.index(result.label) for result in said]
    fewest = min(targets.count(0), targets.count(1))
    if fewest < MIN_CALIBRATION_CASES:
        raise DataSetError(
            f"{data} has {fewest} cases of a class that {name} tells and has not learnt from; "
            f"at least {MIN_CALIBRATION_CASES} of MS and of NMOSD are needed"
        )
    shares = np.clip(np.array([result.nmosd for result in said], dtype=np.float64), 1e-6, 1 - 1e-6)
    logits = np.stack([np.zeros(len(said)), before * logit(shares)], axis=1)
    temperature = fit_temperature(logits, targets)
    origins = " and ".join(sorted({result.origin for result in said}))
    of_ms = calibrated(logits, temperature)[:, 0]
    band = card_entries(of_ms, [target == 0 for target in targets], origins)
    details |= {
        "temperature": temperature,
        "calibrated": True,
        "calibrated_on": f"fitted on {len(said)} {origins} cases that it has not learnt from",
        **band,
        "limitations": [text for text in details.get("limitations", []) if text != NOT_CALIBRATED],
    }
    write_cards(own, details, read, folder)
    pairs = [(result.label, float(result.nmosd)) for result in said if result.nmosd is not None]
    low, high = band["undecided"]
    fitted = {"temperature": temperature, "before": before, "low": low, "high": high}
    return {**fitted, **class_scores(pairs)}


def _answers(scorer: Scorer, data: Path, report: Report) -> list[CaseResult]:
    """Return what is said of the cases with a class that were not learnt from."""
    said = []
    for entry in read_index(data):
        if entry.label in CLASSES:
            result = scorer.score(entry)
            report(line_of(result))
            if result.nmosd is not None and not result.seen:
                said.append(result)
    return said
