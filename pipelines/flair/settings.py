"""Settings of the FLAIR pipeline, and the weights that it uses; importing this loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines import weights
from pipelines.errors import PipelineError
from pipelines.settings import checked_members, checked_threshold, digest_of, with_defaults

MASK_WEIGHTS = ("nnunet", "nnunet-thick")
"""The ensemble that draws the mask, the second at home on thick slices (`pipelines.flair.weighing`).

Where none of it is installed, the joint network draws it.
"""
JOINT_WEIGHTS = "joint"
FIVE_SLICES_WEIGHTS = "five-slices"
PATTERN_WEIGHTS = "lesion-pattern"
REGIONS_WEIGHTS = "regions"
DECISIVE = (
    "network",
    "temperature",
    "calibrated",
    "volume_interval",
    "lesion_probability",
    "undecided",
    "weighing",
)
"""What a model card says beside the weights' digest that changes results."""


@dataclass(frozen=True)
class Settings:
    """The settings of one analysis.

    Parameters
    ----------
    threshold : float
        Probability from which a voxel is lesion.
    members : int
        How many networks of the ensemble to ask at most, those of the largest share first.
    flips : bool
        Ask about the left-right mirrored brain as well, where it pays: on thick slices.
    """

    threshold: float = 0.5
    members: int = 2
    flips: bool = True


def default_settings() -> dict[str, object]:
    """Return every setting with its default."""
    return asdict(Settings())


def settings_of(given: Mapping[str, object]) -> Settings:
    """Return checked settings; what is not given has its default.

    Raises
    ------
    PipelineError
        A setting is unknown or out of range.
    """
    values = with_defaults(given, default_settings(), "flair")
    threshold = checked_threshold(values["threshold"], "flair")
    members = checked_members(values["members"], "flair")
    flips = values["flips"]
    if not isinstance(flips, bool):
        raise PipelineError(f"flips of the flair pipeline must be true or false, not {flips!r}")
    return Settings(threshold, members, flips)


def weights_used(folder: Path = weights.FOLDER) -> tuple[str, ...]:
    """Return the names of the weights that the pipeline uses, as far as they are installed; the joint network's always."""
    there = weights.installed(folder)
    optional = (*MASK_WEIGHTS, FIVE_SLICES_WEIGHTS, PATTERN_WEIGHTS, REGIONS_WEIGHTS)
    return (*(name for name in optional if name in there), JOINT_WEIGHTS)


def weights_digest(folder: Path = weights.FOLDER) -> str:
    """Return one digest (sha256, hex) for all weights that the pipeline uses, and for what their cards add to the numbers.

    Raises
    ------
    WeightsError
        A model card is missing or unreadable.
    """
    return digest_of(weights_used(folder), DECISIVE, folder)
