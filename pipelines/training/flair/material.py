"""Cases that a training learns from and is validated on: a pool that is being filled, and others that are kept out of it."""

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
from pipelines.training.data_sets.sample import NO_CLASS, pack_sample, unpack
from pipelines.training.flair.case_pool import PoolSource, filling, pack, ready, wait_for
from pipelines.training.flair.task import Task
from pipelines.training.flair.training_settings import TrainingSettings
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
class Needs:
    """Needs of a network that its cases must meet.

    Parameters
    ----------
    validation_cases : int
        Synthetic ones that are made where no real ones are kept.
    segments, classifies : bool
        It learns lesion masks; it learns classes.
    """

    validation_cases: int
    segments: bool
    classifies: bool

    @classmethod
    def of(cls, task: Task) -> Needs:
        """Return those of a task."""
        return cls(task.validated[1], task.segments, task.classifies)


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
def prepare(
    settings: TrainingSettings,
    needs: Needs,
    device: str,
    report: Report,
    before: Mapping[str, Any] | None = None,
) -> Iterator[Material]:
    """Make the validation, and keep the pool filling while the block runs.

    Parameters
    ----------
    before : mapping, optional
        What `Material.as_dict` said when the training that goes on began; None: it begins now.

    Raises
    ------
    DataSetError
        The data set is not as documented, has not the patients to leave out, or not the cases that a training that goes on
        began with; a pool that is given is empty.
    """
    if settings.pool is not None:
        yield _from_pool(settings.pool, settings, needs, report)
        return
    learnt, kept = _split(_entries(settings, needs, report), settings, needs)
    both = _both(learnt)
    if learnt and not both and any(entry.label != "none" for entry in learnt):
        # One class from patients and the other from the generator would teach the scanner.
        report("the data set has one class only: its labels are not learnt from")
    settings = _without_validated(settings, kept)
    material = _described(settings, needs, learnt, kept)
    _begin(settings, material, before)
    given = _pack_entries(learnt, settings.out / "given", labelled=both)
    # A score by the cases of one class would choose the network that always says it.
    validation = _pack_entries(kept, settings.out / "validation", labelled=both and _both(kept))
    material = replace(material, validation=validation or _generated_or_kept(settings, needs, report))
    source = PoolSource(
        data=settings.data,
        leave_out=settings.leave_out,
        given=settings.out / "given" if given else None,
        real_share=settings.given_share,
        labelled=not needs.segments,
        pause_s=_FOREVER_S if settings.fixed_pool else 0.0,
    )
    workers = settings.workers or (1 if device == "cpu" else max(1, (os.cpu_count() or 2) - 4))
    with filling(
        material.pool, source, size=settings.pool_size, seed=settings.seed, workers=workers
    ) as alive:
        whole = max(1, settings.pool_size // workers) * workers
        first = whole if settings.fixed_pool else min(FIRST_CASES, settings.pool_size)
        wait_for(material.pool, first, report, alive)
        yield material


def _from_pool(pool: Path, settings: TrainingSettings, needs: Needs, report: Report) -> Material:
    """Return the material of a pool that is given: synthetic cases, of which nothing else is known."""
    files = ready(pool)
    if not files:
        raise DataSetError(f"no cases in {pool}; a pool has folders ring* with case*.npz")
    targets = [unpack(path).target for path in files]
    return Material(
        pool=pool,
        validation=_generated_or_kept(settings, needs, report),
        validation_origin="synthetic",
        learnt=[],
        kept=[],
        left_out=settings.leave_out,
        seen_patients=[],
        real_classes=False,
        provenance="synthetic",
        class_weight=class_weight(targets.count(0), targets.count(1)),
    )


def _without_validated(settings: TrainingSettings, kept: Sequence[Entry]) -> TrainingSettings:
    """Return settings that leave the validation's patients out of the priors, too."""
    validated = {entry.patient for entry in kept} - set(settings.leave_out)
    return replace(settings, leave_out=(*settings.leave_out, *sorted(validated)))


def _described(
    settings: TrainingSettings, needs: Needs, learnt: Sequence[Entry], kept: Sequence[Entry]
) -> Material:
    """Return what is learnt, without the cases of its validation."""
    origins = {"synthetic" if entry.origin == "synthetic" else "real" for entry in learnt}
    if settings.given_share < 1 or not learnt:
        origins.add("synthetic")
    both = _both(learnt)
    seen = {entry.patient for entry in (*learnt, *kept)}
    return Material(
        pool=settings.out / "pool",
        validation=[],
        validation_origin=kept[0].origin if kept else "synthetic",
        learnt=[entry.case for entry in learnt],
        kept=[entry.case for entry in kept],
        left_out=settings.leave_out,
        seen_patients=sorted(seen | (_mask_patients(settings) if needs.segments else set())),
        real_classes=both and all(entry.origin == "real" for entry in learnt),
        provenance=" and ".join(sorted(origins)),
        class_weight=_expected_weight(learnt, settings.given_share) if both else None,
    )


def _begin(settings: TrainingSettings, material: Material, before: Mapping[str, Any] | None) -> None:
    """Clear the folder of the cases of an earlier training; a training that goes on must have those that it began with.

    An earlier one may have left other patients out.

    Raises
    ------
    DataSetError
        The cases are not those that the training began with.
    """
    if before is None:
        for pattern in ("given/case*.npz", "validation/case*.npz", "pool/ring*/case*.npz"):
            for path in settings.out.glob(pattern):
                path.unlink()
    elif any(before.get(key, value) != value for key, value in material.as_dict().items()):
        raise DataSetError(
            f"the cases of {settings.data} are not those that the training in {settings.out} began with; give the data set of "
            "then, or train anew in another folder"
        )


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


def _entries(settings: TrainingSettings, needs: Needs, report: Report) -> list[Entry]:
    """Return the cases of the index that can be learnt from: those with a lesion mask, or with a class, where it counts."""
    indexed = settings.data is not None and (settings.data / "index.csv").is_file()
    entries = read_index(settings.data) if settings.data is not None and indexed else []
    nobody = (
        set(settings.leave_out)
        - {entry.patient for entry in entries}
        - _mask_patients(replace(settings, leave_out=()))
    )
    if nobody:
        where = "without a data set there is" if settings.data is None else f"{settings.data} has"
        raise DataSetError(f"{where} no patient {min(nobody)} to leave out")
    if not indexed or settings.given_share == 0:
        return []
    usable = [
        e
        for e in entries
        if e.patient not in settings.leave_out
        and ((needs.segments and e.lesions is not None) or (needs.classifies and e.label != "none"))
    ]
    if not needs.segments and not _both(usable):
        usable = []
    report(f"{len(usable)} of {len(entries)} cases of the data set can be learnt from")
    return usable


def _split(
    entries: Sequence[Entry], settings: TrainingSettings, needs: Needs
) -> tuple[list[Entry], list[Entry]]:
    """Return the cases to learn from and those of the patients that are kept for the validation, classes in turn.

    The validation is of real cases alone where it has any, and none for a network of classes when it lacks one. What a
    network has labelled proves nothing: it is learnt from and never kept.
    """
    proving = [entry for entry in entries if entry.origin != PSEUDO_LABELLED]
    if settings.learn_from_all or len({entry.patient for entry in proving}) < VALIDATION_PATIENTS:
        return list(entries), []
    held = set(by_patient(proving, VALIDATION_PATIENTS, settings.seed)[0].held_out)
    kept = [e for e in proving if e.patient in held]
    real = [e for e in kept if e.origin == "real"]
    labels = [e.label for e in real or kept]
    turns = [labels[:number].count(label) for number, label in enumerate(labels)]
    kept = [e for _, e in sorted(zip(turns, real or kept, strict=True), key=lambda pair: pair[0])]
    learnt = [e for e in entries if e.patient not in held]
    if not needs.segments and not (_both(kept) and _both(learnt)):
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


def _generated_or_kept(settings: TrainingSettings, needs: Needs, report: Report) -> list[Path]:
    """Return synthetic validation cases, MS and NMOSD in turn, made now unless they are there; none if all is learnt."""
    if settings.learn_from_all:
        return []
    folder = settings.out / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"case{number:05d}.npz" for number in range(needs.validation_cases)]
    missing = [path for path in files if not path.exists()]
    if missing and settings.pool is None:
        report(f"making {len(missing)} cases for the validation")
        generator = make_generator(settings.data, settings.leave_out)
        for number, path in enumerate(files):
            if path in missing:
                rng = np.random.default_rng((_VALIDATION_SEED, settings.seed, number))
                pack(generator.case(rng, "MS" if number % 2 == 0 else "NMOSD"), path)
    return [path for path in files if path.exists()]


def _mask_patients(settings: TrainingSettings) -> set[str]:
    if settings.data is None:
        return set()
    return {patient_of(path) for path in mask_files(settings.data)} - set(settings.leave_out)
