"""What a training learns from and is validated on: a pool that is being filled, and cases that are kept out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import DataSetError
from pipelines.training.cases import Entry, load_case, read_index
from pipelines.training.folds import by_patient
from pipelines.training.generator import make_generator
from pipelines.training.pool import filling, pack, pack_sample, ready, unpack, wait_for
from pipelines.training.sample import NO_CLASS

FIRST_CASES = 8
"""The training starts when the pool holds so many."""
VALIDATION_PATIENTS = 5
"""With so many patients or more in the index, a fifth of them is kept for the validation; else it is synthetic."""
_VALIDATION_SEED = 1_000_003
_FOREVER_S = 365 * 86_400.0
Report = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What `prepare` needs; see `commands.train`."""

    data: Path | None
    out: Path
    leave_out: tuple[str, ...]
    seed: int
    validation_cases: int
    classifies: bool
    pool_size: int
    workers: int | None
    given_share: float
    fixed_pool: bool
    pool: Path | None = None


@dataclass(frozen=True)
class Material:
    """Cases on disk.

    Parameters
    ----------
    pool : Path
        See `pipelines.training.pool`.
    validation : list of Path
        Packed cases that are never in the pool.
    validation_origin : "real" or "synthetic"
    given : int
        Cases of the index that the pool is made from.
    seen_patients : list of str
        Those that they are of, and those whose lesion masks the generator uses.
    real_classes : bool
        The classes are those of patients.
    provenance : str
        For the model card.
    class_weight : Tensor, shape (2,), or None
        Makes both classes of the pool count the same, as in paper 1.
    """

    pool: Path
    validation: list[Path]
    validation_origin: str
    given: int
    seen_patients: list[str]
    real_classes: bool
    provenance: str
    class_weight: Tensor | None


@contextmanager
def prepare(plan: Plan, device: str, report: Report) -> Iterator[Material]:
    """Make the validation, and keep the pool filling while the block runs.

    Raises
    ------
    DataSetError
        The data set is not as documented, or a pool that is given is empty.
    """
    if plan.pool is not None:
        if not ready(plan.pool):
            raise DataSetError(f"no cases in {plan.pool}; a pool has folders ring* with case*.npz")
        files = _generated_or_kept(plan, report)
        targets = [unpack(path).target for path in ready(plan.pool)]
        weight = class_weight(targets.count(0), targets.count(1))
        yield Material(plan.pool, files, "synthetic", 0, [], False, "synthetic", weight)
        return
    entries = _entries(plan)
    learnt, kept = _split(entries, plan.seed)
    both = {"MS", "NMOSD"} <= {entry.label for entry in learnt}
    if learnt and not both and any(entry.label != "none" for entry in learnt):
        # One class from patients and the other from the generator would teach the scanner.
        report("the data set has one class only: its labels are not learnt from")
    given = _pack_entries(learnt, plan.out / "given", labelled=both)
    validation = _pack_entries(kept, plan.out / "validation", labelled=True)
    validation = validation or _generated_or_kept(plan, report)
    origins = {entry.origin for entry in learnt} if plan.given_share > 0 else set()
    if plan.given_share < 1 or not learnt:
        origins.add("synthetic")
    material = Material(
        plan.out / "pool",
        validation,
        kept[0].origin if kept else "synthetic",
        len(given) if plan.given_share > 0 else 0,
        sorted({entry.patient for entry in learnt} | _mask_patients(plan)),
        both and all(entry.origin == "real" for entry in learnt) and plan.given_share > 0,
        " and ".join(sorted(origins)),
        _expected_weight(learnt, plan.given_share) if both else None,
    )
    workers = plan.workers or (1 if device == "cpu" else max(1, (os.cpu_count() or 2) - 4))
    with filling(
        material.pool,
        plan.data,
        plan.leave_out,
        size=plan.pool_size,
        seed=plan.seed,
        pause_s=_FOREVER_S if plan.fixed_pool else 0.0,
        workers=workers,
        given=plan.out / "given" if given else None,
        real_share=plan.given_share,
    ):
        whole = max(1, plan.pool_size // workers) * workers
        wait_for(material.pool, whole if plan.fixed_pool else min(FIRST_CASES, plan.pool_size), report)
        yield material


def class_weight(ms: float, nmosd: float) -> Tensor | None:
    """Return weights (2,) that make both classes count the same; None where one has no case."""
    if not ms or not nmosd:
        return None
    return (ms + nmosd) / (2 * torch.tensor([ms, nmosd], dtype=torch.float32))


def _expected_weight(learnt: Sequence[Entry], given_share: float) -> Tensor | None:
    """Return the `class_weight` of a pool of given cases and generated ones, which are of both classes equally often."""
    labels = [entry.label for entry in learnt if entry.label != "none"]
    shares = [
        given_share * labels.count(label) / len(labels) + (1 - given_share) / 2 for label in ("MS", "NMOSD")
    ]
    return class_weight(*shares)


def _entries(plan: Plan) -> list[Entry]:
    """Return the cases of the index that can be learnt from: those with a lesion mask, or with a class where it counts."""
    if plan.data is None or not (plan.data / "index.csv").is_file() or plan.given_share == 0:
        return []
    allowed = [entry for entry in read_index(plan.data) if entry.patient not in plan.leave_out]
    return [e for e in allowed if e.lesions is not None or (plan.classifies and e.label != "none")]


def _split(entries: Sequence[Entry], seed: int) -> tuple[list[Entry], list[Entry]]:
    """Return the cases to learn from and those of the patients that are kept for the validation."""
    if len({entry.patient for entry in entries}) < VALIDATION_PATIENTS:
        return list(entries), []
    held = set(by_patient(entries, VALIDATION_PATIENTS, seed)[0].held_out)
    return [e for e in entries if e.patient not in held], [e for e in entries if e.patient in held]


def _pack_entries(entries: Sequence[Entry], folder: Path, *, labelled: bool) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, entry in enumerate(entries):
        files.append(folder / f"case{number:05d}.npz")
        if not files[-1].exists():
            sample = load_case(entry).sample(entry.label)
            if entry.lesions is None:
                sample = replace(sample, ignore=np.ones(sample.lesions.shape, bool))
            pack_sample(sample if labelled else replace(sample, target=NO_CLASS), files[-1])
    return files


def _generated_or_kept(plan: Plan, report: Report) -> list[Path]:
    """Return synthetic validation cases, MS and NMOSD in turn, made now unless they are there."""
    folder = plan.out / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"case{number:05d}.npz" for number in range(plan.validation_cases)]
    missing = [path for path in files if not path.exists()]
    if missing and plan.pool is None:
        report(f"making {len(missing)} cases for the validation")
        generator = make_generator(plan.data, plan.leave_out)
        for number, path in enumerate(files):
            if path in missing:
                rng = np.random.default_rng((_VALIDATION_SEED, plan.seed, number))
                pack(generator.case(rng, "MS" if number % 2 == 0 else "NMOSD"), path)
    return [path for path in files if path.exists()]


def _mask_patients(plan: Plan) -> set[str]:
    if plan.data is None:
        return set()
    names = {path.name.split(".")[0] for path in (plan.data / "open_ms" / "lesions_mni").glob("*.nii.gz")}
    return names - set(plan.leave_out)
