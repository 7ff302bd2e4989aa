"""Analysis of a volume as a comparison needs it, by the mask's networks alone; kept on disk by the digest of the volume."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import align_to_mni
from pipelines.comparison import Examined
from pipelines.errors import DataSetError
from pipelines.flair.lesions import THRESHOLD, find_lesions
from pipelines.flair.native_voxels import lesion_probability
from pipelines.flair.preprocess import find_brain, to_cube, without_bias
from pipelines.flair.segmenter import MaskModel
from pipelines.types import Volume

SEGMENT_NAME = "Lesion"


class Examiner:
    """Lesion networks that examine a volume, each but once where there is a folder to keep the answers in.

    Parameters
    ----------
    model : MaskModel
    folder : Path, optional
        For the answers.
    """

    def __init__(self, model: MaskModel, folder: Path | None = None) -> None:
        self.model = model
        self.folder = folder

    def __call__(self, volume: Volume) -> Examined:
        """Examine a volume; whole intensities, so that it comes back from disk as it went there.

        Raises
        ------
        DataSetError
            It has no brain.
        """
        path = None if self.folder is None else self.folder / f"{self._digest(volume)}.npz"
        if path is not None and path.exists():
            with np.load(path) as kept:
                brain, probability = kept["brain"], kept["probability"].astype(np.float32)
        else:
            brain, probability = self._asked(volume)
            # As it comes back from disk, so that both ways lead to the same comparison.
            probability = probability.astype(np.float16).astype(np.float32)
            if path is not None:
                part = path.with_suffix(".part")
                with part.open("wb") as file:
                    np.savez_compressed(file, brain=brain, probability=probability.astype(np.float16))
                part.replace(path)
        return examined(volume, brain, probability, self.model)

    def _digest(self, volume: Volume) -> str:
        digest = hashlib.sha256()
        for part in (np.ascontiguousarray(volume.array), np.ascontiguousarray(volume.affine)):
            digest.update(str(part.shape).encode() + part.tobytes())
        for card in self.model.cards:
            digest.update(card.digest.encode())
        return digest.hexdigest()[:32]

    def _asked(self, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
        brain = find_brain(volume, self.model.device)
        if brain is None:
            raise DataSetError("a scan of the pairs has no brain; leave it out of the folder of --data")
        corrected = without_bias(brain)
        cube = to_cube(corrected, brain, align_to_mni(corrected, brain.mask, brain.grid))
        answer = self.model(cube.values, slices_mm=brain.whole.spacing_mm[0])
        probability = lesion_probability(answer.probability, cube, brain, THRESHOLD)
        whole = np.zeros(volume.array.shape, dtype=bool)
        whole[brain.box] = brain.mask
        return whole, probability


def examined(volume: Volume, brain: np.ndarray, probability: np.ndarray, model: MaskModel) -> Examined:
    """Return an examination with the lesions of a probability map."""
    k, j, i = volume.array.shape
    labels, lesions, _ = find_lesions(probability, Grid((k, j, i), volume.affine), SEGMENT_NAME)
    return Examined(volume, brain, probability, labels, lesions, model.cards)
