"""Brain mask by deepbet, whose weights are inside its wheel: offline, in memory, loaded once.

References
----------
Fisch et al., deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural networks,
Comput Biol Med 2024.
"""

from __future__ import annotations

import functools
import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations

from pipelines.device import computes_in_bfloat16
from pipelines.errors import WeightsError
from pipelines.types import Affine, BoolArray, FloatArray

DEEPBET_SHA256 = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
"""The weight files of deepbet 1.0.2; they are TorchScript, so that loading an altered one would run it."""

_REINSTALL = "reinstall it: pip install --force-reinstall deepbet==1.0.2"

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def checked_weights(folder: Path) -> dict[str, bytes]:
    """Return deepbet's weight files by name, once their digests are those that are known.

    Raises
    ------
    WeightsError
        A file is missing or differs; the message names it and the way out.
    """
    contents = {}
    for name, expected in DEEPBET_SHA256.items():
        path = folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise WeightsError(f"deepbet's weight file {path} is missing; {_REINSTALL}") from None
        except OSError as error:
            raise WeightsError(
                f"deepbet's weight file {path} cannot be read ({error}); {_REINSTALL}"
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise WeightsError(
                f"deepbet's weight file {path} is not that of deepbet 1.0.2"
                f" (sha256 {found[:12]}, not {expected[:12]}); {_REINSTALL}"
            )
        contents[name] = content
    return contents


@functools.lru_cache(maxsize=1)
def _extractor(device: str) -> Any:
    with warnings.catch_warnings():
        # deepbet loads TorchScript, which torch deprecates; its files are pinned by digest above.
        warnings.simplefilter("ignore", DeprecationWarning)
        from deepbet import bet, utils  # noqa: PLC0415 (torch loads with the first use)

        # What was checked is what is loaded: deepbet hands these on to torch, which reads files and streams alike.
        files = checked_weights(Path(utils.DATA_PATH) / "models")
        extractor = bet.BrainExtraction(
            no_gpu=True,
            model_path=io.BytesIO(files["model.pt"]),
            bbox_model_path=io.BytesIO(files["bbox_model.pt"]),
        )
    extractor.model.to(device)
    extractor.bbox_model.to(device)
    if computes_in_bfloat16(device):
        extractor.model = _in_bfloat16(extractor.model, device)
    return extractor


def _in_bfloat16(network: Any, device: str) -> Any:
    """Return deepbet's second network, run in bfloat16: half its time, and of 1000 voxels of a brain less than one changes.

    Not its first one, that finds the box of the head: a box that is a voxel wider moves the whole mask.
    """
    import torch  # noqa: PLC0415 (loads with the first use)

    kind = torch.device(device).type

    class InBfloat16(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.to(memory_format=torch.channels_last_3d)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.contiguous(memory_format=torch.channels_last_3d)
            with torch.autocast(kind, torch.bfloat16):
                said: torch.Tensor = self.network(x)
            return said.float()

    return InBfloat16()


def brain_mask(array: FloatArray, affine: Affine, device: str = "cpu") -> BoolArray:
    """Return the brain of a head volume of any orientation.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    affine : float64 array, shape (4, 4)
        Voxel (i, j, k, 1) to patient position, mm, LPS.
    device : str
        "cpu", "cuda", "cuda:1", ...

    Returns
    -------
    bool array, shape (k, j, i)
        All false when nothing looks like a brain.

    Raises
    ------
    WeightsError
        deepbet's weights are missing or altered.
    """
    extractor = _extractor(device)
    to_canonical = orientations.io_orientation(_LPS_TO_RAS @ affine)
    canonical = orientations.apply_orientation(array.transpose(2, 1, 0), to_canonical)
    canonical = np.nan_to_num(np.ascontiguousarray(canonical, dtype=np.float32))
    mask = np.zeros(canonical.shape, dtype=bool)
    if float(np.ptp(canonical)) > 0.0:
        try:
            mask = extractor.postprocess(extractor.run_model(canonical) > 0.5)
        except (AssertionError, ValueError):
            # deepbet's own way of saying that no voxel, or too few, are brain
            mask = np.zeros(canonical.shape, dtype=bool)
    canonical_axes = orientations.axcodes2ornt(("R", "A", "S"))
    back = orientations.ornt_transform(canonical_axes, to_canonical)
    native = orientations.apply_orientation(mask, back)
    return np.ascontiguousarray(native.transpose(2, 1, 0), dtype=bool)
