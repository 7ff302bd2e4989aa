"""The temperature of class probabilities, fitted anew on cases like those that a network will see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import logit

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.calibration import fit_temperature, temperature_of
from pipelines.training.commands import MIN_CALIBRATION_CASES
from pipelines.training.data_sets.cases import read_index
from pipelines.training.data_sets.sample import CLASSES
from pipelines.training.evaluation import scorer_of
from pipelines.training.export import INPUTS, NOT_CALIBRATED, readme
from pipelines.training.options import PATTERN, PIPELINE
from pipelines.training.pattern_training import INPUT
from pipelines.training.recipes import check_name
from pipelines.training.scoring.case_results import CaseResult, line_of
from pipelines.training.scoring.metrics import class_scores
from pipelines.weights import FOLDER, card_details

Report = Callable[[str], None]


def recalibrate(
    name: str,
    data: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    progress: Report = print,
) -> dict[str, float]:
    """Fit the temperature of a network of classes on a data set, and write it on its cards.

    Neither the weights nor which class is the more probable change.

    Parameters
    ----------
    name : str
        A network that tells MS from NMOSD.
    data : Path
        Folder with ``index.csv``; its cases of MS and NMOSD that the network has not learnt from are taken.
    weights : Path, optional
        Folder of the weights; those that are installed by default.
    progress : callable
        Takes a line for each case.

    Returns
    -------
    dict
        ``temperature``, that before (``before``), and the scores of these cases (see `metrics.class_scores`).

    Raises
    ------
    DataSetError, WeightsError
        The data set is not as documented or has too few cases of a class; there are no weights of the network, several, or
        they tell no class.
    """
    folder = weights or FOLDER
    if name == PIPELINE or (name != PATTERN and check_name(name) == "segmentation"):
        raise WeightsError(
            f"{name} is no network that tells classes; joint, five-slices and lesion-pattern are, and {PIPELINE} fits the "
            "interval of the volume"
        )
    scorer = scorer_of(name, folder, resolve_device(device), flips=False)
    if len(scorer.weights) != 1:
        raise WeightsError(f"{folder} has {len(scorer.weights)} weights of {name}; calibrate one at a time")
    (own,) = scorer.weights
    details = card_details(own, folder)
    before, _ = temperature_of(details)
    said: list[CaseResult] = []
    for entry in read_index(data):
        if entry.label in CLASSES:
            result = scorer.score(entry)
            progress(line_of(result))
            if result.nmosd is not None and not result.seen:
                said.append(result)
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
    details |= {
        "temperature": temperature,
        "calibrated": True,
        "calibrated_on": f"fitted on {len(said)} {origins} cases that it has not learnt from",
        "limitations": [text for text in details.get("limitations", []) if text != NOT_CALIBRATED],
    }
    write_cards(own, details, folder)
    pairs = [(result.label, float(result.nmosd)) for result in said if result.nmosd is not None]
    return {"temperature": temperature, "before": before, **class_scores(pairs)}


def write_cards(weights: str, details: dict[str, object], folder: Path) -> None:
    """Write both cards of weights that lie in a folder; ``details`` as `card_details` gives them, changed.

    Raises
    ------
    DataSetError
        The folder cannot be written.
    """
    network = str(details.get("network", weights))
    read = INPUT if network == PATTERN else INPUTS[check_name(network)]
    text = readme(details, read).replace("{digest}", str(details["digest"]))
    try:
        (folder / f"{weights}.json").write_text(
            json.dumps(details, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (folder / f"{weights}.md").write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataSetError(
            f"cannot write the cards in {folder}: {error.strerror}; give a copy of the weights"
        ) from error
