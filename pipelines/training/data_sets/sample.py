"""A case as a network takes it, in memory and in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.flair.intensity import BACKGROUND
from pipelines.types import BoolArray, FloatArray

STEPS_PER_UNIT = 16
"""Grey values per unit of the normalised volume: [-5, 10] in a byte."""
CLASSES = ("MS", "NMOSD")
NO_CLASS = -1
UNKNOWN_KIND = 255
"""Stands for a lesion whose kind is not known."""


@dataclass(frozen=True)
class Sample:
    """A case as the network takes it.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
        Normalised; the background is exactly `BACKGROUND`.
    lesions : bool array, shape (k, j, i)
    target : int
        0 MS, 1 NMOSD, -1 not known or neither.
    ignore : bool array, shape (k, j, i), optional
        Voxels whose truth is not known: no loss is taken there.
    kinds : uint8 array, shape (k, j, i), optional
        1 + the index in `priors.KINDS` in each lesion, 0 elsewhere; None where they are not known.
    """

    image: FloatArray
    lesions: BoolArray
    target: int
    ignore: BoolArray | None = None
    kinds: npt.NDArray[np.uint8] | None = None


def target_of(label: str) -> int:
    """Return the class that stands for a label; that of "none" is `NO_CLASS`."""
    return CLASSES.index(label) if label in CLASSES else NO_CLASS


def kinds_in(sample: Sample) -> npt.NDArray[np.uint8]:
    """Return the kinds of a sample's lesions, `UNKNOWN_KIND` where they are not known; uint8, shape (k, j, i)."""
    return sample.lesions * np.uint8(UNKNOWN_KIND) if sample.kinds is None else sample.kinds


def pack_sample(sample: Sample, path: Path) -> None:
    """Write a sample in 5 MB; the file appears whole or not at all."""
    grey = np.round((sample.image - BACKGROUND) * STEPS_PER_UNIT).astype(np.uint8)
    arrays = {"grey": grey, "lesions": np.packbits(sample.lesions), "target": np.int8(sample.target)}
    if sample.ignore is not None:
        arrays["ignore"] = np.packbits(sample.ignore)
    if sample.kinds is not None:
        arrays["kinds"] = sample.kinds[sample.lesions]
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def unpack(path: Path) -> Sample:
    """Read what `pack_sample` wrote."""
    with np.load(path) as stored:
        grey = stored["grey"]
        image = grey.astype(np.float32) / STEPS_PER_UNIT + np.float32(BACKGROUND)
        bits = {
            key: np.unpackbits(stored[key], count=grey.size).reshape(grey.shape).astype(bool)
            for key in ("lesions", "ignore")
            if key in stored
        }
        kinds = None
        if "kinds" in stored:
            kinds = np.zeros(grey.shape, np.uint8)
            kinds[bits["lesions"]] = stored["kinds"]
        return Sample(image, bits["lesions"], int(stored["target"]), bits.get("ignore"), kinds)
