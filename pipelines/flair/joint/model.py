"""The joint network with its weights, for scoring: a cube in, a mask and two probabilities out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.joint.network import JointNetwork
from pipelines.types import BoolArray, FloatArray
from pipelines.weights import FOLDER, card_details, load_weights

WEIGHTS = "joint"


@dataclass(frozen=True)
class JointAnswer:
    """What the joint network says of one cube.

    Parameters
    ----------
    probability : float32 array, shape (k, j, i)
        Of lesion, 0 outside the brain.
    mask : bool array, shape (k, j, i)
        Where it exceeds the threshold of the model card.
    ms, nmosd : float
        Probabilities of the two classes; they sum to 1.
    """

    probability: FloatArray
    mask: BoolArray
    ms: float
    nmosd: float


class JointModel:
    """The joint network, loaded and warm.

    Parameters
    ----------
    device : str
        "cpu", "cuda:0".
    folder : Path
        Of the weights.

    Raises
    ------
    WeightsError
        The weights or their card are missing or damaged.
    """

    def __init__(self, device: str = "cpu", folder: Path = FOLDER) -> None:
        state, self.card = load_weights(WEIGHTS, folder)
        self.threshold = float(card_details(WEIGHTS, folder).get("threshold", 0.5))
        self.device = torch.device(device)
        network = JointNetwork()
        network.load_state_dict(state)
        self._network = network.eval().to(self.device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, cube: FloatArray) -> JointAnswer:
        """Analyse a normalised cube (`pipelines.flair.intensity.normalise`), float32, shape (160, 160, 160)."""
        volume = torch.from_numpy(np.ascontiguousarray(cube, dtype=np.float32))[None, None]
        volume = volume.to(self.device, memory_format=torch.channels_last_3d)
        output = self._network(volume)
        brain = cube > BACKGROUND
        probability = np.where(brain, output.probability[0, 0].float().cpu().numpy(), 0).astype(np.float32)
        shares = torch.softmax(output.classes[0].float(), 0).cpu().tolist()
        return JointAnswer(
            probability=probability,
            mask=probability > self.threshold,
            ms=shares[0],
            nmosd=shares[1],
        )
