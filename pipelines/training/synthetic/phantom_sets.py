"""Data sets of synthetic FLAIR cases with known lesions: of synthetic heads, or of real scans that lesions are painted into."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataSetError
from pipelines.training.data_sets.cases import load_case, read_index, write_cube
from pipelines.training.data_sets.sample import CLASSES
from pipelines.training.results_folder import make_folder
from pipelines.training.synthetic.generator import make_generator
from pipelines.training.synthetic.mixing import brain_of, signal
from pipelines.training.synthetic.painted import painted_cases
from pipelines.training.synthetic.priors import VOXEL_MM3

INDEX_COLUMNS = ("case", "patient", "flair", "brain", "lesions", "label", "origin")
Report = Callable[[str], None]


def phantom_cases(
    out: Path,
    count: int,
    seed: int = 0,
    data: Path | None = None,
    progress: Report | None = None,
    *,
    lesion_free: bool = False,
) -> list[Path]:
    """Write synthetic FLAIR cases with their lesions and labels as a data set (see `pipelines.training.data_sets.cases`).

    Parameters
    ----------
    out : Path
        Folder for ``index.csv`` and the NIfTI files; made if it is not there.
    count : int
        Cases: MS, NMOSD and (every eighth) lesion-free in turn.
    seed : int
        The same seed gives the same cases.
    data : Path, optional
        Folder with ``head_labels/`` (FreeSurfer-numbered label maps); without it the MNI152 template alone is used.
    progress : callable, optional
        Takes a line for each case.
    lesion_free : bool
        All of them without lesions, to see what is drawn there.

    Returns
    -------
    list of Path
        The FLAIR files.

    Raises
    ------
    DataSetError
        The folder cannot be written, or ``data`` holds something else.
    """
    if data is not None and not data.is_dir():
        raise DataSetError(f"no folder {data}")
    make_folder(out)
    # A training sees other contrasts too; a case to look at, and to be judged by, is FLAIR.
    generator = replace(make_generator(data), flair_order_share=1.0)

    def made() -> Iterator[_Phantom]:
        for number in range(count):
            label = "none" if lesion_free or number % 8 == 7 else ("MS", "NMOSD")[number % 2]
            case = generator.case(np.random.default_rng((seed, number)), label)  # type: ignore[arg-type]
            arrays = {"flair": case.image, "brain": case.brain, "lesions": case.lesions}
            yield _Phantom(f"phantom{number:04d}", "", label, f"head {case.anatomy}", arrays)

    return _write_phantoms(made(), out, progress)


def painted_phantoms(
    out: Path, count: int, seed: int, on: Path, progress: Report | None = None
) -> list[Path]:
    """Write real scans with lesions of MS and NMOSD painted in, their own filled, as a data set of synthetic cases.

    Parameters
    ----------
    out, seed, progress : see `phantom_cases`
    count : int
        Cases: MS and NMOSD in turn, from each scan as many as from the others, or one more. Every other scan begins with NMOSD:
        both are there however few are asked for.
    on : Path
        A data set; of its cases those whose lesions are known, or were drawn by ``models pseudo-label``.

    Returns
    -------
    list of Path
        The FLAIR files.

    Raises
    ------
    DataSetError
        The data set is not as documented or has no such cases, or the folder cannot be written.
    """
    entries = [entry for entry in read_index(on) if entry.lesions is not None and entry.origin != "synthetic"]
    if not entries:
        raise DataSetError(
            f"{on} has no real cases with lesion masks; draw them with 'dicom-node models pseudo-label'"
        )
    make_folder(out)

    def made() -> Iterator[_Phantom]:
        for index, entry in enumerate(entries):
            own = count // len(entries) + (index < count % len(entries))
            sample = load_case(entry).sample("none")
            cases = painted_cases(sample, 10_000 * seed + index, CLASSES[index % 2])  # type: ignore[arg-type]
            for number, case in enumerate(itertools.islice(cases, own)):
                arrays = {"flair": signal(case), "brain": brain_of(case), "lesions": case.lesions}
                name = f"{entry.case}-painted{number:03d}"
                yield _Phantom(name, entry.patient, CLASSES[case.target], f"scan {entry.case}", arrays)

    return _write_phantoms(made(), out, progress)


@dataclass(frozen=True)
class _Phantom:
    """A case to be written: its arrays by their column, the FLAIR with white matter as 1; patient "": one of its own."""

    name: str
    patient: str
    label: str
    told: str
    arrays: dict[str, npt.NDArray[Any]]


def _write_phantoms(cases: Iterable[_Phantom], out: Path, progress: Report | None) -> list[Path]:
    """Write cases with their index, and tell of each."""
    rows, written = [], []
    for case in cases:
        for part, array in case.arrays.items():
            values = 1000 * array.astype(np.float32) if part == "flair" else array.astype(np.uint8)
            write_cube(values, out / f"{case.name}_{part}.nii.gz")
        files = [f"{case.name}_{part}.nii.gz" for part in case.arrays]
        rows.append([case.name, case.patient or case.name, *files, case.label, "synthetic"])
        written.append(out / files[0])
        if progress:
            ml = case.arrays["lesions"].sum() * VOXEL_MM3 / 1000
            progress(f"{case.name}: {case.label}, {ml:.1f} mL of lesions, {case.told}")
    with (out / "index.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([INDEX_COLUMNS, *rows])
    return written
