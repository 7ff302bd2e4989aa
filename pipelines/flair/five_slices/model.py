"""The ResNet18 with its weights, for scoring: slices in, logits and maps out, and the maps on the native grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from pipelines.errors import PipelineError
from pipelines.flair.five_slices.explain import enlarged, grad_cam, slice_maps
from pipelines.flair.five_slices.network import CLASSES, five_slice_network
from pipelines.flair.five_slices.slices import CENTRE_LP_MM, PIXEL_MM, PLANES_MM, SIDE, Slices
from pipelines.flair.preprocess import Brain
from pipelines.types import Affine, FloatArray
from pipelines.weights import FOLDER, load_weights

WEIGHTS = "five-slices"
GRAD_CAM_MM = 48.0
GRAD_CAM_METHOD = (
    "Grad-CAM on the last convolution of the ResNet18 (Selvaraju et al., ICCV 2017): one map of 4x4 cells of 48 mm that "
    "all five slices share."
)
SLICE_MAP_MM = 3.0
SLICE_MAP_METHOD = (
    "Integrated gradients of each slice (Sundararajan et al., ICML 2017), from a brain of its most frequent intensity, "
    "smoothed by 3 mm."
)
BESIDE_MM = 2.0
"""A native slice shows a plane's map when its middle is at most this and half a slice from the plane."""
TILT_DEGREES = 30.0
"""Native slices that stand less steeply than this to the planes are shown whole; others only where a plane cuts them."""


@dataclass(frozen=True)
class FiveSliceAnswer:
    """Answer of the ResNet18 for five slices.

    Parameters
    ----------
    logits : float32 array, shape (2,)
        Of MS and NMOSD, not calibrated.
    class_name : "MS" or "NMOSD"
        The more probable class, which both maps explain.
    grad_cam : float32 array, shape (128, 128)
        In [0, 1], one map for all slices; 0 where none of them shows brain.
    per_slice : float32 array, shape (5, 128, 128)
        In [0, 1], one scale for all slices; 0 outside the brain.
    """

    logits: FloatArray
    class_name: str
    grad_cam: FloatArray
    per_slice: FloatArray


class FiveSliceModel:
    """The ResNet18, loaded and warm.

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
    PipelineError
        The weights are of another network.
    """

    def __init__(self, device: str = "cpu", folder: Path = FOLDER) -> None:
        state, self.card = load_weights(WEIGHTS, folder)
        self.device = torch.device(device)
        network = five_slice_network()
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise PipelineError(f'weights "{WEIGHTS}" do not fit the ResNet18 of this version') from error
        # channels last: twice as fast on a CPU
        self._network = (
            network.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)
        )

    def __call__(self, slices: Slices) -> FiveSliceAnswer:
        """Classify five slices and explain the more probable class.

        Raises
        ------
        PipelineError
            The network answered with something that is not a number.
        """
        images = torch.from_numpy(slices.images)[None].to(self.device)
        with torch.inference_mode():
            logits = self._network(images)[0].float().cpu()
        if not torch.isfinite(logits).all():
            raise PipelineError(f"{self.card.name} gave values that are not numbers")
        chosen = int(logits.argmax())
        cam = enlarged(grad_cam(self._network, slices.images, chosen))
        return FiveSliceAnswer(
            logits=logits.numpy(),
            class_name=CLASSES[chosen],
            grad_cam=np.where(slices.brain.any(axis=0), cam, np.float32(0)),
            per_slice=slice_maps(self._network, slices.images, chosen),
        )


def map_to_native(maps: FloatArray, slices: Slices, brain: Brain) -> FloatArray:
    """Return maps of the five slices on the native grid.

    Each native slice whose middle lies at most half a slice and 2 mm from a plane shows that plane's map, every voxel at its
    own place along L and P, linearly interpolated. [ours] A slice that is tilted by a few degrees is thus shown whole, though
    its edges lie some mm above or below the plane: bands across many slices could not be read. Native slices that stand 30
    degrees or more to the planes (sagittal 3D FLAIR) show a map only in the voxels within those limits of a plane.

    Parameters
    ----------
    maps : float32 array, shape (5, 128, 128) or (128, 128)
        One for each slice, or one that all share.
    slices : Slices
        That the maps belong to.
    brain : Brain
        That the slices were taken from.

    Returns
    -------
    float32 array, shape (k, j, i) of the native grid
        0 outside the brain and far from every plane.
    """
    to_index = _mni_to_index(slices, brain)
    to_mni = np.linalg.inv(to_index)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in brain.grid.shape_kji)]
    left, posterior, superior = (
        to_mni[a, 0] * i + to_mni[a, 1] * j + to_mni[a, 2] * k + to_mni[a, 3] for a in range(3)
    )
    if _lies_along_planes(to_index):
        superior, thickness_mm = _slice_heights(to_index, k)
    else:
        thickness_mm = float(np.abs(to_mni[2, :3]).max())
    part = np.zeros(brain.grid.shape_kji, dtype=np.float32)
    for values, height_mm in zip(np.broadcast_to(maps, (len(PLANES_MM), SIDE, SIDE)), PLANES_MM, strict=True):
        near = brain.mask & (np.abs(superior - height_mm) <= thickness_mm / 2 + BESIDE_MM)
        rows_columns = [
            (mm[near] - centre_mm) / PIXEL_MM + (SIDE - 1) / 2
            for mm, centre_mm in zip((posterior, left), CENTRE_LP_MM[::-1], strict=True)
        ]
        part[near] = ndimage.map_coordinates(values, rows_columns, order=1, mode="constant", cval=0.0)
    return brain.on_whole(part)


def key_slices(slices: Slices, brain: Brain) -> tuple[int, ...]:
    """Return the native slices nearest to the five planes, ascending, as far as the volume has them and they show brain.

    Empty when the native slices stand across the planes: each then shows a line of every plane and none of them as a whole.
    """
    to_index = _mni_to_index(slices, brain)
    if not _lies_along_planes(to_index):
        return ()
    at_k = {round(float(to_index[2] @ [*CENTRE_LP_MM, height_mm, 1.0])) for height_mm in PLANES_MM}
    start = int(brain.box[0].start)
    return tuple(start + k for k in sorted(at_k) if 0 <= k < len(brain.mask) and brain.mask[k].any())


def _mni_to_index(slices: Slices, brain: Brain) -> Affine:
    """Return the matrix from MNI (x, y, z, 1), mm, LPS, to the index (i, j, k, 1) of the brain's part."""
    return np.asarray(np.linalg.inv(brain.grid.affine) @ slices.mni_to_patient)


def _lies_along_planes(to_index: Affine) -> bool:
    """Return whether native slices stand less steeply to MNI's axial planes than `TILT_DEGREES`, seen in MNI space."""
    normal = to_index[2, :3]
    return bool(abs(normal[2]) > np.cos(np.deg2rad(TILT_DEGREES)) * np.linalg.norm(normal))


def _slice_heights(to_index: Affine, k: FloatArray) -> tuple[FloatArray, float]:
    """Return the MNI heights at which native slices cross the vertical line through the planes' middle, and their distance."""
    per_mm = to_index[2, 2]
    at_zero = to_index[2] @ [*CENTRE_LP_MM, 0.0, 1.0]
    return np.asarray((k - at_zero) / per_mm), float(1.0 / abs(per_mm))
