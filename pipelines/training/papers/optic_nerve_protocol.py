"""Protocol of paper 0: splits by patient, balanced sub-samples, and the scores of the paper's Table 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from pipelines.errors import DataSetError

TEST_SHARE = 0.25
"""Of the patients, in each repeat of the cross-validation."""
STOP_SHARE = 0.2
"""Of the training patients, by whom a training is stopped [ours]: by the tested ones it would flatter itself."""
PAPER_REPEATS = 200
_TRIES = 100

_Labels = npt.NDArray[np.int64]
_Names = npt.NDArray[np.str_]
_Indices = npt.NDArray[np.intp]


def split(
    patients: _Names, labels: _Labels, share: float, rng: np.random.Generator
) -> tuple[_Indices, _Indices]:
    """Split eyes by patient, with both classes on both sides.

    Parameters
    ----------
    share : float
        Of the patients that go to the second part; at least one, and more where both classes need more.

    Returns
    -------
    first, second : int arrays
        Indices of eyes.

    Raises
    ------
    DataSetError
        The patients do not allow it.
    """
    names = np.unique(patients)
    for count in range(max(1, round(share * len(names))), len(names)):
        for _ in range(_TRIES):
            taken = np.isin(patients, rng.choice(names, count, replace=False))
            if all(len(np.unique(labels[part])) == 2 for part in (taken, ~taken)):
                return np.flatnonzero(~taken), np.flatnonzero(taken)
    raise DataSetError(
        f"{len(names)} patients cannot be split with healthy eyes and eyes with a lesion on both sides; more are needed"
    )


def balanced(labels: _Labels, chosen: _Indices, rng: np.random.Generator) -> _Indices:
    """Return as many eyes of either class: all of the rarer one, and a draw of the other (healthy eyes, as a rule)."""
    groups = [chosen[labels[chosen] == value] for value in (0, 1)]
    least = min(map(len, groups))
    return np.sort(np.concatenate([rng.choice(group, least, replace=False) for group in groups]))


def scores(labels: _Labels, probability: npt.ArrayLike, threshold: float = 0.5) -> dict[str, float]:
    """Return balanced accuracy, sensitivity, specificity and AUC as shares, and the number of eyes; nan where not defined."""
    said = np.asarray(probability, dtype=np.float64)
    positive = said >= threshold
    ill, well = labels == 1, labels == 0
    sensitivity = float(positive[ill].mean()) if ill.any() else float("nan")
    specificity = float((~positive[well]).mean()) if well.any() else float("nan")
    return {
        "balanced accuracy": (sensitivity + specificity) / 2,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "AUC": float(roc_auc_score(labels, said)) if ill.any() and well.any() else float("nan"),
        "eyes": float(len(labels)),
    }


def mean_of(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the repeats, and the standard deviation of the balanced accuracy."""
    mean = {key: float(np.nanmean([one[key] for one in found])) for key in found[0]}
    return {**mean, "SD of balanced accuracy": float(np.std([one["balanced accuracy"] for one in found]))}


def curve_of_members(
    labels: _Labels, members: npt.NDArray[np.float32], threshold: float, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Return how the result depends on the number of members.

    Parameters
    ----------
    members : float32 array, shape (n, eyes)
        Probability of a lesion, by each member.

    Returns
    -------
    list of dict
        For 1 to n members: mean balanced accuracy, and its lowest and highest, over up to 50 draws of that many.
    """
    points = []
    for count in range(1, len(members) + 1):
        draws = 1 if count == len(members) else 50
        found = []
        for _ in range(draws):
            chosen = rng.choice(len(members), count, replace=False)
            found.append(scores(labels, members[chosen].mean(axis=0), threshold)["balanced accuracy"])
        points.append(
            {"members": count, "mean": float(np.mean(found)), "lowest": min(found), "highest": max(found)}
        )
    return points
