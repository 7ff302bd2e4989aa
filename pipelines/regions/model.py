"""The network of structures, loaded and warm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.brain.cube import box_around
from pipelines.device import computes_in_bfloat16
from pipelines.errors import PipelineError, WeightsError
from pipelines.regions.brain_map import StructureArray
from pipelines.regions.network import REGIONS, STEP, RegionsNetwork, shuffled
from pipelines.types import BoolArray, FloatArray
from pipelines.weights import FOLDER, load_weights


@torch.inference_mode()
def said_of(network: RegionsNetwork, volume: Tensor) -> Tensor:
    """Return the logits of coarse voxels, (K / 2, J / 2, I / 2, 9, 8), of a volume, (1, 1, K, J, I), in float32."""
    kind = volume.device.type
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(kind, torch.bfloat16, enabled=computes_in_bfloat16(kind)):
        said: Tensor = network.told(network.features(volume))[0]
    return said.float()


class RegionsModel:
    """Tells the structures of a brain.

    Parameters
    ----------
    device : str
        "cpu", "cuda:0".
    folder : Path
        Of the weights.

    Raises
    ------
    WeightsError
        Weights or card are missing or damaged, or do not fit the network.
    """

    def __init__(self, device: str = "cpu", folder: Path = FOLDER) -> None:
        state, self.card = load_weights(REGIONS, folder)
        network = RegionsNetwork()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f'weights "{REGIONS}" do not fit the network of this version') from error
        self.device = device
        self.network = network.eval().to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def __call__(self, cube: FloatArray, brain: BoolArray) -> StructureArray:
        """Return the structure of each voxel, background outside the brain.

        Parameters
        ----------
        cube : float32 array, shape (160, 160, 160)
            Normalised FLAIR.
        brain : bool array, shape (160, 160, 160)
        """
        said = self._said(cube, brain)
        likeliest = said.argmax(-2).to(torch.uint8)
        return self._whole(shuffled(likeliest.permute(3, 0, 1, 2)[None])[0, 0], brain)

    def probability(self, cube: FloatArray, brain: BoolArray, structures: tuple[int, ...]) -> FloatArray:
        """Return the probability that each voxel belongs to any of some structures, 0 outside the brain."""
        said = self._said(cube, brain).softmax(-2)[..., list(structures), :].sum(-2)
        return self._whole(shuffled(said.permute(3, 0, 1, 2)[None])[0, 0], brain)

    def _said(self, cube: FloatArray, brain: BoolArray) -> Tensor:
        part = np.ascontiguousarray(cube[box_around(brain, STEP)])
        said = said_of(self.network, torch.from_numpy(part)[None, None].to(self.device))
        if not bool(torch.isfinite(said).all()):
            raise PipelineError("the network of structures gave values that are not numbers")
        return said

    def _whole(self, part: Tensor, brain: BoolArray) -> npt.NDArray[Any]:
        values = part.cpu().numpy()
        whole = np.zeros(brain.shape, values.dtype)
        whole[box_around(brain, STEP)] = values
        return np.where(brain, whole, values.dtype.type(0))
