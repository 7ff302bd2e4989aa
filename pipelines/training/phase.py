"""Phases of a training: how long, on what crops, and with which learning rate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

Schedule = Literal["cosine", "halve", "constant"]
WHOLE = 160
"""Edge of a whole volume."""
PAPER_PATIENCE = 10
"""Epochs without improvement after which paper 3 halves its learning rate."""


@dataclass(frozen=True)
class Phase:
    """One part of a training.

    Parameters
    ----------
    name : str
    edge : int
        Of the crops, in voxels; 160: whole volumes. Networks of pooled volumes or slices take whole volumes.
    batch : int
    steps : int
    minutes : float
        The phase ends, with its learning rate annealed, when either is used up.
    rate : float
        Peak learning rate.
    joint : bool
        False trains the lesion mask alone.
    schedule : "cosine", "halve" or "constant"
        [ours] cosine: warmed up over 40 steps and annealed by half a cosine. halve: halved after ``patience`` epochs without
        a better validation score, as in paper 3.
    decay : bool
        AdamW with a weight decay of 1e-4 rather than Adam.
    epoch : int
        Steps between two validations.
    patience : int
        See ``schedule``.
    stop : int
        The phase ends after so many epochs without a better score; 0: never.
    refit : bool
        The joint network's last layer is fitted to what the others have learnt before the first step; see `flair.last_layer`.
    """

    name: str
    edge: int
    batch: int
    steps: int
    minutes: float
    rate: float
    joint: bool
    schedule: Schedule = "cosine"
    decay: bool = True
    epoch: int = 200
    patience: int = PAPER_PATIENCE
    stop: int = 0
    refit: bool = False

    def text(self) -> str:
        """Return it as a few words."""
        size = "volumes" if self.edge == WHOLE else f"crops of {self.edge}"
        time = "" if math.isinf(self.minutes) else f", at most {self.minutes:.0f} min"
        optimiser = "AdamW" if self.decay else "Adam"
        return f"{self.steps} steps of {self.batch} {size}{time}, {optimiser} {self.rate:g} {self.schedule}"

    def as_dict(self) -> dict[str, object]:
        """Return it for a file; an endless time is None."""
        return {**asdict(self), "minutes": None if math.isinf(self.minutes) else self.minutes}

    @classmethod
    def from_dict(cls, stored: dict[str, object]) -> Phase:
        """Return what `as_dict` stored."""
        return cls(**{**stored, "minutes": stored["minutes"] or math.inf})  # type: ignore[arg-type]
