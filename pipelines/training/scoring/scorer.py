"""Answers to cases, whoever gives them: a network, an ensemble, or the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pipelines.training.data_sets.cases import Entry
from pipelines.training.scoring.case_results import CaseResult


class Scorer(Protocol):
    """Weights that are loaded and ready to score cases."""

    weights: list[str]
    """Their names; several are an ensemble."""

    def score(self, entry: Entry, degrade: Sequence[float] = ()) -> CaseResult:
        """Score a case as it is, and in slices of some thicknesses in mm.

        Raises
        ------
        DataSetError
            Its files cannot be read.
        """


OpenScorer = Callable[[Path, str], Scorer]
"""Loads the weights in a folder on a device, "cpu" or "cuda:0"; raises a WeightsError where there are none."""
