"""The ensemble that says how likely an optic nerve has a lesion: the mean of its members' probabilities (paper 0)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import PipelineError, WeightsError
from pipelines.fatsat.network import LESION, NAME, OpticNerveCNN
from pipelines.fatsat.saliency import Probability, gradient_map, integrated_gradients
from pipelines.fatsat.settings import KINDS, WEIGHTS, CropKind
from pipelines.types import FloatArray
from pipelines.weights import FOLDER, card_details, load_weights


@dataclass(frozen=True)
class EnsembleAnswer:
    """Answer of the ensemble for some crops.

    Parameters
    ----------
    probability : float32 array, shape (B,)
        Of a lesion; mean over the members.
    members : float32 array, shape (n, B)
    """

    probability: FloatArray
    members: FloatArray


class Ensemble:
    """The networks of one crop, loaded and warm.

    Parameters
    ----------
    device : str
        "cpu", "cuda:0".
    folder : Path
        Of the weights.
    members : int, optional
        How many to ask; all by default, and where there are fewer.
    crop : "published" or "along-nerve"
        Which crop they were trained on.

    Raises
    ------
    WeightsError
        Weights or card are missing or damaged, or do not fit the network.
    """

    def __init__(
        self,
        device: str = "cpu",
        folder: Path = FOLDER,
        members: int | None = None,
        crop: CropKind = "published",
    ) -> None:
        name = WEIGHTS[crop]
        state, self.card = load_weights(name, folder)
        details = card_details(name, folder)
        told, threshold = details.get("crop"), details.get("threshold")
        if details.get("network") != NAME or told != crop or told not in KINDS:
            raise WeightsError(
                f'weights "{name}" are of network {details.get("network")!r} and crop {told!r}, not {NAME!r} and {crop!r}; '
                "reinstall dicom-node, or make them again with 'dicom-node models train fatsat'"
            )
        if not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise WeightsError(f'the card of weights "{name}" states no threshold between 0 and 1')
        self.device = device
        self.crop_kind: CropKind = crop
        self.threshold = float(threshold)
        try:
            self._networks = [_member(state, number, device) for number in range(_count(state, members))]
        except (RuntimeError, IndexError) as error:
            raise WeightsError(f'weights "{name}" do not fit the network of this version') from error

    @classmethod
    def of_networks(cls, networks: list[OpticNerveCNN], *, crop: CropKind, threshold: float) -> Ensemble:
        """Return an ensemble of networks at hand, without weights on disk; it has no card."""
        made = cls.__new__(cls)
        made.device, made.crop_kind, made.threshold = "cpu", crop, threshold
        made._networks = [network.eval().requires_grad_(False) for network in networks]
        return made

    @property
    def networks(self) -> list[OpticNerveCNN]:
        """The members; not to be changed."""
        return self._networks

    def __len__(self) -> int:
        return len(self._networks)

    def __call__(self, batch: FloatArray, members: int | None = None) -> EnsembleAnswer:
        """Classify z-scored crops.

        Parameters
        ----------
        batch : float32 array, shape (B, 13, 31, 40)
            From `pipelines.fatsat.crop.normalised`.
        members : int, optional
            How many to ask; all by default.

        Raises
        ------
        PipelineError
            The networks answered with something that is not a number.
        """
        crops = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32))[:, None]
        with torch.inference_mode():
            said = [member(crops)[:, LESION].cpu().numpy() for member in self._members(members)]
        answers = np.asarray(np.stack(said), dtype=np.float32)
        if not np.isfinite(answers).all():
            raise PipelineError("the optic nerve networks gave values that are not numbers")
        return EnsembleAnswer(np.asarray(answers.mean(axis=0), dtype=np.float32), answers)

    def gradient_saliency(self, values: FloatArray, cls: int, members: int | None = None) -> FloatArray:
        """Return `saliency.gradient_map` of a z-scored crop (13, 31, 40) for class 0 or 1."""
        return gradient_map(self._members(members), values, cls)

    def integrated_gradients(self, values: FloatArray, cls: int, members: int | None = None) -> FloatArray:
        """Return `saliency.integrated_gradients` of a z-scored crop (13, 31, 40) for class 0 or 1."""
        return integrated_gradients(self._members(members), values, cls)

    def _members(self, members: int | None) -> list[Probability]:
        return [partial(_probability, network, self.device) for network in self._networks[:members]]


def stacked(networks: list[OpticNerveCNN]) -> dict[str, Tensor]:
    """Return the parameters of several networks as they are stored: the members along a new first axis."""
    states = [network.state_dict() for network in networks]
    return {key: torch.stack([state[key].detach().cpu() for state in states]) for key in states[0]}


def _probability(network: nn.Module, device: str, crops: Tensor) -> Tensor:
    given = crops.to(device).contiguous(memory_format=torch.channels_last_3d)
    found: Tensor = torch.softmax(network(given).float(), dim=1)
    return found


def _count(state: dict[str, Tensor], members: int | None) -> int:
    there = min(len(tensor) for tensor in state.values())
    return there if members is None else min(members, there)


def _member(state: dict[str, Tensor], number: int, device: str) -> OpticNerveCNN:
    network = OpticNerveCNN()
    network.load_state_dict({key: tensor[number] for key, tensor in state.items()})
    network = network.eval().requires_grad_(False).to(device)
    return network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload, no-any-return]
