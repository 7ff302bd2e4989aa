"""Support vector machine and random forest on the voxels of the crop, paper 0's baselines."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from pipelines.fatsat.settings import CropKind
from pipelines.training.fatsat.crops import PLACES, EyeSet, at_place, centred
from pipelines.types import FloatArray

Name = Literal["SVM", "RF"]
LARGEST_SAMPLES = 6000
"""With more, fewer of the 9 places of each eye are taken, drawn at random [ours]: the kernel grows with the square."""

_Indices = npt.NDArray[np.intp]


class Baseline:
    """A classifier of scikit-learn with its own settings: the paper states none.

    Parameters
    ----------
    name : "SVM" or "RF"
        SVM: radial basis functions. RF: 100 trees.
    seed : int
    """

    def __init__(self, name: Name, seed: int) -> None:
        self.name: Name = name
        self._seed = seed
        self._samples = np.zeros((0, 0), dtype=np.float32)
        self._gamma = 0.0
        self._machine = SVC(kernel="precomputed")
        self._forest = RandomForestClassifier(n_estimators=100, random_state=seed)

    def fit(self, eyes: EyeSet, kind: CropKind, chosen: _Indices) -> Baseline:
        """Learn from some of the eyes, each at its place and at the 8 beside it."""
        rng = np.random.default_rng((self._seed, 23))
        places = max(1, min(len(PLACES), LARGEST_SAMPLES // len(chosen)))
        samples, labels = [], []
        for number in chosen:
            # The eye's own place is always among them.
            beside = 1 + rng.permutation(len(PLACES) - 1)[: places - 1]
            for place in (0, *beside):
                samples.append(at_place(eyes.crops[kind][number], PLACES[int(place)]).ravel())
                labels.append(eyes.labels[number])
        given = np.stack(samples)
        if self.name == "RF":
            self._forest.fit(given, labels)
            return self
        # The kernel as a matrix product is many times faster than scikit-learn's own, and the same.
        self._samples, self._gamma = given, 1 / (given.shape[1] * float(given.var()))
        self._machine.fit(self._kernel(given), labels)
        return self

    def probability(self, eyes: EyeSet, kind: CropKind) -> FloatArray:
        """Return the probability of a lesion: the forest's, or 0 and 1 by the side of the machine's plane [ours]."""
        given = centred(eyes, kind).reshape(len(eyes), -1)
        if self.name == "RF":
            return np.asarray(self._forest.predict_proba(given)[:, 1], dtype=np.float32)
        return np.asarray(self._machine.predict(self._kernel(given)), dtype=np.float32)

    def _kernel(self, given: FloatArray) -> npt.NDArray[np.float64]:
        squares = (given**2).sum(axis=1)[:, None] + (self._samples**2).sum(axis=1)
        distances = np.maximum(squares - 2 * (given @ self._samples.T), 0)
        return np.asarray(np.exp(-self._gamma * distances.astype(np.float64)))
