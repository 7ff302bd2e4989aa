"""A pool of ready cases on disk, filled by a process beside the training and refreshed for as long as it lasts.

One case takes about two seconds to make and a tenth of that to learn from; the pool lets each be seen several times, in
other crops, without the training ever waiting.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.flair.intensity import BACKGROUND
from pipelines.training.generator import Case, make_generator
from pipelines.types import BoolArray, FloatArray

STEPS_PER_UNIT = 16
"""Grey values per unit of the normalised volume: [-5, 10] in a byte."""
CLASSES = ("MS", "NMOSD")
NO_CLASS = -1


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
    """

    image: FloatArray
    lesions: BoolArray
    target: int
    ignore: BoolArray | None = None


def pack_sample(sample: Sample, path: Path) -> None:
    """Write a sample in 5 MB; the file appears whole or not at all."""
    grey = np.round((sample.image - BACKGROUND) * STEPS_PER_UNIT).astype(np.uint8)
    arrays = {"grey": grey, "lesions": np.packbits(sample.lesions), "target": np.int8(sample.target)}
    if sample.ignore is not None:
        arrays["ignore"] = np.packbits(sample.ignore)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)


def pack(case: Case, path: Path) -> None:
    """Write a generated case."""
    target = CLASSES.index(case.label) if case.label in CLASSES else NO_CLASS
    pack_sample(Sample(case.network_input(), case.lesions, target), path)


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
        return Sample(image, bits["lesions"], int(stored["target"]), bits.get("ignore"))


def fill(
    folder: Path, data: Path | None, leave_out: tuple[str, ...], size: int, seed: int, pause_s: float = 0.0
) -> None:
    """Write cases into a ring of ``size`` files without end."""
    os.nice(5)
    generator = make_generator(data, leave_out)
    for number, case in enumerate(generator.cases(seed)):
        pack(case, folder / f"case{number % size:05d}.npz")
        if number >= size:
            time.sleep(pause_s)


@contextmanager
def filling(
    folder: Path,
    data: Path | None,
    leave_out: tuple[str, ...],
    *,
    size: int,
    seed: int,
    pause_s: float,
    workers: int = 1,
) -> Iterator[None]:
    """Keep processes filling ``folder`` while the block runs; each of them has its own ring and seed."""
    context = multiprocessing.get_context("spawn")
    processes = []
    for worker in range(workers):
        ring = folder / f"ring{worker}"
        ring.mkdir(parents=True, exist_ok=True)
        arguments = (ring, data, leave_out, max(1, size // workers), seed + 7919 * worker, pause_s)
        processes.append(context.Process(target=fill, args=arguments, daemon=True))
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def ready(folder: Path) -> list[Path]:
    """Return the files of the pool, in order."""
    return sorted(folder.glob("ring*/case*.npz"))


def wait_for(folder: Path, count: int, report: Callable[[str], None]) -> None:
    """Return when the pool holds ``count`` cases."""
    report(f"making the first {count} cases")
    while len(ready(folder)) < count:
        time.sleep(0.5)
