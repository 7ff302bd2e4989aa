"""The networks that draw the lesion mask: one pass over the brain's box for each that is asked and flip, and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipelines.brain.cube import box_around
from pipelines.device import computes_in_bfloat16
from pipelines.errors import PipelineError, WeightsError
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.networks import NNUNET, nnunet
from pipelines.flair.settings import MASK_WEIGHTS
from pipelines.flair.weighing import KINDS, Weighing, kind_of
from pipelines.types import FloatArray, ModelCard
from pipelines.weights import FOLDER, card_details, load_weights

MEMBERS = MASK_WEIGHTS
"""Names that the weights of the ensemble may have, the best first; one is an ensemble too."""
STEP = 16
"""The box is a multiple of it along each axis, as the strides of the networks ask."""
_LEFT_RIGHT = 4


def brain_box(cube: FloatArray, step: int = STEP) -> tuple[slice, slice, slice]:
    """Return the part of a cube that holds the brain, each edge a multiple of ``step``; all of it without a brain.

    Parameters
    ----------
    cube : float32 array, shape (k, j, i)
        Normalised, `BACKGROUND` outside the brain; each edge a multiple of ``step``.
    """
    return box_around(cube > BACKGROUND, step)


@torch.inference_mode()
def lesion_logit(network: nn.Module, volume: Tensor) -> Tensor:
    """Run a segmentation network, in bfloat16 where the device computes in it; (1, 1, K, J, I) in and out."""
    kind = volume.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=computes_in_bfloat16(kind)):
        output: Tensor = network(volume)
    return output.float()


def probability_maps(
    network: nn.Module, cube: FloatArray, *, device: str = "cpu", flips: bool = False
) -> list[FloatArray]:
    """Return the lesion probability of a cube, once for each way of looking at it.

    The brain is seen whole, in one pass: nothing is computed twice, and norm layers that take their statistics from what they
    see get those of the brain, not of a window.

    Parameters
    ----------
    network : nn.Module
        On ``device``, in eval mode; (B, 1, K, J, I) to logits of the same shape.
    cube : float32 array, shape (160, 160, 160)
        Normalised (`pipelines.flair.intensity`).
    flips : bool
        Look at the left-right mirrored cube as well. The other axes of a head do not mirror.

    Returns
    -------
    list of float32 array, shape (160, 160, 160)
        0 outside the brain; one, or two with ``flips``.

    Raises
    ------
    PipelineError
        The network answered with something that is not a number.
    """
    box = brain_box(cube)
    inside = cube > BACKGROUND
    volume = torch.from_numpy(np.ascontiguousarray(cube[box]))[None, None].to(device)
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    maps = []
    for mirrored in (False, True) if flips else (False,):
        logit = lesion_logit(network, volume.flip(_LEFT_RIGHT) if mirrored else volume)
        logit = logit.flip(_LEFT_RIGHT) if mirrored else logit
        part = torch.sigmoid(logit)[0, 0].cpu().numpy()
        if not np.isfinite(part).all():
            raise PipelineError("the segmentation network gave values that are not numbers")
        whole = np.zeros(cube.shape, dtype=np.float32)
        whole[box] = part
        maps.append(np.where(inside, whole, np.float32(0)))
    return maps


def probability_map(
    network: nn.Module, cube: FloatArray, *, device: str = "cpu", flips: bool = False
) -> FloatArray:
    """Return the mean of `probability_maps`."""
    maps = probability_maps(network, cube, device=device, flips=flips)
    return np.asarray(np.mean(maps, axis=0), dtype=np.float32)


@dataclass(frozen=True)
class MaskAnswer:
    """Answer of the ensemble for one cube.

    Parameters
    ----------
    probability : float32 array, shape (160, 160, 160)
        Of all that were asked, weighed and calibrated (`Weighing`).
    samples : float16 array, shape (n, 160, 160, 160)
        One for each network that was asked and flip, calibrated alike.
    cards : tuple of ModelCard
        Of the networks that were asked, that of the largest share first.
    second : float32 array, shape (160, 160, 160), or None
        Of the network alone whose opinion a large region needs as well; None where there is none or it was not asked.
    """

    probability: FloatArray
    samples: npt.NDArray[np.float16]
    cards: tuple[ModelCard, ...]
    second: FloatArray | None = None


class MaskModel:
    """The ensemble that draws the lesion mask, loaded and warm.

    Parameters
    ----------
    device : str
        "cpu", "cuda:0".
    folder : Path
        Of the weights.

    Raises
    ------
    WeightsError
        Weights or cards are missing or damaged, or do not fit the network.
    """

    def __init__(self, device: str = "cpu", folder: Path = FOLDER) -> None:
        self.device = device
        loaded = [_load(name, device, folder) for name in MEMBERS if (folder / f"{name}.json").exists()]
        if not loaded:
            raise WeightsError(
                f"no weights {' or '.join(MEMBERS)} in {folder}; reinstall dicom-node, or make them with "
                f"'dicom-node models train {NNUNET}'"
            )
        self._networks = {described.name: network for network, described in loaded}
        self.cards: tuple[ModelCard, ...] = tuple(described for _, described in loaded)
        first = card_details(self.cards[0].name, folder)
        self._weighing = {kind: Weighing.of(first, kind) for kind in KINDS}

    def __call__(
        self, cube: FloatArray, *, slices_mm: float = 1.0, members: int | None = None, flips: bool = False
    ) -> MaskAnswer:
        """Analyse a normalised cube.

        Parameters
        ----------
        cube : float32 array, shape (160, 160, 160)
        slices_mm : float
            Distance of the slices that it was made from, centre to centre: it decides which networks are asked.
        members : int, optional
            How many networks to ask at most, those of the largest share first; all by default.
        flips : bool
            Ask about the left-right mirrored cube as well, where the weighing finds that it pays.
        """
        weighing = self._weighing[kind_of(slices_mm)]
        asked = weighing.asked(list(self._networks), members)
        samples: list[npt.NDArray[np.float16]] = []
        said: dict[str, FloatArray] = {}
        for name in asked:
            maps = probability_maps(
                self._networks[name], cube, device=self.device, flips=flips and weighing.flips
            )
            samples += [weighing.calibrated(one).astype(np.float16) for one in maps]
            said[name] = np.asarray(np.mean(maps, axis=0), dtype=np.float32)
        by_name = {card.name: card for card in self.cards}
        probability = weighing.combined(list(said.values()), list(asked.values()))
        drawn_by = tuple(by_name[name] for name in asked)
        return MaskAnswer(probability, np.stack(samples), drawn_by, said.get(weighing.second))


def _load(name: str, device: str, folder: Path) -> tuple[nn.Module, ModelCard]:
    state, described = load_weights(name, folder)
    told = card_details(name, folder).get("network", NNUNET)
    if told != NNUNET:
        raise WeightsError(
            f'weights "{name}" are of the network {told}; the lesion mask is drawn by {NNUNET}, give its weights'
        )
    network = nnunet()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f'weights "{name}" do not fit the network of this version') from error
    network = network.eval().to(device).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network, described
