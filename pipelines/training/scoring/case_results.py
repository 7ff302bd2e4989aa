"""Results case by case, with their scores, under headings that keep real and synthetic cases apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.training.scoring.metrics import class_scores, mean_scores
from pipelines.training.scoring.targets import Target, targets_met

_SHOWN = ("dice", "lesion_f1", "volume_ratio", "volume_ml", "truth_ml", "false_ml")


@dataclass(frozen=True)
class CaseResult:
    """Answer of a network or a pipeline to one case, and its scores.

    Parameters
    ----------
    scores : dict or None
        Of `MaskScores`; None where the lesions are unknown or the network does not segment.
    degraded : dict
        The same by slice thickness in mm.
    nmosd : float or None
        Probability of NMOSD, of a pipeline by its first network; None from a network that does not classify.
    opinions : dict
        Of a pipeline, the probability of NMOSD by each of its networks.
    found_ml : float or None
        Volume of the mask.
    refused : str
        Why the pipeline did not analyse it, or not in slices of some thickness; empty: it did.
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
    refused: str = ""
    opinions: dict[str, float] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Heading that its figures stand under."""
        return f"{self.origin} cases{', seen in training' if self.seen else ''}"


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
    if result.opinions:
        figures["opinions"] = {name: round(share, 4) for name, share in result.opinions.items()}
    if result.scores is None and result.found_ml is not None:
        figures["volume_ml"] = round(result.found_ml, 4)
    if result.refused:
        figures["refused"] = result.refused
    if result.degraded:
        figures["degraded"] = {f"{mm:g} mm": scores for mm, scores in result.degraded.items()}
    return figures


def line_of(result: CaseResult) -> str:
    """Return a line about a case for the terminal."""
    parts = [f"{result.case} ({result.heading})"]
    if result.refused:
        parts.append(f"not analysed: {result.refused}")
    if result.opinions:
        said = " and ".join(f"{share:.2f} by {name}" for name, share in result.opinions.items())
        parts.append(f"NMOSD {said}")
    elif result.nmosd is not None:
        parts.append(f"NMOSD {result.nmosd:.2f}")
    if result.scores is not None:
        parts += [f"{name} {result.scores[name]:.3f}" for name in _SHOWN]
    elif result.found_ml is not None:
        parts.append(f"volume_ml {result.found_ml:.3f}")
    parts += [f"dice at {mm:g} mm {scores['dice']:.3f}" for mm, scores in result.degraded.items()]
    return ", ".join(parts)


def targets_of(result: CaseResult) -> list[Target]:
    """Return what is asked of a case whose lesions are known, with what was reached."""
    if result.scores is None:
        return []
    return targets_met(result.case, result.patient, result.origin, result.scores, result.degraded)
