"""Shares of the ensemble's networks in the mask, by the distance of the slices that they are shown.

[ours] A network is at home on slices like those that it learnt from. Its say is a share in the mean of the logits, one set of
shares for thin, one for medium and one for thick slices; the mean is then calibrated, so that a probability of 0.5 is worth
what it says (Platt 1999: sigmoid(slope * logit + offset)). Shares and calibration stand on the model card of the first network.

A network may also be asked for a second opinion: without it no large region counts (`pipelines.flair.lesion_rule`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from pipelines.errors import PipelineError
from pipelines.types import FloatArray

MEDIUM_MM, THICK_MM = 4.0, 5.5
"""Distances of neighbouring slices from which they are medium, and thick."""
CARD_KEY = "weighing"
"""Where a model card has it: that of the first network of the ensemble."""
LEAST = 1e-3
"""Probabilities are kept so far from 0 and 1 in the mean: no network outvotes the others by being sure."""

Kind = Literal["thin", "medium", "thick"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def kind_of(slices_mm: float) -> Kind:
    """Return the kind of slices so far apart, in mm from centre to centre."""
    if slices_mm >= THICK_MM:
        return "thick"
    return "medium" if slices_mm >= MEDIUM_MM else "thin"


@dataclass(frozen=True)
class Weighing:
    """Shares of the networks for one kind of slices.

    Parameters
    ----------
    shares : mapping of str to float
        Networks that are asked, by name, and their shares; empty: all, equally.
    flips : bool
        Whether the mirrored brain is worth its time.
    slope, offset : float
        Of the calibration.
    second : str
        Network whose opinion a large region needs as well; "": none.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    flips: bool = True
    slope: float = 1.0
    offset: float = 0.0
    second: str = ""

    @classmethod
    def of(cls, details: Mapping[str, Any], kind: Kind) -> Weighing:
        """Read a model card; equal shares where it states none, those of thin slices where it states none for medium ones.

        Raises
        ------
        PipelineError
            What it states is not what `as_card` writes.
        """
        stated = details.get(CARD_KEY)
        if stated is None:
            return cls()
        try:
            known = stated["thin"] if kind == "medium" and kind not in stated else stated[kind]
            found = cls(**known)
            shares = [float(share) for share in found.shares.values()]
            numbers = (*shares, float(found.slope), float(found.offset))
            is_whole = (
                all(map(math.isfinite, numbers))
                and bool(shares)
                and min(shares) > 0
                and found.slope > 0
                and isinstance(found.flips, bool)
                and isinstance(found.second, str)
            )
        except (TypeError, ValueError, LookupError, AttributeError):
            is_whole = False
        if not is_whole:
            raise PipelineError(
                f'the model card of "{details.get("name")}" states a {CARD_KEY} that is none; reinstall dicom-node'
            )
        return found

    def as_card(self) -> dict[str, Any]:
        """Return what a model card states."""
        return asdict(self) | {"shares": dict(self.shares)}

    def asked(self, names: Sequence[str], members: int | None = None) -> dict[str, float]:
        """Return the networks to ask and their shares, which add up to 1; those of the largest share first.

        Parameters
        ----------
        names : sequence of str
            Networks that are there, the best first.
        members : int, optional
            How many to ask at most; all by default.
        """
        there = {name: self.shares[name] for name in names if name in self.shares}
        if not there:
            there = dict.fromkeys(names, 1.0)
        first = sorted(there, key=lambda name: -there[name])[:members]
        total = sum(there[name] for name in first)
        return {name: there[name] / total for name in first}

    def calibrated(self, probability: npt.NDArray[np.floating[Any]]) -> FloatArray:
        """Return calibrated probabilities; 0 stays 0."""
        values = np.asarray(probability, dtype=np.float32)
        if (self.slope, self.offset) == (1.0, 0.0):
            return values
        said = expit(self.slope * logit(np.clip(values, LEAST, 1 - LEAST)) + self.offset)
        return np.where(values > 0, said, 0).astype(np.float32)

    def combined(self, probabilities: Sequence[FloatArray], shares: Sequence[float]) -> FloatArray:
        """Return the calibrated mean of the logits; 0 where all are.

        Parameters
        ----------
        probabilities : sequence of float32 array, all of one shape
            One for each network.
        shares : sequence of float
            Theirs, with a sum of 1.
        """
        if len(probabilities) == 1:
            return self.calibrated(probabilities[0])
        mean = np.zeros(probabilities[0].shape, dtype=np.float32)
        inside = np.zeros(mean.shape, dtype=np.bool_)
        for probability, share in zip(probabilities, shares, strict=True):
            mean += np.float32(share) * logit(np.clip(probability, LEAST, 1 - LEAST)).astype(np.float32)
            inside |= probability > 0
        return self.calibrated(np.where(inside, expit(mean), 0))
