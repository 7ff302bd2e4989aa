"""Input and output of a comparison of two time points: numpy arrays and dataclasses only.

Axes, frames and units are those of :mod:`pipelines.types`. "Current" is the later examination, "prior" the earlier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pipelines.types import (
    Affine,
    BoolArray,
    FloatArray,
    Laterality,
    Lesion,
    ModelCard,
    Point,
    Region,
    Volume,
)

LabelArray = npt.NDArray[np.int32]

Change = Literal["new", "enlarging", "smaller", "resolved"]
Grade = Literal["A", "B", "C", "D"]
"""Comparability of two acquisitions: A alike, B slightly different, C of different kinds, D not comparable."""

CHANGES: tuple[Change, ...] = get_args(Change)
"""In the order of reports."""
WITHIN_ERROR = 0.15
"""Change of the total volume, over the mean of both, up to which it is said to be within measurement error."""


@dataclass(frozen=True)
class Examined:
    """One FLAIR volume and what its analysis found, as far as a comparison needs it.

    Parameters
    ----------
    volume : Volume
        On its native grid.
    brain : bool array, shape (k, j, i)
    probability : float32 array, shape (k, j, i)
        Of a lesion, in [0, 1].
    labels : int32 array, shape (k, j, i)
        IDs of the lesions, 0 elsewhere.
    lesions : tuple of Lesion
        The ones that ``labels`` holds.
    models : tuple of ModelCard
        Behind the probability.
    """

    volume: Volume
    brain: BoolArray
    probability: FloatArray
    labels: LabelArray
    lesions: tuple[Lesion, ...] = ()
    models: tuple[ModelCard, ...] = ()


@dataclass(frozen=True)
class AcquisitionRow:
    """One line of the table of both acquisitions, as text with its unit ("echo time", "100 ms", "128 ms")."""

    name: str
    current: str
    prior: str
    differs: bool


@dataclass(frozen=True)
class Comparability:
    """Comparability of two acquisitions.

    Parameters
    ----------
    grade : Grade
    reasons : tuple of str
        Why it is no better one, each in a few words ("the field strength differs"); empty at grade A.
    table : tuple of AcquisitionRow
        Both acquisitions side by side.
    different : tuple of str
        Those of the reasons that make it C.
    """

    grade: Grade
    reasons: tuple[str, ...] = ()
    table: tuple[AcquisitionRow, ...] = ()
    different: tuple[str, ...] = ()


@dataclass(frozen=True)
class LesionChange:
    """One place in the brain that has changed.

    Parameters
    ----------
    number : int
        Its value in ``Comparison.labels``, from 1.
    change : Change
    possible : bool
        True when it is too faint, too small or too little comparable for a headline.
    volume_mm3, prior_volume_mm3 : float
        Of the whole lesion then and now; 0 where there was, or is, none.
    centre_lps : Point
        Of the change, in the frame of the current image.
    slices_k : (int, int)
        First and last slice of the current image.
    lesion, prior_lesion : int or None
        IDs of the lesion in the findings of both examinations; None where the mask has none there.
    region, laterality
        Of the lesion that it belongs to; None where they are not known.
    long_axis_mm : float or None
        Of the change.
    """

    number: int
    change: Change
    possible: bool
    volume_mm3: float
    prior_volume_mm3: float
    centre_lps: Point
    slices_k: tuple[int, int]
    lesion: int | None = None
    prior_lesion: int | None = None
    region: Region | None = None
    laterality: Laterality | None = None
    long_axis_mm: float | None = None


@dataclass(frozen=True)
class LesionMatch:
    """Lesions of both examinations that share voxels, by their IDs, and how much they share, in mm3."""

    lesion: int
    prior_lesion: int
    shared_mm3: float


def heirs_of(matches: Iterable[LesionMatch]) -> dict[int, int]:
    """Return, for each lesion of the prior, the lesion of now that shares most with it, by their IDs."""
    heirs: dict[int, int] = {}
    for match in sorted(matches, key=lambda one: (one.prior_lesion, -one.shared_mm3, one.lesion)):
        heirs.setdefault(match.prior_lesion, match.lesion)
    return heirs


@dataclass(frozen=True)
class UnchangedLesion:
    """Lesion that was there before and is in no change.

    Parameters
    ----------
    lesion : int
        Its ID in the current findings.
    volume_mm3, prior_volume_mm3 : float
        Now and then, each on the grid of its own image.
    centre_lps : Point
    point_lps : Point
        Within the lesion, on its largest slice of the current image.
    region, laterality
        None where they are not known.
    """

    lesion: int
    volume_mm3: float
    prior_volume_mm3: float
    centre_lps: Point
    point_lps: Point
    region: Region | None = None
    laterality: Laterality | None = None


@dataclass(frozen=True)
class SelfGrade:
    """Trial of a comparison on itself: lesions painted into the prior, how many were found, and how many false ones."""

    painted: int
    found: int
    false: int


@dataclass(frozen=True)
class Comparison:
    """Changes between two examinations of one patient.

    Parameters
    ----------
    comparability : Comparability
        At grade D nothing else is filled in but ``not_compared``.
    not_compared : str
        Why there is no comparison, in one line; empty where there is one.
    changes : tuple of LesionChange
        In the order of `CHANGES`, the largest first.
    labels : int32 array, shape (k, j, i), or None
        Numbers of the changes on the grid of the current image, 0 elsewhere; resolved lesions where they were.
    matches : tuple of LesionMatch
    unchanged : tuple of UnchangedLesion
        The largest first. Lesions that the prior's mask does not have and that are too faint or small for the rule to call them
        new stand neither here nor among the changes.
    volume_mm3, prior_volume_mm3 : float
        Of all lesions together.
    prior_on_current : float32 array, shape (k, j, i), or None
        Intensities of the prior on the grid of the current image, 0 outside of its field of view.
    current_to_prior : float64 array, shape (4, 4), or None
        Patient positions of the current image, mm, LPS, to those of the prior.
    self_grade : SelfGrade or None
        None where it was not tried.
    """

    comparability: Comparability
    not_compared: str = ""
    changes: tuple[LesionChange, ...] = ()
    labels: LabelArray | None = None
    matches: tuple[LesionMatch, ...] = ()
    unchanged: tuple[UnchangedLesion, ...] = ()
    volume_mm3: float = 0.0
    prior_volume_mm3: float = 0.0
    prior_on_current: FloatArray | None = None
    current_to_prior: Affine | None = None
    self_grade: SelfGrade | None = None
    warnings: tuple[str, ...] = ()
    models: tuple[ModelCard, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)

    def count(self, change: Change, *, possible: bool = False) -> int:
        """Return how many changes of a kind there are, sure ones unless the possible ones are asked for."""
        return sum(one.change == change and one.possible == possible for one in self.changes)

    @property
    def is_within_error(self) -> bool:
        """True when the total volume changed by less than two scans of an unchanged brain may differ."""
        # Of the mean of both, so that swapping the studies changes nothing.
        mean = (self.volume_mm3 + self.prior_volume_mm3) / 2
        return abs(self.volume_mm3 - self.prior_volume_mm3) <= WITHIN_ERROR * mean
