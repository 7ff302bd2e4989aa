"""Scores of the ensemble: on phantoms that no training saw, with the eyes as the finder finds them, or on a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, PipelineError
from pipelines.fatsat.ensemble import Ensemble
from pipelines.fatsat.settings import CropKind
from pipelines.training.fatsat.classic import Baseline
from pipelines.training.fatsat.crops import EyeSet, centred, joined, load
from pipelines.training.fatsat.curves import draw_contrasts, draw_members
from pipelines.training.fatsat.dataset import data_set_eyes, read_index
from pipelines.training.fatsat.export import add_figures, figures_for_card
from pipelines.training.fatsat.phantoms import phantom_eyes, test_plan
from pipelines.training.fatsat.training import CROPS_FOLDER, PHANTOMS_FOLDER, Stage, Watch, is_data_set
from pipelines.training.papers.optic_nerve_protocol import balanced, curve_of_members, scores
from pipelines.training.results_folder import write_json
from pipelines.training.scoring.targets import Target
from pipelines.types import FloatArray
from pipelines.weights import FOLDER, card_details

SERIES = 240
CONTRASTS = (1.05, 1.1, 1.2, 1.3, 1.5, 1.75, 2.0)
"""Lesion over nerve signal, from the subtle on."""
CONTRAST_SERIES = 12
"""For each contrast; every eye has a lesion."""
NEAR_MM = 6.0
NEAR_SHARE = 0.99
MEDIAN_MM = 2.0
BALANCED_ACCURACY = 0.80
BASELINE_MEMBERS = 3
"""Machines and forests, each with a sub-sample of its own, whose answers are averaged."""
SYNTHETIC = "synthetic phantoms, scanner B, not trained on"
MEMBERS_CURVE, CONTRAST_CURVE = "members.png", "contrast.png"
Report = Callable[[str], None]
Method = Callable[[EyeSet], FloatArray]
"""Takes eyes and returns the probability of a lesion."""


@dataclass(frozen=True)
class Evaluation:
    """Figures that were measured.

    Parameters
    ----------
    figures : dict
        For a file: scores by heading and method, junctions, contrast and members.
    lines : list of str
        For the screen.
    """

    figures: dict[str, Any]
    lines: list[str]


def evaluate(
    data: Path | None,
    out: Path,
    *,
    file: Path | None = None,
    weights: Path | None = None,
    crop: CropKind = "published",
    series: int = SERIES,
    contrast_series: int = CONTRAST_SERIES,
    on_card: bool = False,
    device: str = "auto",
    seed: int = 0,
    report: Report = print,
    watch: Watch | None = None,
) -> Evaluation:
    """Score an ensemble, and beside it SVM and random forest where its training's eyes are at hand.

    ``out`` then holds ``evaluation.json``, the eyes (``test/``), ``members.png`` and, for phantoms, ``contrast.png``.

    Parameters
    ----------
    data : Path, optional
        A data set with labels, or a folder with ``head_labels/``: phantoms of the heads kept out of the training; without it
        phantoms from geometry alone.
    file : Path, optional
        In place of ``out/evaluation.json``.
    weights : Path, optional
        Folder of the weights; the installed ones by default. A results folder has the eyes for the baselines, too.
    series, contrast_series : int
        Phantoms with lesions as the generator draws them, and for each contrast of the curve.
    on_card : bool
        Put the figures on the model card, too.

    Raises
    ------
    DataSetError, WeightsError
    """
    folder = FOLDER if weights is None else weights
    ensemble = Ensemble(resolve_device(device), folder, crop=crop)
    rng = np.random.default_rng(seed)
    if is_data_set(data) and data is not None:
        found = _on_data_set(data, out, ensemble, folder, report, watch, rng)
    else:
        methods: dict[str, Method] = {"ensemble": lambda eyes: _answers(ensemble, eyes).mean(axis=0)}
        methods |= _baselines(folder, crop, seed, report)
        found = _on_phantoms(data, out, ensemble, methods, series, contrast_series, seed, watch, rng)
    told = {"crop": crop, "weights": ensemble.card.digest, **found.figures}
    write_json(file or out / "evaluation.json", told)
    if on_card:
        add_figures(folder, crop, figures_for_card(found.figures))
    return found


def _answers(ensemble: Ensemble, eyes: EyeSet) -> FloatArray:
    crops = centred(eyes, ensemble.crop_kind)
    parts = [ensemble(crops[at : at + 16]).members for at in range(0, len(crops), 16)]
    return np.concatenate(parts, axis=1)


def _baselines(folder: Path, crop: CropKind, seed: int, report: Report) -> dict[str, Method]:
    """Return SVM and random forest, trained on the eyes that a results folder holds."""
    stored = sorted([*(folder / PHANTOMS_FOLDER).glob("*.npz"), *(folder / CROPS_FOLDER).glob("*.npz")])
    if not stored:
        report("SVM and RF: not beside it, because the folder of the weights holds no eyes to train them on")
        return {}
    eyes = joined([load(path) for path in stored])
    everyone = np.arange(len(eyes))
    found: dict[str, Method] = {}
    for name in ("SVM", "RF"):
        members = []
        for number in range(BASELINE_MEMBERS):
            chosen = balanced(eyes.labels, everyone, np.random.default_rng((seed, number)))
            members.append(Baseline(name, number).fit(eyes, crop, chosen))
        report(f"{name}: {len(members)} trained on {len(eyes)} eyes")

        def answer(given: EyeSet, members: list[Baseline] = members) -> FloatArray:
            said = [member.probability(given, crop) for member in members]
            return np.asarray(np.mean(said, axis=0), dtype=np.float32)

        found[name] = answer
    return found


def _on_phantoms(
    data: Path | None,
    out: Path,
    ensemble: Ensemble,
    methods: Mapping[str, Method],
    series: int,
    contrast_series: int,
    seed: int,
    watch: Watch | None,
    rng: np.random.Generator,
) -> Evaluation:
    usual = phantom_eyes(test_plan(data, series, seed), out / "test" / "usual", _told(watch, "test phantoms"))
    faint = {
        contrast: phantom_eyes(
            test_plan(data, contrast_series, seed, contrast),
            out / "test" / f"contrast-{contrast:g}",
            _told(watch, f"phantoms with contrast {contrast:g}"),
        )
        for contrast in CONTRASTS
    }
    # The target is of phantoms as they are drawn, half of the eyes with a lesion; where every eye has one, it stands apart.
    junctions = junction_figures(usual.errors_mm)
    lesioned = junction_figures(np.concatenate([eyes.errors_mm for eyes in faint.values()]))
    seen = usual.take(np.isfinite(usual.errors_mm))
    group = {name: scores(seen.labels, method(seen), ensemble.threshold) for name, method in methods.items()}
    curves = {
        name: {
            contrast: _at_contrast(method, eyes, group[name]["specificity"], ensemble.threshold)
            for contrast, eyes in faint.items()
        }
        for name, method in methods.items()
    }
    points = curve_of_members(seen.labels, _answers(ensemble, seen), ensemble.threshold, rng)
    draw_members({SYNTHETIC: points}, out / MEMBERS_CURVE)
    draw_contrasts(curves, out / CONTRAST_CURVE)
    targets = _targets(junctions, group["ensemble"])
    figures = {
        "groups": {SYNTHETIC: group},
        "not found": int((~np.isfinite(usual.errors_mm)).sum()),
        "junctions": junctions,
        "junctions with a lesion in every eye": lesioned,
        "contrast": curves,
        "members": points,
        "targets": [target.as_dict() for target in targets],
    }
    lines = [f"{SYNTHETIC}, {len(usual)} eyes of which {figures['not found']} were not found"]
    lines += [f"  {name}: {_text(found)}" for name, found in group.items()]
    lines += ["", "junctions", f"  as drawn: {_text(junctions)}"]
    lines.append(f"  with a lesion in every eye, all contrasts: {_text(lesioned)}")
    lines += ["", "balanced accuracy by lesion contrast (sensitivity there, specificity as above)"]
    for name, points_of in curves.items():
        lines.append(f"  {name}: " + ", ".join(f"{c:g}: {value:.3f}" for c, value in points_of.items()))
    lines += ["", "balanced accuracy by number of members", f"  {_members_text(points)}"]
    lines += ["", "targets", *(target.text() for target in targets)]
    return Evaluation(figures, lines)


def _on_data_set(
    data: Path,
    out: Path,
    ensemble: Ensemble,
    folder: Path,
    report: Report,
    watch: Watch | None,
    rng: np.random.Generator,
) -> Evaluation:
    eyes, _ = data_set_eyes(data, out / "test", report, watch=_told(watch, "eyes of the data set"))
    origins = {entry.case: entry.origin for entry in read_index(data)}
    learnt = set(card_details(ensemble.card.name, folder).get("seen_patients", ()))
    headings = np.array(
        [
            f"{origins[case]} eyes, {'TRAINED ON' if patient in learnt else 'not trained on'}"
            for case, patient in zip(eyes.cases.tolist(), eyes.patients.tolist(), strict=True)
        ]
    )
    groups: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    lines = []
    for heading in sorted(set(headings.tolist())):
        own = eyes.take(headings == heading)
        answers = _answers(ensemble, own)
        groups[heading] = {"ensemble": scores(own.labels, answers.mean(axis=0), ensemble.threshold)}
        curves[heading] = curve_of_members(own.labels, answers, ensemble.threshold, rng)
        lines += [heading, f"  ensemble: {_text(groups[heading]['ensemble'])}"]
        lines.append(f"  by number of members: {_members_text(curves[heading])}")
    draw_members(curves, out / MEMBERS_CURVE)
    return Evaluation({"groups": groups, "members": curves}, lines)


def junction_figures(errors_mm: FloatArray) -> dict[str, float]:
    """Return how far the junctions lie from the true ones; one that is not found counts as far away."""
    found = errors_mm[np.isfinite(errors_mm)]
    if not len(found):
        raise DataSetError("not one eye of the test was found")
    return {
        "within 6 mm": float((errors_mm <= NEAR_MM).mean()),
        "median mm": float(np.median(errors_mm)),
        "95th percentile mm": float(np.percentile(found, 95)),
        "largest mm": float(found.max()),
        "not found": float((~np.isfinite(errors_mm)).sum()),
        "eyes": float(len(errors_mm)),
    }


def _at_contrast(method: Method, eyes: EyeSet, specificity: float, threshold: float) -> float:
    seen = eyes.take(np.isfinite(eyes.errors_mm) & (eyes.labels == 1))
    if not len(seen):
        raise PipelineError("no eye with a lesion was found")
    return (float((method(seen) >= threshold).mean()) + specificity) / 2


def _targets(junctions: Mapping[str, float], reached: Mapping[str, float]) -> list[Target]:
    near, median, score = junctions["within 6 mm"], junctions["median mm"], reached["balanced accuracy"]
    case, origin = "phantoms", "synthetic"
    return [
        Target(case, f"junction within 6 mm in {NEAR_SHARE:.0%}", near, near - NEAR_SHARE, origin),
        Target(case, f"junction's median error under {MEDIAN_MM:g} mm", median, MEDIAN_MM - median, origin),
        Target(
            case, f"balanced accuracy at least {BALANCED_ACCURACY}", score, score - BALANCED_ACCURACY, origin
        ),
    ]


def _told(watch: Watch | None, name: str) -> Callable[[int, int], None]:
    def told(done: int, count: int) -> None:
        if watch:
            watch(Stage(name, count), done, {})

    return told


def _text(figures: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.0f}" if name in ("eyes", "not found") else f"{name} {value:.3f}"
        for name, value in figures.items()
    )


def _members_text(points: list[dict[str, float]]) -> str:
    shown = [p for p in points if p["members"] in (1, 2, 4, 8, 16, 32, len(points))]
    return ", ".join(
        f"{p['members']:.0f}: {p['mean']:.3f} ({p['lowest']:.3f}-{p['highest']:.3f})" for p in shown
    )
