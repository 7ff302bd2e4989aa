"""Probability that a region of the mask is a lesion that an expert would draw, by what regions of labelled scans have shown.

The mean probability of a region's voxels tells how much of it is lesion; it does not tell how often such regions are lesions at
all. [ours] That is a logistic regression of "an expert has drawn some of it" on the logit of the mean and the logarithm of the
volume (Platt 1999 with one more input). How far the answer moves with the patients that it was fitted on is told by a bootstrap
over patients (Efron & Tibshirani 1993), whose covariance of the coefficients stands on the model card.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from pipelines.errors import PipelineError
from pipelines.types import Interval, Lesion

CARD_KEY = "lesion_probability"
"""Where a model card has it, in a list: that of the first network of the ensemble."""
LEVEL = 0.8
TAIL = 1.2816
"""Standard deviations on each side that hold `LEVEL` of a normal distribution."""
LEAST = 1e-3
"""Mean probabilities are kept so far from 0 and 1."""
LEAST_DEVIANCE = 0.25
"""Of a coefficient beside the intercept: pull towards 0, as of a normal prior with a variance of 4."""
RESAMPLES = 200

Numbers = npt.NDArray[np.float64]
Row = tuple[float, float, float]


def inputs(mean: npt.ArrayLike, volume_mm3: npt.ArrayLike) -> Numbers:
    """Return 1, the logit of the mean probability and log10 of the volume in mm3; float64, shape (n, 3)."""
    logits = logit(np.clip(np.asarray(mean, dtype=np.float64), LEAST, 1 - LEAST))
    sizes = np.log10(np.asarray(volume_mm3, dtype=np.float64))
    return np.stack([np.ones_like(logits), logits, sizes], axis=-1)


def fit(x: Numbers, is_lesion: npt.NDArray[np.bool_]) -> Numbers:
    """Return the coefficients of a logistic regression, shape (p,); the first column of ``x``, (n, p), is 1."""
    target = is_lesion.astype(np.float64)
    pull = np.full(x.shape[1], LEAST_DEVIANCE)
    pull[0] = 0.0

    def loss(b: Numbers) -> tuple[float, Numbers]:
        z = x @ b
        value = np.logaddexp(0, z).sum() - target @ z + 0.5 * (pull * b**2).sum()
        return float(value), x.T @ (expit(z) - target) + pull * b

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS")
    return np.asarray(found.x, dtype=np.float64)


def covariance(
    x: Numbers, is_lesion: npt.NDArray[np.bool_], patients: npt.NDArray[np.str_], seed: int = 0
) -> Numbers:
    """Return the covariance of the coefficients when the patients are drawn anew, shape (p, p)."""
    names, rng = np.unique(patients), np.random.default_rng(seed)
    rows = [np.flatnonzero(patients == name) for name in names]
    found = []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([rows[n] for n in rng.integers(len(names), size=len(names))])
        found.append(fit(x[chosen], is_lesion[chosen]))
    return np.asarray(np.cov(np.array(found).T), dtype=np.float64)


@dataclass(frozen=True)
class LesionCalibration:
    """Coefficients of the regression with their covariance, and what they were fitted on.

    Parameters
    ----------
    coefficients : three floats
        Of 1, the logit of the mean probability, log10 of the volume in mm3.
    covariance : three rows of three floats
    lesions, patients : int
        In the fit, of real scans.
    digests : mapping of str to str
        The networks that drew the mask and the sha256 of their weights.
    threshold : float
    flips : bool
    """

    coefficients: Row
    covariance: tuple[Row, Row, Row]
    lesions: int
    patients: int
    digests: Mapping[str, str]
    threshold: float
    flips: bool

    @classmethod
    def all_of(cls, details: Mapping[str, Any]) -> tuple[LesionCalibration, ...]:
        """Read a model card: one for each set of networks that draws masks; none where it states none.

        Raises
        ------
        PipelineError
            What it states is not a list of what `as_card` writes.
        """
        try:
            return tuple(cls._read(stated) for stated in details.get(CARD_KEY, ()))
        except (TypeError, ValueError, LookupError) as error:
            raise PipelineError(
                f'the model card of "{details.get("name")}" states a {CARD_KEY} that is none; reinstall dicom-node'
            ) from error

    @classmethod
    def _read(cls, stated: Mapping[str, Any]) -> LesionCalibration:
        rows = [tuple(map(float, row)) for row in (stated["coefficients"], *stated["covariance"])]
        if [len(row) for row in rows] != [3] * 4 or not all(math.isfinite(x) for row in rows for x in row):
            raise ValueError
        return cls(**{**stated, "coefficients": rows[0], "covariance": tuple(rows[1:])})

    def as_card(self) -> dict[str, Any]:
        """Return what a model card states."""
        return asdict(self) | {"digests": dict(self.digests)}

    def applies(self, digests: Mapping[str, str], threshold: float, *, flips: bool) -> bool:
        """Tell whether a mask is drawn as those of the fit were: by the same networks, asked in the same way."""
        return (dict(digests), threshold, flips) == (dict(self.digests), self.threshold, self.flips)

    def told(self, lesion: Lesion) -> Lesion:
        """Return a lesion with its probability, which was the mean over its voxels, calibrated, and with its interval."""
        x = inputs([lesion.probability], [lesion.volume_mm3])[0]
        z = float(x @ np.array(self.coefficients))
        spread = TAIL * math.sqrt(max(float(x @ np.array(self.covariance) @ x), 0.0))
        probability, low, high = (float(expit(at)) for at in (z, z - spread, z + spread))
        basis = f"by {self.lesions} lesions of {self.patients} labelled patients"
        return replace(lesion, probability=probability, probability_interval=Interval(low, high, basis))
