"""Scores of a network on a data set: each case, means, thick slices, and what the project asks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.device import resolve_device
from pipelines.errors import DataSetError
from pipelines.flair.calibration import calibrated, temperature_of
from pipelines.flair.intensity import normalise
from pipelines.training.artefacts import thick_slices
from pipelines.training.cases import PSEUDO_LABELLED, Entry, LoadedCase, load_case, read_index
from pipelines.training.cube import SPACING_MM
from pipelines.training.export import restore, seen_patients, weights_of
from pipelines.training.metrics import class_scores, mean_scores, score_mask
from pipelines.training.tables import Target, targets_met
from pipelines.training.task import Task
from pipelines.types import BoolArray, FloatArray
from pipelines.weights import FOLDER, card

VOXEL_MM3 = SPACING_MM**3
REAL, SYNTHETIC = "real", "synthetic"
_SHOWN = ("dice", "lesion_f1", "volume_ratio", "volume_ml", "truth_ml", "false_ml")
Report = Callable[[str], None]


@dataclass(frozen=True)
class CaseResult:
    """What a network says of one case, and how good that is.

    Parameters
    ----------
    scores : dict or None
        Of `MaskScores`; None where the lesions are unknown or the network does not segment.
    degraded : dict
        The same by slice thickness in mm.
    nmosd : float or None
        Probability of NMOSD; None from a network that does not classify.
    found_ml : float or None
        Volume of the mask.
    """

    case: str
    patient: str
    label: str
    origin: str
    seen: bool
    scores: dict[str, float] | None
    nmosd: float | None
    found_ml: float | None
    degraded: dict[float, dict[str, float]] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Under which its figures stand."""
        return f"{self.origin} cases{', seen in training' if self.seen else ''}"


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
        return score_mask(self._mask(probability), lesions, VOXEL_MM3).as_dict()


def _degraded(case: LoadedCase, thickness_mm: float) -> FloatArray:
    """Return a case as thick axial slices would show it, normalised; no noise is added to its own."""
    rng = np.random.default_rng(0)
    return normalise(thick_slices(case.image, thickness_mm, 0, 0.0, rng), case.brain)


def grouped(results: Sequence[CaseResult]) -> dict[str, dict[str, object]]:
    """Return the figures of cases under headings that keep real, synthetic and seen ones apart.

    Returns
    -------
    dict
        For each heading ``cases`` (name to scores), ``mean`` (see `mean_scores`), ``degraded`` (thickness to the mean) and
        ``classes`` (see `class_scores`).
    """
    groups: dict[str, dict[str, object]] = {}
    for heading in sorted({result.heading for result in results}):
        chosen = [r for r in results if r.heading == heading]
        thicknesses = sorted({mm for r in chosen for mm in r.degraded})
        labelled = [(r.label, r.nmosd) for r in chosen if r.nmosd is not None and r.label in ("MS", "NMOSD")]
        groups[heading] = {
            "cases": {r.case: _case_figures(r) for r in chosen},
            "mean": mean_scores([r.scores for r in chosen if r.scores is not None]),
            "degraded": {
                f"{mm:g} mm": mean_scores([r.degraded[mm] for r in chosen if mm in r.degraded])
                for mm in thicknesses
            },
            "classes": class_scores(labelled) if labelled else {},
        }
    return groups


def _case_figures(result: CaseResult) -> dict[str, object]:
    figures: dict[str, object] = {"label": result.label, **(result.scores or {})}
    if result.nmosd is not None:
        figures["nmosd"] = round(result.nmosd, 4)
    if result.scores is None and result.found_ml is not None:
        figures["volume_ml"] = round(result.found_ml, 4)
    if result.degraded:
        figures["degraded"] = {f"{mm:g} mm": scores for mm, scores in result.degraded.items()}
    return figures


def line_of(result: CaseResult) -> str:
    """Return a line about a case for the terminal."""
    parts = [f"{result.case} ({result.heading})"]
    if result.nmosd is not None:
        parts.append(f"NMOSD {result.nmosd:.2f}")
    if result.scores is not None:
        parts += [f"{name} {result.scores[name]:.3f}" for name in _SHOWN]
    elif result.found_ml is not None:
        parts.append(f"volume_ml {result.found_ml:.3f}")
    parts += [f"dice at {mm:g} mm {scores['dice']:.3f}" for mm, scores in result.degraded.items()]
    return ", ".join(parts)


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
        See `recipes.NAMES`.
    data : Path
        Folder with ``index.csv``; see `pipelines.training.cases`.
    weights : Path, optional
        Folder with the weights; those that are installed by default. Several of one network are an ensemble.
    flips : bool
        Test-time flips.
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
    scorer = Scorer(name, weights or FOLDER, device=resolve_device(device), flips=flips)
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


def targets_of(result: CaseResult) -> list[Target]:
    """Return what is asked of a case whose lesions are known, with what was reached."""
    if result.scores is None:
        return []
    return targets_met(result.case, result.patient, result.origin, result.scores, result.degraded)
