"""The protocol of everything that ``dicom-node models`` trains, evaluates, compares or calibrates by a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pipelines.training.options import CalibrateOptions, CompareOptions, EvaluateOptions, TrainOptions

Report = Callable[[str], None]
"""Takes a line for the screen."""


class Part(Protocol):
    """Part of a training that a progress bar shows: its name, and how many steps it has."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102


Watch = Callable[[Part, int, dict[str, float]], None]
"""Told of each step: the part, how many of its steps are done, and figures such as the loss."""


class Trainable(Protocol):
    """Network, ensemble or pipeline by its name.

    Each method raises a PipelineError, one line that names the way out, where the network cannot do it, where what it needs
    is not installed, or where data, weights or folder are not right.
    """

    name: str
    kind: str
    """Kind for the list of networks."""
    unknown: tuple[str, ...]
    """Options, by the names of their fields, that it refuses."""

    def recipe(self, device: str) -> str:
        """Return how it is trained on "cpu" or "cuda:0", for the list of networks."""

    def train(self, asked: TrainOptions, report: Report, watch: Watch) -> Path:
        """Train it into the results folder, and return the model card of its weights."""

    def evaluate(self, asked: EvaluateOptions, report: Report, watch: Watch) -> Sequence[str]:
        """Score it, write the file of ``--json``, and return lines for the screen."""

    def check_comparison(self, names: Sequence[str]) -> None:
        """Refuse to be compared with networks of these names, its own among them."""

    def compare(self, asked: CompareOptions, report: Report, watch: Watch) -> str:
        """Train or load all that are named, and return the tables; the first of them is asked."""

    def calibrate(self, asked: CalibrateOptions, report: Report) -> str:
        """Fit how sure it may be, write that on the model card, and return a line about it."""
