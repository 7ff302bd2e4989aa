"""Scores of a network on a data set: each case, means, thick slices, and what the project asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.device import resolve_device
from pipelines.errors import DataSetError
from pipelines.flair.calibration import calibrated, temperature_of
from pipelines.flair.intensity import normalise
from pipelines.training.data_sets.cases import PSEUDO_LABELLED, Entry, LoadedCase, load_case, read_index
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.export import restore, seen_patients, weights_of
from pipelines.training.options import PATTERN, PIPELINE
from pipelines.training.pattern_training import PatternScorer
from pipelines.training.scoring.case_results import CaseResult, grouped, line_of, targets_of
from pipelines.training.scoring.metrics import score_mask
from pipelines.training.synthetic.artefacts import thick_slices
from pipelines.training.task import Task
from pipelines.training.whole_pipeline import PipelineScorer
from pipelines.types import BoolArray, FloatArray
from pipelines.weights import FOLDER, card

VOXEL_MM3 = SPACING_MM**3
Report = Callable[[str], None]


@dataclass(frozen=True)
class _Member:
    task: Task
    temperature: float
    threshold: float


class Scorer:
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
    return normalise(thick_slices(case.image, thickness_mm, 0, 0.0, rng), case.brain)


def scorer_of(
    name: str, folder: Path, device: str, *, flips: bool
) -> Scorer | PatternScorer | PipelineScorer:
    """Return what scores cases with the weights in a folder; see `evaluate`."""
    if name == PIPELINE:
        return PipelineScorer(folder, device=device)
    if name == PATTERN:
        return PatternScorer(folder, device=device, flips=flips)
    return Scorer(name, folder, device=device, flips=flips)


def evaluate(
    name: str,
    data: Path,
    *,
    weights: Path | None = None,
    device: str = "auto",
    flips: bool = False,
    degrade: Sequence[float] = (),
    progress: Report = print,
) -> dict[str, object]:
    """Score a network on a data set.

    Parameters
    ----------
    name : str
        See `recipes.NAMES`; or `PATTERN`, behind the installed networks of the mask; or `PIPELINE`: the pipeline as it runs in
        the node, with its default settings.
    data : Path
        Folder with ``index.csv``; see `pipelines.training.data_sets.cases`.
    weights : Path, optional
        Folder with the weights; those that are installed by default. Several of one network are an ensemble.
    flips : bool
        Test-time flips of a network; the pipeline has a setting of its own.
    degrade : sequence of float
        Slice thicknesses, mm, at which the cases are scored again.
    progress : callable
        Takes a line for each case.

    Returns
    -------
    dict
        ``name``, ``weights``, ``groups`` (see `grouped`) and ``targets``: what is asked, what was reached, by how much it was
        met or missed.

    Raises
    ------
    DataSetError, WeightsError
    """
    for thickness in degrade:
        if not thickness > SPACING_MM:
            raise DataSetError(f"slices of {thickness:g} mm are not thicker than the cube's {SPACING_MM} mm")
    scorer = scorer_of(name, weights or FOLDER, resolve_device(device), flips=flips)
    results = []
    for entry in read_index(data):
        results.append(scorer.score(entry, degrade))
        progress(line_of(results[-1]))
    targets = [target for result in results if not result.seen for target in targets_of(result)]
    return {
        "name": name,
        "weights": scorer.weights,
        "groups": grouped(results),
        "targets": [target.as_dict() for target in targets],
    }
