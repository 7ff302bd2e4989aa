"""The eyes that networks learn from: crops with a margin for shifts, and what is known of each."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataSetError
from pipelines.fatsat.crop import normalised
from pipelines.fatsat.crop_grid import SHAPE, beyond_midline, crop_grid, values_at
from pipelines.fatsat.settings import KINDS, CropKind
from pipelines.training.fatsat.looks import other_look
from pipelines.types import FloatArray, Laterality, Point, Volume

MARGIN = 1
"""Voxels kept around each crop within its slices, for the shifted ones."""
WIDE = (SHAPE[0], SHAPE[1] + 2 * MARGIN, SHAPE[2] + 2 * MARGIN)
NEIGHBOURS = tuple((j, i) for j in (-1, 0, 1) for i in (-1, 0, 1) if (j, i) != (0, 0))
"""One voxel to the side, up or down (paper 0)."""
PLACES = ((0, 0), *NEIGHBOURS)
NOISE_SHARE = 0.5
NOISE_SD = 0.05
"""Of the z-scored crop (authors' code; the text calls 0.05 the variance)."""


@dataclass(frozen=True)
class EyeSet:
    """Some eyes, of phantoms or patients.

    Parameters
    ----------
    crops : mapping of crop kind to float16 array, shape (n, 13, 33, 42)
        Z-scored as a whole; each crop that is cut from it is z-scored again.
    labels : int64 array, shape (n,)
        1: lesion.
    patients, scanners, cases : str arrays, shape (n,)
        A patient's eyes are never split between training and test.
    sides : str array, shape (n,)
    contrasts : float32 array, shape (n,)
        Lesion over nerve signal of a phantom; 1 without a lesion, nan where it is not known.
    errors_mm : float32 array, shape (n,)
        How far the point that was found lies from the true junction; nan where it was not found or is not known.
    """

    crops: dict[CropKind, npt.NDArray[np.float16]]
    labels: npt.NDArray[np.int64]
    patients: npt.NDArray[np.str_]
    scanners: npt.NDArray[np.str_]
    cases: npt.NDArray[np.str_]
    sides: npt.NDArray[np.str_]
    contrasts: FloatArray
    errors_mm: FloatArray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> EyeSet:
        """Return the eyes at indices, or where a mask is set."""
        return EyeSet(
            {kind: values[chosen] for kind, values in self.crops.items()},
            *(array[chosen] for array in self._columns().values()),
        )

    def _columns(self) -> dict[str, Any]:
        names = ("labels", "patients", "scanners", "cases", "sides", "contrasts", "errors_mm")
        return {name: getattr(self, name) for name in names}

    def digest(self) -> str:
        """Return what tells these eyes from any others (sha256, hex)."""
        found = hashlib.sha256()
        for array in (*self._columns().values(), *(self.crops[kind] for kind in KINDS)):
            found.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Write the eyes as npz; whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            content: dict[str, Any] = {f"crop {kind}": values for kind, values in self.crops.items()}
            np.savez(file, **self._columns(), **content)
        part.replace(path)


def load(path: Path) -> EyeSet:
    """Read what `EyeSet.save` wrote.

    Raises
    ------
    DataSetError
        The file is damaged.
    """
    try:
        with np.load(path) as stored:
            return EyeSet(
                {kind: stored[f"crop {kind}"] for kind in KINDS},
                *(
                    stored[name]
                    for name in ("labels", "patients", "scanners", "cases", "sides", "contrasts", "errors_mm")
                ),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataSetError(f"{path} cannot be read ({error}); remove it, it is made again") from error


def joined(parts: Sequence[EyeSet]) -> EyeSet:
    """Return all eyes of several sets.

    Raises
    ------
    DataSetError
        There is no eye.
    """
    if not sum(map(len, parts)):
        raise DataSetError("there is no eye to learn from or to score")
    return EyeSet(
        {kind: np.concatenate([part.crops[kind] for part in parts]) for kind in KINDS},
        *(np.concatenate([part._columns()[name] for part in parts]) for name in parts[0]._columns()),
    )


@dataclass(frozen=True)
class KnownEye:
    """Eye of a series: its place, and its truth; see `EyeSet` and `pipelines.fatsat.eyes`."""

    side: Laterality
    junction_lps: Point
    course_lps: npt.NDArray[np.float64]
    midpoint_lps: Point
    label: int
    contrast: float = float("nan")
    error_mm: float = float("nan")


def cut(volume: Volume, eyes: Sequence[KnownEye], *, case: str, patient: str, scanner: str) -> EyeSet:
    """Return the crops of a series' eyes, of both kinds."""
    crops = {
        kind: np.stack([_wide(volume, eye, kind) for eye in eyes])
        if eyes
        else np.zeros((0, *WIDE), np.float16)
        for kind in KINDS
    }
    return EyeSet(
        crops,
        np.array([eye.label for eye in eyes], dtype=np.int64),
        np.array([patient] * len(eyes), dtype=np.str_),
        np.array([scanner] * len(eyes), dtype=np.str_),
        np.array([case] * len(eyes), dtype=np.str_),
        np.array([eye.side for eye in eyes], dtype=np.str_),
        np.array([eye.contrast for eye in eyes], dtype=np.float32),
        np.array([eye.error_mm for eye in eyes], dtype=np.float32),
    )


def _wide(volume: Volume, eye: KnownEye, kind: CropKind) -> npt.NDArray[np.float16]:
    grid = crop_grid(volume, eye.junction_lps, eye.course_lps, eye.side, kind, MARGIN)
    beyond = beyond_midline(grid, volume, eye.midpoint_lps, eye.side, eye.junction_lps)
    return np.asarray(normalised(values_at(volume, grid.indices(), beyond)), dtype=np.float16)


def at_place(wide: npt.NDArray[np.floating], place: tuple[int, int] = (0, 0)) -> FloatArray:
    """Return the z-scored crop (13, 31, 40) at the published place or one voxel beside it, (down, to the nose)."""
    j, i = MARGIN + place[0], MARGIN + place[1]
    return normalised(np.asarray(wide[:, j : j + SHAPE[1], i : i + SHAPE[2]], dtype=np.float32))


def centred(eyes: EyeSet, kind: CropKind) -> FloatArray:
    """Return the z-scored crops of all eyes, (n, 13, 31, 40)."""
    return np.stack([at_place(wide) for wide in eyes.crops[kind]])


def augmented(
    wide: npt.NDArray[np.float16], rng: np.random.Generator, *, other_looks: bool = False
) -> FloatArray:
    """Return a crop as an epoch sees it: at its place or at one of the 8 beside it, half of them with white noise.

    Drawn anew each time; the authors' code draws its noise once.

    Parameters
    ----------
    other_looks : bool
        As on other scanners, before all that [ours]; see `pipelines.training.fatsat.looks`.
    """
    values = np.asarray(wide, dtype=np.float32)
    if other_looks:
        values = other_look(values, rng)
    values = at_place(values, PLACES[int(rng.integers(len(PLACES)))])
    if rng.random() < NOISE_SHARE:
        values = values + np.float32(NOISE_SD) * rng.standard_normal(values.shape, dtype=np.float32)
    return values
