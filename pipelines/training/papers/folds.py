"""Folds and draws by patient for learning and testing; no patient is ever on both sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from pipelines.errors import DataSetError

DRAWS = 100
"""Seeds of paper 1's test protocol."""
DRAWN = 15
"""Scans of each class in each of its tests."""


class Scan(Protocol):
    """Case with its patient and label; `pipelines.training.data_sets.cases.Entry` is one."""

    @property
    def case(self) -> str: ...  # noqa: D102
    @property
    def patient(self) -> str: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Fold:
    """One split.

    Parameters
    ----------
    name : str
        "fold1", "patient001" (the first patient, not the patient's name), "draw001".
    test : tuple of str
        Cases that are scored.
    held_out : tuple of str
        Patients that the training must not see.
    """

    name: str
    test: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A name for the content, so that a finished fold is not taken for another."""
        return hashlib.sha256(json.dumps([self.test, self.held_out]).encode()).hexdigest()[:12]


def _patients(entries: Sequence[Scan]) -> list[str]:
    return sorted({entry.patient for entry in entries})


def by_patient(entries: Sequence[Scan], count: int = 5, seed: int = 0) -> list[Fold]:
    """Return folds by patient, with the labels spread as evenly as the patients allow.

    Raises
    ------
    DataSetError
        There are fewer than two folds, or fewer patients than folds.
    """
    patients = _patients(entries)
    if count < 2:
        raise DataSetError(f"{count} folds leave nothing to learn from; ask for 2 or more")
    if len(patients) < count:
        raise DataSetError(
            f"{count} folds need {count} patients or more and the data set has {len(patients)}; ask for fewer folds"
        )
    labels = [entry.label for entry in entries]
    groups = [entry.patient for entry in entries]
    rarest = min(labels.count(label) for label in set(labels))
    # A class with fewer cases than folds cannot be in each; scikit-learn warns, and we know.
    strata = labels if rarest >= count else ["any"] * len(labels)
    splitter = StratifiedGroupKFold(n_splits=count, shuffle=True, random_state=seed)
    folds = []
    for number, (_, test) in enumerate(splitter.split(labels, strata, groups), start=1):
        chosen = [entries[int(index)] for index in test]
        folds.append(_fold(f"fold{number}", chosen))
    if any(not fold.test for fold in folds):
        raise DataSetError(
            f"the patients' cases cannot be split into {count} folds, one would be empty; ask for fewer"
        )
    return folds


def leave_one_patient_out(entries: Sequence[Scan]) -> list[Fold]:
    """Return a fold for each patient.

    Raises
    ------
    DataSetError
        There is one patient only.
    """
    patients = _patients(entries)
    if len(patients) < 2:
        raise DataSetError("leaving one patient out needs two patients or more, and the data set has one")
    return [
        _fold(f"patient{number:03d}", [entry for entry in entries if entry.patient == patient])
        for number, patient in enumerate(patients, start=1)
    ]


def draws(entries: Sequence[Scan], seeds: int = DRAWS, each: int = DRAWN) -> list[Fold]:
    """Return paper 1's test sets: for each seed as many MS as NMOSD scans, of patients who have no other scan.

    Raises
    ------
    DataSetError
        A class has too few such patients.
    """
    patients = [entry.patient for entry in entries]
    single = [entry for entry in entries if patients.count(entry.patient) == 1]
    classes = {label: [e for e in single if e.label == label] for label in ("MS", "NMOSD")}
    for label, found in classes.items():
        if len(found) < each:
            raise DataSetError(
                f"the test protocol draws {each} {label} patients without follow-up, and the data set has {len(found)}; "
                "use folds by patient"
            )
    drawn = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        chosen = [
            found[int(index)]
            for found in classes.values()
            for index in rng.choice(len(found), each, replace=False)
        ]
        drawn.append(_fold(f"draw{seed + 1:03d}", chosen))
    return drawn


def _fold(name: str, chosen: Sequence[Scan]) -> Fold:
    return Fold(name, tuple(sorted(entry.case for entry in chosen)), tuple(_patients(chosen)))


def folds_of(entries: Sequence[Scan], wanted: str, seed: int = 0) -> list[Fold]:
    """Return the folds that a word on the command line stands for.

    Parameters
    ----------
    wanted : str
        A number of folds by patient; "patients": each left out in turn; "draws": paper 1's test protocol, a training for each
        seed.

    Raises
    ------
    DataSetError
        The word is none of these, or the data set is too small.
    """
    if wanted.isdecimal():
        return by_patient(entries, int(wanted), seed)
    if wanted == "patients":
        return leave_one_patient_out(entries)
    if wanted == "draws":
        return draws(entries)
    raise DataSetError(f"no folds {wanted!r}; give a number of folds, 'patients' or 'draws'")
