"""Temperature scaling: probabilities that are as often right as they say.

References
----------
Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, section 4.2 and equations 3 and 9.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from pipelines.errors import PipelineError

TEMPERATURE_RANGE = (0.05, 20.0)
"""[ours] Bounds of the fit: logits that separate a small held-out set have their best likelihood at temperature 0."""
BINS = 15
"""Equal bins of confidence, as in the paper's tables."""

Numbers = npt.NDArray[np.float64]


def fit_temperature(logits: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """Return the temperature with the highest likelihood on cases that the network has not learnt from.

    Parameters
    ----------
    logits : float array, shape (n, classes)
        One temperature for all classes: which class comes first never changes.
    target : integer array, shape (n,)
        The true class of each case.

    Returns
    -------
    float
        Within `TEMPERATURE_RANGE`; above 1 for a network that is too sure of itself.

    Raises
    ------
    ValueError
        No cases, shapes that do not fit, or logits that are not numbers.
    """
    values, classes = _cases(logits, target)
    rows = np.arange(len(values))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(values / np.exp(log_temperature), axis=1)[rows, classes].mean())

    low, high = np.log(TEMPERATURE_RANGE)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def calibrated(logits: npt.ArrayLike, temperature: float) -> Numbers:
    """Return softmax(logits / temperature), float64, the shape of the logits; classes are the last axis.

    Raises
    ------
    ValueError
        The temperature is not above 0.
    """
    if not temperature > 0.0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    return np.asarray(softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1))


def expected_calibration_error(
    probabilities: npt.ArrayLike, target: npt.ArrayLike, bins: int = BINS
) -> float:
    """Return the mean distance of confidence and accuracy over bins of confidence, weighted by their cases.

    Parameters
    ----------
    probabilities : float array, shape (n, classes)
        Each row adds up to 1; the confidence of a case is its largest.
    target : integer array, shape (n,)
    bins : int
        Of equal width over (0, 1]; empty ones count nothing.

    Returns
    -------
    float
        In [0, 1]; 0 where every bin is right as often as it says.

    Raises
    ------
    ValueError
        No cases, or shapes that do not fit.
    """
    values, classes = _cases(probabilities, target)
    confidence = values.max(axis=1)
    right = (values.argmax(axis=1) == classes).astype(np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(values))


def temperature_of(details: Mapping[str, object]) -> tuple[float, bool]:
    """Return what a model card says of calibration: the temperature, and whether it was fitted at all.

    A card without "temperature" is one of a network that is not calibrated: (1.0, False).

    Raises
    ------
    PipelineError
        The card's temperature is not a number above 0.
    """
    stated = details.get("temperature")
    if stated is None:
        return 1.0, False
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not stated > 0.0:
        raise PipelineError(
            f'the model card of "{details.get("name")}" states the temperature {stated!r}: a number above 0 is due'
        )
    return float(stated), bool(details.get("calibrated", True))


def _cases(values: npt.ArrayLike, target: npt.ArrayLike) -> tuple[Numbers, npt.NDArray[np.intp]]:
    rows, classes = np.asarray(values, dtype=np.float64), np.asarray(target, dtype=np.intp)
    if rows.ndim != 2 or classes.shape != rows.shape[:1] or not len(rows):
        raise ValueError(
            f"{rows.shape} values and {classes.shape} targets are not (n, classes) and (n,), n >= 1"
        )
    if not np.isfinite(rows).all():
        raise ValueError("values that are not numbers cannot be calibrated")
    return rows, classes
