"""Between which volumes the true total lesion volume lies, by what cases with known lesions have shown.

[ours] A mask leaves out what its networks see and do not believe. How much there is of that (the volume from a probability of
`FAINT` on, over the volume that is reported) tells how far the truth lies from the report. The quantiles of ln(truth / report)
are taken as straight lines in u = ln(faint / report), fitted by quantile regression (Koenker & Bassett, Econometrica 1978,
doi:10.2307/1913643).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from pipelines.errors import PipelineError
from pipelines.flair.lesions import lesion_volume_mm3
from pipelines.types import FloatArray, Interval

FAINT = 0.1
"""Lesion probability from which a voxel counts as one that the networks see at all."""
LEVEL = 0.8
"""Share of the cases whose truth lies between the two lines."""
CARD_KEY = "volume_interval"
"""Where a model card has them, in a list: that of the first network of the ensemble."""

Line = tuple[float, float]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VolumeCalibration:
    """Two quantiles of ln(truth / report), and what they were fitted with.

    Parameters
    ----------
    low, high : (float, float)
        Intercept and slope over u.
    largest : float
        The largest u among the cases; beyond it the lines are not followed.
    level : float
        Share of the cases between the lines.
    held : float
        Share of the cases whose truth lay within when their patient was left out of the fit.
    cases : int
    origins : str
        Of the cases: "synthetic".
    digests : mapping of str to str
        The networks of the ensemble and the sha256 of their weights.
    threshold : float
    flips : bool
    """

    low: Line
    high: Line
    largest: float
    level: float
    held: float
    cases: int
    origins: str
    digests: Mapping[str, str]
    threshold: float
    flips: bool

    @classmethod
    def all_of(cls, details: Mapping[str, Any]) -> tuple[VolumeCalibration, ...]:
        """Read a model card: one for each set of networks that draws masks; none where it states none.

        Raises
        ------
        PipelineError
            What it states is not a list of what `as_card` writes.
        """
        try:
            found = tuple(cls._read(stated) for stated in details.get(CARD_KEY, ()))
        except (TypeError, ValueError, LookupError) as error:
            raise PipelineError(
                f'the model card of "{details.get("name")}" states a {CARD_KEY} that is none; fit it with '
                "'dicom-node models calibrate flair'"
            ) from error
        return found

    @classmethod
    def _read(cls, stated: Mapping[str, Any]) -> VolumeCalibration:
        lines = {key: (float(stated[key][0]), float(stated[key][1])) for key in ("low", "high")}
        found = cls(**{**stated, **lines})
        if not all(map(math.isfinite, (*found.low, *found.high, found.largest, found.held))):
            raise ValueError
        return found

    def as_card(self) -> dict[str, Any]:
        """Return what a model card states."""
        return asdict(self) | {"digests": dict(self.digests)}

    def applies(self, digests: Mapping[str, str], threshold: float, *, flips: bool) -> bool:
        """Tell whether an analysis is done as the cases were: by the same networks, asked in the same way."""
        return (dict(digests), threshold, flips) == (dict(self.digests), self.threshold, self.flips)

    def interval(self, reported_mm3: float, probability: FloatArray, voxel_mm3: float) -> Interval | None:
        """Return between which values the true total volume lies; it holds the reported one in any case.

        None where nothing is reported.

        Parameters
        ----------
        reported_mm3 : float
            Volume of the lesions that are reported.
        probability : float32 array, shape (k, j, i)
            That they were cut from.
        voxel_mm3 : float

        Returns
        -------
        Interval
            In mm3.
        """
        if reported_mm3 <= 0.0:
            return None
        u = math.log(max(faint_volume_mm3(probability, voxel_mm3), reported_mm3) / reported_mm3)
        below, above = bounds(self.low, self.high, min(u, self.largest))
        return Interval(
            reported_mm3 * math.exp(below),
            reported_mm3 * math.exp(above),
            f"that held the truth in {100 * self.held:.0f} % of {self.cases} {self.origins} cases",
        )


def faint_volume_mm3(probability: FloatArray, voxel_mm3: float) -> float:
    """Return the volume of what the networks see at all: components from `FAINT` on."""
    return lesion_volume_mm3(probability >= FAINT, voxel_mm3)


def bounds(low: Line, high: Line, u: float) -> tuple[float, float]:
    """Return the bounds of ln(truth / report) at u; 0, the report itself, always lies within."""
    below, above = (intercept + slope * u for intercept, slope in (low, high))
    return min(below, 0.0), max(above, 0.0)


def fit_lines(u: Numbers, y: Numbers, level: float = LEVEL) -> tuple[Line, Line]:
    """Return the lower and the upper line.

    Parameters
    ----------
    u, y : float64 array, shape (n,)
        ln(faint / report) and ln(truth / report) of the cases.
    level : float
        Share of the cases between the lines.
    """
    tail = (1.0 - level) / 2
    return quantile_line(u, y, tail), quantile_line(u, y, 1.0 - tail)


def quantile_line(u: Numbers, y: Numbers, quantile: float) -> Line:
    """Return the line with the least sum of tilted absolute residuals, which is a linear programme."""
    n = len(u)
    cost = np.concatenate([np.zeros(2), np.full(n, quantile), np.full(n, 1.0 - quantile)])
    equal = np.hstack([np.ones((n, 1)), u[:, None], np.eye(n), -np.eye(n)])
    limits = [(None, None)] * 2 + [(0.0, None)] * (2 * n)
    intercept, slope = linprog(cost, A_eq=equal, b_eq=y, bounds=limits, method="highs").x[:2]
    return float(intercept), float(slope)
