"""MS versus NMOSD: when it is asked at all, the joint network's answer, and calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.device import computes_in_bfloat16
from pipelines.errors import PipelineError
from pipelines.flair.calibration import calibrated, temperature_of
from pipelines.flair.heat import localisation
from pipelines.flair.joint.network import CLASSES, JointNetwork
from pipelines.flair.preprocess import Cube
from pipelines.types import FloatArray, Hypothesis, Lesion, ModelCard

MIN_LESIONS = 3
"""[ours] Fewer lesions show no distribution, and it is by the distribution that the classes were taught to differ."""
MIN_TOTAL_MM3 = 300.0
"""[ours] Less is within what the mask gets wrong in a brain without lesions: 0.13 mL in a healthy scan, 0.2 mL at the median of
24 synthetic heads."""
DISEASES = {
    "MS": ("multiple_sclerosis", "Multiple sclerosis"),
    "NMOSD": ("neuromyelitis_optica", "Neuromyelitis optica spectrum disorder"),
}


@dataclass(frozen=True)
class Calibration:
    """The temperature of a network's model card, and whether it was fitted at all."""

    temperature: float = 1.0
    fitted: bool = False

    @classmethod
    def of(cls, details: Mapping[str, object]) -> Calibration:
        """Read a model card; raises `PipelineError` where its temperature is no number above 0."""
        return cls(*temperature_of(details))


UNCALIBRATED = Calibration()


@dataclass(frozen=True)
class JointReading:
    """Reading of one cube by the joint network.

    Parameters
    ----------
    lesion : float32 array, shape (160, 160, 160)
        Probability.
    logits : float32 array, shape (2,)
        Of MS and NMOSD.
    localisation : float32 array, shape (160, 160, 160)
        In [0, 1] in the brain, 0 outside, for the more probable class.
    """

    lesion: FloatArray
    logits: FloatArray
    localisation: FloatArray


class JointReader:
    """The joint network with its card, ready to be asked.

    Parameters
    ----------
    network : JointNetwork
        With its weights.
    card : ModelCard
        Of these weights.
    calibration : Calibration
    device : str
        "cpu", "cuda:0".
    """

    def __init__(
        self, network: JointNetwork, card: ModelCard, calibration: Calibration, device: str = "cpu"
    ) -> None:
        self.card = card
        self.calibration = calibration
        self.device = device
        self._network = network.to(device).eval()

    @torch.inference_mode()
    def __call__(self, cube: Cube) -> JointReading:
        """Run the network on one cube.

        Raises
        ------
        PipelineError
            The network answered with something that is not a number.
        """
        volume = torch.from_numpy(cube.values)[None, None].to(self.device)
        with torch.autocast(volume.device.type, torch.bfloat16, enabled=computes_in_bfloat16(self.device)):
            output = self._network(volume)
        lesion = output.probability[0, 0].float().cpu().numpy()
        logits = output.classes[0].float().cpu().numpy()
        if not (np.isfinite(lesion).all() and np.isfinite(logits).all()):
            raise PipelineError(f"{self.card.name} gave values that are not numbers")
        return JointReading(lesion, logits, localisation(output.localisation, cube.mask))


def not_applicable(lesions: tuple[Lesion, ...]) -> str:
    """Return why MS versus NMOSD is not asked of these lesions, or nothing where it is."""
    if len(lesions) < MIN_LESIONS:
        noun = "lesion" if len(lesions) == 1 else "lesions"
        return f"{len(lesions)} {noun} found, at least {MIN_LESIONS} are needed"
    total_mm3 = sum(lesion.volume_mm3 for lesion in lesions)
    if total_mm3 < MIN_TOTAL_MM3:
        return (
            f"{total_mm3 / 1000:.2f} mL of lesions found, at least {MIN_TOTAL_MM3 / 1000:.1f} mL are needed"
        )
    return ""


def hypotheses(logits: FloatArray, calibration: Calibration, model: str) -> tuple[Hypothesis, ...]:
    """Return the calibrated probability of each class, MS first."""
    shares = calibrated(logits, calibration.temperature)
    return tuple(
        Hypothesis(*DISEASES[name], probability=float(share), calibrated=calibration.fitted, model=model)
        for name, share in zip(CLASSES, shares, strict=True)
    )


def class_name(hypothesis: Hypothesis) -> str:
    """Return the short name of the class that a hypothesis is of."""
    return next(name for name, (code, _) in DISEASES.items() if code == hypothesis.code)
