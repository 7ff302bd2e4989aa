"""Everything that can be trained, compared, evaluated or calibrated, by its name on the command line."""

from __future__ import annotations

from pipelines.training.change.trainable import ChangeRule
from pipelines.training.fatsat.trainable import OpticNerveEnsemble
from pipelines.training.flair.recipes import NAMES, check_name
from pipelines.training.flair.trainable import FlairNetwork, FlairPipeline
from pipelines.training.pattern.trainable import LesionPattern
from pipelines.training.plausibility.trainable import Plausibility
from pipelines.training.regions.trainable import Regions
from pipelines.training.trainable import Trainable


def networks() -> list[Trainable]:
    """Return what can be trained, in the order of the list."""
    return [
        *(FlairNetwork(name) for name in NAMES),
        LesionPattern(),
        Regions(),
        OpticNerveEnsemble(),
        ChangeRule(),
    ]


def network_of(name: str) -> Trainable:
    """Return a network, the pipeline, or the check of plausibility, by its name.

    Raises
    ------
    WeightsError
        There is none of that name.
    """
    for network in (*networks(), FlairPipeline(), Plausibility()):
        if network.name == name:
            return network
    check_name(name)
    raise AssertionError("a network of FLAIR is not in the list")
