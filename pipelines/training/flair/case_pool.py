"""A pool of ready cases on disk, filled by a process beside the training and refreshed for as long as it lasts.

One case takes about a second to make and a fraction of that to learn from; the pool lets each be seen several times, in
other crops, without the training ever waiting.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from pipelines.errors import DataSetError
from pipelines.training.data_sets.sample import Sample, pack_sample, target_of, unpack
from pipelines.training.synthetic.generator import Case, make_generator
from pipelines.training.synthetic.mixing import real_cases


class PackedSamples(Sequence[Sample]):
    """Packed cases, read when they are asked for; hundreds of them do not fit into memory."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Read one case, or several."""
        if isinstance(index, slice):
            return [unpack(path) for path in self._files[index]]
        return unpack(self._files[index])


def pack(case: Case, path: Path) -> None:
    """Write a generated case."""
    sample = Sample(case.network_input(), case.lesions, target_of(case.label), kinds=case.kinds)
    pack_sample(sample, path)


@dataclass(frozen=True)
class PoolSource:
    """Source of the cases of a pool.

    Parameters
    ----------
    data : Path, optional
        Folder with sources of the generator; see `synthetic.generator.make_generator`.
    leave_out : tuple of str
        Patients whose lesion masks are not used.
    given : Path, optional
        Folder of packed real cases, of the training fold only, that varied ones are made from.
    real_share : float
        Share of the varied real cases, in [0, 1]; the others are synthetic. Without real cases all are.
    labelled : bool
        Make synthetic cases of MS and NMOSD alone.
    pause_s : float
        Rest after each case once the pool is full.
    """

    data: Path | None
    leave_out: tuple[str, ...] = ()
    given: Path | None = None
    real_share: float = 0.0
    labelled: bool = False
    pause_s: float = 0.0


def fill(folder: Path, source: PoolSource, size: int, seed: int) -> None:
    """Write cases into a ring of ``size`` files for as long as the process that started this one lives."""
    os.nice(5)
    generator = make_generator(source.data, source.leave_out, labelled=source.labelled)
    real = PackedSamples(sorted(source.given.glob("*.npz"))) if source.given is not None else ()
    share = source.real_share if len(real) else 0.0
    varied, synthetic = real_cases(real, generator.masks, seed), generator.cases(seed)
    number = 0
    maker = multiprocessing.parent_process()
    while maker is None or maker.is_alive():
        path = folder / f"case{number % size:05d}.npz"
        # Spread evenly: of 10 cases at a share of 0.3 the 4th, 7th and 10th are real.
        if int((number + 1) * share) > int(number * share):
            pack_sample(next(varied), path)
        else:
            pack(next(synthetic), path)
        number += 1
        if number > size:
            time.sleep(source.pause_s)


@contextmanager
def filling(
    folder: Path, source: PoolSource, *, size: int, seed: int, workers: int = 1
) -> Iterator[Callable[[], bool]]:
    """Keep processes filling ``folder`` while the block runs; each of them has its own ring and seed; see `fill`.

    Yields
    ------
    callable
        Tells whether all of them still run.
    """
    context = multiprocessing.get_context("spawn")
    processes = []
    for worker in range(workers):
        ring = folder / f"ring{worker}"
        ring.mkdir(parents=True, exist_ok=True)
        rings = max(1, size // workers)
        arguments = (ring, source, rings, seed + 7919 * worker)
        processes.append(context.Process(target=fill, args=arguments, daemon=True))
    for process in processes:
        process.start()
    try:
        yield lambda: all(process.is_alive() for process in processes)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def ready(folder: Path) -> list[Path]:
    """Return the files of the pool, in order."""
    return sorted(folder.glob("ring*/case*.npz"))


def wait_for(folder: Path, count: int, report: Callable[[str], None], alive: Callable[[], bool]) -> None:
    """Return when the pool holds ``count`` cases.

    Parameters
    ----------
    alive : callable
        See `filling`.

    Raises
    ------
    DataSetError
        A process that makes them has ended.
    """
    report(f"making the first {count} cases")
    while len(ready(folder)) < count:
        if not alive():
            raise DataSetError(
                f"a process that fills {folder} has ended, its reason stands above; if it lacked memory, use fewer workers"
            )
        time.sleep(0.5)
