"""Brains whose structures are known, in a ring of files that a process beside the training fills."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.brain.cube import box_around
from pipelines.errors import DataSetError
from pipelines.flair.intensity import BACKGROUND, LIMIT
from pipelines.regions.network import STEP
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.anatomy import Anatomy, from_label_map
from pipelines.training.synthetic.artefacts import smooth_field
from pipelines.training.synthetic.generator import Generator
from pipelines.types import FloatArray

FLAIR_SHARE = 0.7
"""Share of cases with the contrast of FLAIR; the others have any."""
WIDE_SHARE, MOST_WIDENING_MM = 0.45, 5.5
"""Ventricles of MS brains are wide more often than those of the label maps' owners."""
CUT_SHARE, MOST_CUT_MM = 0.25, 45.0
"""Share of brains that the field of view cuts off, and how much of them at most."""
TEST_HEADS = 3
"""The last of the label maps are never learnt from."""


@dataclass(frozen=True)
class Known:
    """The box of a brain whose structures are known.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
        Normalised; each edge a multiple of the network's step.
    structures : uint8 array, shape (k, j, i)
        Values of `Structure`.
    lesions : bool array, shape (k, j, i)
    """

    image: FloatArray
    structures: npt.NDArray[np.uint8]
    lesions: npt.NDArray[np.bool_]


def head_files(data: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the label maps to learn from and those that are only tested on.

    Raises
    ------
    DataSetError
        There are too few.
    """
    files = [] if data is None else sorted((data / "head_labels").glob("*.nii.gz"))
    if len(files) <= TEST_HEADS:
        raise DataSetError(
            f"the structures of a brain are learnt from label maps, more than {TEST_HEADS} of them in"
            f" {'--data' if data is None else data}/head_labels; give a folder that has them"
        )
    return files[:-TEST_HEADS], files[-TEST_HEADS:]


def generator_of(heads: list[Anatomy]) -> Generator:
    """Return the generator of these cases."""
    return Generator(
        heads, flair_order_share=FLAIR_SHARE, wide_share=WIDE_SHARE, most_widening_mm=MOST_WIDENING_MM
    )


def known(generator: Generator, rng: np.random.Generator) -> Known:
    """Draw a case, cut to the box of its brain."""
    case = generator.case(rng)
    if case.structures is None:
        raise DataSetError(f"head {case.anatomy} has no structures")
    image = case.network_input()
    box = box_around(image > BACKGROUND, STEP)
    return Known(image[box], case.structures[box], case.lesions[box])


def cut_off(case: Known, rng: np.random.Generator) -> Known:
    """Take away what lies beyond a plane: at the vertex, at the skull base, seldom in front or behind."""
    axis = 0 if rng.random() < 0.8 else 1
    normal = np.zeros(3)
    normal[axis] = 1.0 if rng.random() < 0.5 else -1.0
    normal += rng.normal(0, 0.12, 3)
    normal /= np.linalg.norm(normal)
    inside = np.argwhere(case.image[::4, ::4, ::4] > BACKGROUND) * 4 @ normal
    limit = inside.max() - rng.uniform(4, MOST_CUT_MM) / SPACING_MM
    k, j, i = (np.arange(n, dtype=np.float32) for n in case.image.shape)
    beyond = k[:, None, None] * normal[0] + j[None, :, None] * normal[1] + i * normal[2] > limit
    return Known(
        np.where(beyond, np.float32(BACKGROUND), case.image),
        np.where(beyond, np.uint8(0), case.structures),
        case.lesions & ~beyond,
    )


def varied(case: Known, rng: np.random.Generator) -> Known:
    """Return a case seen anew: mirrored, cut off, brighter, of another contrast or shading, noisier."""
    if rng.random() < CUT_SHARE:
        case = cut_off(case, rng)
    image, structures, lesions = case.image, case.structures, case.lesions
    inside = image > BACKGROUND
    share = (image - np.float32(BACKGROUND)) * np.float32(-1 / BACKGROUND)
    share = share ** np.float32(np.exp(rng.normal(0, 0.12))) * np.float32(np.exp(rng.normal(0, 0.06)))
    if rng.random() < 0.3:
        share = share * np.exp(np.float32(rng.uniform(0, 0.12)) * smooth_field(image.shape, 3, rng))
    if rng.random() < 0.3:
        share = share + np.float32(rng.uniform(0, 0.05)) * rng.standard_normal(image.shape, dtype=np.float32)
    image = np.clip(np.float32(BACKGROUND) * (1 - share), BACKGROUND + 1e-3, LIMIT)
    image = np.where(inside, image, np.float32(BACKGROUND)).astype(np.float32)
    if rng.random() < 0.5:
        image, structures, lesions = image[:, :, ::-1], structures[:, :, ::-1], lesions[:, :, ::-1]
    return Known(np.ascontiguousarray(image), np.ascontiguousarray(structures), np.ascontiguousarray(lesions))


def write(case: Known, path: Path) -> None:
    """Write a case; it appears whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, image=case.image.astype(np.float16), structures=case.structures, lesions=case.lesions)
    part.replace(path)


def read(path: Path) -> Known:
    """Read a case."""
    with np.load(path) as stored:
        return Known(stored["image"].astype(np.float32), stored["structures"], stored["lesions"])


def fill(folder: Path, files: list[Path], size: int, seed: int, pause_s: float) -> None:
    """Write cases into a ring of ``size`` files for as long as the process that started this one lives."""
    import torch  # noqa: PLC0415

    os.nice(5)
    torch.set_num_threads(1)
    generator = generator_of([from_label_map(path) for path in files])
    maker = multiprocessing.parent_process()
    number = len(list(folder.glob("*.npz")))
    while maker is None or maker.is_alive():
        write(
            known(generator, np.random.default_rng((seed, number))), folder / f"case{number % size:04d}.npz"
        )
        number += 1
        if number > size:
            time.sleep(pause_s)


@contextmanager
def filling(
    folder: Path, files: list[Path], *, size: int, seed: int, pause_s: float = 20.0
) -> Iterator[Callable[[], bool]]:
    """Keep a process filling ``folder`` while the block runs; see `fill`.

    Yields
    ------
    callable
        Tells whether it still runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("spawn").Process(
        target=fill, args=(folder, files, size, seed, pause_s), daemon=True
    )
    process.start()
    try:
        yield process.is_alive
    finally:
        process.terminate()
        process.join()
