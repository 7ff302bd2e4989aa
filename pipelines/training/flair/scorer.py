"""A network on FLAIR, or an ensemble of it, that scores cases; in thick slices too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.flair.calibration import calibrated, temperature_of
from pipelines.flair.intensity import normalise
from pipelines.training.cards import seen_patients
from pipelines.training.data_sets.cases import PSEUDO_LABELLED, Entry, LoadedCase, load_case
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.flair.export import restore, weights_of
from pipelines.training.flair.task import Task
from pipelines.training.scoring.case_results import CaseResult
from pipelines.training.scoring.metrics import score_mask
from pipelines.training.synthetic.artefacts import draw_slices, thick_slices
from pipelines.types import BoolArray, FloatArray
from pipelines.weights import FOLDER, card

VOXEL_MM3 = SPACING_MM**3


@dataclass(frozen=True)
class _Member:
    task: Task
    temperature: float
    threshold: float


class NetworkScorer:
    """A network with its weights, or the members of an ensemble of it, ready to score cases.

    Parameters
    ----------
    name : str
        See `recipes.NAMES`.
    folder : Path
        Of the weights.
    device : str
        "cpu", "cuda:0".
    flips : bool
        Take the mean with the left-right mirrored case.

    Raises
    ------
    WeightsError
    """

    def __init__(self, name: str, folder: Path = FOLDER, *, device: str = "cpu", flips: bool = False) -> None:
        self.name, self.device, self.flips = name, device, flips
        self.weights = weights_of(name, folder)
        self.digests = [card(weights, folder).digest for weights in self.weights]
        self._members = []
        for weights in self.weights:
            task, details = restore(weights, folder, device)
            temperature, _ = temperature_of(details)
            self._members.append(_Member(task, temperature, float(details.get("threshold", 0.5))))
        self._seen = {patient for weights in self.weights for patient in seen_patients(weights, folder)}

    def _said(self, cube: FloatArray) -> tuple[FloatArray | None, float | None]:
        maps, shares = [], []
        for member in self._members:
            said = member.task.predict(member.task.network, cube, device=self.device, flips=self.flips)
            if said.probability is not None:
                maps.append(said.probability)
            if said.logits is not None:
                shares.append(float(calibrated(said.logits, member.temperature)[1]))
        probability = np.asarray(np.mean(maps, axis=0, dtype=np.float32)) if maps else None
        return probability, float(np.mean(shares)) if shares else None

    def score(self, entry: Entry, degrade: Sequence[float] = ()) -> CaseResult:
        """Score a case as it is, and in thick axial slices; against what a network has labelled nothing is scored.

        Parameters
        ----------
        degrade : sequence of float
            Slice thicknesses in mm.

        Raises
        ------
        DataSetError
            Its files cannot be read.
        """
        case = load_case(entry)
        probability, nmosd = self._said(normalise(case.image, case.brain))
        scores, degraded = None, {}
        truth = None if entry.origin == PSEUDO_LABELLED else case.lesions
        if probability is not None and truth is not None:
            scores = self._scored(probability, truth)
            for thickness in degrade:
                thick, _ = self._said(_degraded(case, thickness))
                if thick is not None:
                    degraded[thickness] = self._scored(thick, truth)
        return CaseResult(
            case=entry.case,
            patient=entry.patient,
            label=entry.label,
            origin=entry.origin,
            seen=entry.patient in self._seen,
            scores=scores,
            nmosd=nmosd,
            found_ml=None if probability is None else float(self._mask(probability).sum() * VOXEL_MM3 / 1000),
            degraded=degraded,
        )

    def _mask(self, probability: FloatArray) -> BoolArray:
        return np.asarray(probability > np.mean([m.threshold for m in self._members]))

    def _scored(self, probability: FloatArray, lesions: BoolArray) -> dict[str, float]:
        return score_mask(self._mask(probability), lesions, (SPACING_MM,) * 3).as_dict()


def _degraded(case: LoadedCase, thickness_mm: float) -> FloatArray:
    """Return a case as thick axial slices would show it, normalised; no noise is added to its own."""
    rng = np.random.default_rng(0)
    return normalise(thick_slices(case.image, draw_slices(thickness_mm, 0, rng), 0.0, rng), case.brain)
