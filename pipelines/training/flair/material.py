"""What a training learns from and is validated on: a pool that is being filled, and cases that are kept out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.errors import DataSetError
from pipelines.training.data_sets.cases import PSEUDO_LABELLED, Entry, load_case, read_index
from pipelines.training.data_sets.sample import NO_CLASS
from pipelines.training.flair.case_pool import filling, pack, pack_sample, ready, unpack, wait_for
from pipelines.training.papers.folds import by_patient
from pipelines.training.synthetic.generator import make_generator
from pipelines.training.synthetic.lesion_masks import mask_files, patient_of

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
    pool_size: int
    workers: int | None
    given_share: float
    fixed_pool: bool
    pool: Path | None = None
    validation_cases: int = 0
    segments: bool = False
    classifies: bool = False
    before: Mapping[str, Any] | None = None
    """What `Material.as_dict` said when the training that goes on began; None: it begins now."""


@dataclass(frozen=True)
class Material:
    """Cases on disk.

    Parameters
    ----------
    pool : Path
        See `pipelines.training.flair.case_pool`.
    validation : list of Path
        Packed cases that are never in the pool.
    validation_origin : "real" or "synthetic"
    learnt, kept : list of str
        Cases of the index that the pool is made from, and those of the validation.
    left_out : tuple of str
        Patients whose lesion masks the generator does not use.
    seen_patients : list of str
        Patients of all these cases, and those whose lesion masks the generator uses.
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
    learnt: list[str]
    kept: list[str]
    left_out: tuple[str, ...]
    seen_patients: list[str]
    real_classes: bool
    provenance: str
    class_weight: Tensor | None

    def as_dict(self) -> dict[str, list[str]]:
        """Return what must be the same when a training goes on."""
        return {"learnt": self.learnt, "kept": self.kept, "seen_patients": self.seen_patients}


@contextmanager
def prepare(plan: Plan, device: str, report: Report) -> Iterator[Material]:
    """Make the validation, and keep the pool filling while the block runs.

    Raises
    ------
    DataSetError
        The data set is not as documented, has not the patients to leave out, or not the cases that a training that goes on
        began with; a pool that is given is empty.
    """
    if plan.pool is not None:
        if not ready(plan.pool):
            raise DataSetError(f"no cases in {plan.pool}; a pool has folders ring* with case*.npz")
        files = _generated_or_kept(plan, report)
        targets = [unpack(path).target for path in ready(plan.pool)]
        weight = class_weight(targets.count(0), targets.count(1))
        yield Material(plan.pool, files, "synthetic", [], [], plan.leave_out, [], False, "synthetic", weight)
        return
    learnt, kept = _split(_entries(plan, report), plan)
    both = _both(learnt)
    if learnt and not both and any(entry.label != "none" for entry in learnt):
        # One class from patients and the other from the generator would teach the scanner.
        report("the data set has one class only: its labels are not learnt from")
    plan, material = _described(plan, learnt, kept)
    given = _pack_entries(learnt, plan.out / "given", labelled=both)
    # A score by the cases of one class would choose the network that always says it.
    validation = _pack_entries(kept, plan.out / "validation", labelled=both and _both(kept))
    material = replace(material, validation=validation or _generated_or_kept(plan, report))
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
        labelled=not plan.segments,
    ) as alive:
        whole = max(1, plan.pool_size // workers) * workers
        first = whole if plan.fixed_pool else min(FIRST_CASES, plan.pool_size)
        wait_for(material.pool, first, report, alive)
        yield material


def _described(plan: Plan, learnt: Sequence[Entry], kept: Sequence[Entry]) -> tuple[Plan, Material]:
    """Return the plan, the validation's patients left out of the priors, and what is learnt, without its validation.

    A training that begins finds no cases of an earlier one in its folder, which may have left others out.
    """
    validated = {entry.patient for entry in kept}
    plan = replace(plan, leave_out=(*plan.leave_out, *sorted(validated - set(plan.leave_out))))
    origins = {"synthetic" if entry.origin == "synthetic" else "real" for entry in learnt}
    if plan.given_share < 1 or not learnt:
        origins.add("synthetic")
    both = _both(learnt)
    material = Material(
        plan.out / "pool",
        [],
        kept[0].origin if kept else "synthetic",
        [entry.case for entry in learnt],
        [entry.case for entry in kept],
        plan.leave_out,
        sorted(
            {entry.patient for entry in learnt}
            | validated
            | (_mask_patients(plan) if plan.segments else set())
        ),
        both and all(entry.origin == "real" for entry in learnt),
        " and ".join(sorted(origins)),
        _expected_weight(learnt, plan.given_share) if both else None,
    )
    if plan.before is None:
        for pattern in ("given/case*.npz", "validation/case*.npz", "pool/ring*/case*.npz"):
            for path in plan.out.glob(pattern):
                path.unlink()
    elif any(plan.before.get(key, value) != value for key, value in material.as_dict().items()):
        raise DataSetError(
            f"the cases of {plan.data} are not those that the training in {plan.out} began with; give the data set of then, "
            "or train anew in another folder"
        )
    return plan, material


def _both(entries: Sequence[Entry]) -> bool:
    return {"MS", "NMOSD"} <= {entry.label for entry in entries}


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


def _entries(plan: Plan, report: Report) -> list[Entry]:
    """Return the cases of the index that can be learnt from: those with a lesion mask, or with a class, where it counts."""
    indexed = plan.data is not None and (plan.data / "index.csv").is_file()
    entries = read_index(plan.data) if plan.data is not None and indexed else []
    nobody = (
        set(plan.leave_out)
        - {entry.patient for entry in entries}
        - _mask_patients(replace(plan, leave_out=()))
    )
    if nobody:
        where = "without a data set there is" if plan.data is None else f"{plan.data} has"
        raise DataSetError(f"{where} no patient {min(nobody)} to leave out")
    if not indexed or plan.given_share == 0:
        return []
    usable = [
        e
        for e in entries
        if e.patient not in plan.leave_out
        and ((plan.segments and e.lesions is not None) or (plan.classifies and e.label != "none"))
    ]
    if not plan.segments and not _both(usable):
        usable = []
    report(f"{len(usable)} of {len(entries)} cases of the data set can be learnt from")
    return usable


def _split(entries: Sequence[Entry], plan: Plan) -> tuple[list[Entry], list[Entry]]:
    """Return the cases to learn from and those of the patients that are kept for the validation, classes in turn.

    The validation is of real cases alone where it has any, and none for a network of classes when it lacks one. What a
    network has labelled proves nothing: it is learnt from and never kept.
    """
    proving = [entry for entry in entries if entry.origin != PSEUDO_LABELLED]
    if len({entry.patient for entry in proving}) < VALIDATION_PATIENTS:
        return list(entries), []
    held = set(by_patient(proving, VALIDATION_PATIENTS, plan.seed)[0].held_out)
    kept = [e for e in proving if e.patient in held]
    real = [e for e in kept if e.origin == "real"]
    labels = [e.label for e in real or kept]
    turns = [labels[:number].count(label) for number, label in enumerate(labels)]
    kept = [e for _, e in sorted(zip(turns, real or kept, strict=True), key=lambda pair: pair[0])]
    learnt = [e for e in entries if e.patient not in held]
    if not plan.segments and not (_both(kept) and _both(learnt)):
        return list(entries), []
    return learnt, kept


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
    return {patient_of(path) for path in mask_files(plan.data)} - set(plan.leave_out)
