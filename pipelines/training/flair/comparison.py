"""Several networks on the same folds, in the tables of the papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, WeightsError
from pipelines.training.data_sets.cases import Entry, read_index
from pipelines.training.flair.export import weights_name
from pipelines.training.flair.loop import Watch
from pipelines.training.flair.recipes import JOINT, check_name
from pipelines.training.flair.scorer import NetworkScorer
from pipelines.training.flair.training import train
from pipelines.training.flair.training_settings import TrainingSettings
from pipelines.training.papers.folds import DRAWS, Fold, draws, folds_of
from pipelines.training.papers.tables import (
    ADDED_COLUMNS,
    CLASS_COLUMNS,
    PAPER_ONE,
    PAPER_THREE,
    PUBLISHED_CLASSES,
    PUBLISHED_SEGMENTATION,
    SEGMENTATION_COLUMNS,
    Table,
    interval_table,
    paper_table,
)
from pipelines.training.results_folder import CONFIG, METRICS, read_json, write_json
from pipelines.training.scoring.case_results import CaseResult, line_of
from pipelines.training.scoring.metrics import class_scores, mean_interval, mean_scores

Report = Callable[[str], None]
TESTED = "tested.json"
ASKED = "asked.json"
Results = dict[str, dict[str, list[CaseResult]]]
"""By network and fold."""


def compare(
    names: Sequence[str],
    data: Path,
    out: Path,
    *,
    folds: str = "5",
    weights: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    flips: bool = False,
    progress: Report = print,
    watch: Watch | None = None,
    **training: Any,
) -> str:
    """Train each network on the same folds, or load it, and write the papers' tables with ours beside them.

    ``out/NAME/FOLD`` is the results folder of one training. A finished fold of a network is not computed again, and one
    that was cut off goes on from its checkpoint; either only for a training that was asked for with the same settings.
    ``out`` then holds ``tables.md`` and ``metrics.json``.

    Parameters
    ----------
    names : sequence of str
        See `recipes.NAMES`.
    data : Path
        Folder with ``index.csv``, and with the sources of the generator if there are any.
    out : Path
    folds : str
        See `folds.folds_of`. Without a training (``weights``) they only group the cases.
    weights : Path, optional
        Folder with weights of each network, in it or in a folder ``NAME`` of it: nothing is trained.
    device, seed, flips : optional
    progress : callable
        Takes lines.
    watch : callable, optional
        Told of each step of a training.
    **training
        Further fields of `TrainingSettings`.

    Returns
    -------
    str
        The tables, Markdown.

    Raises
    ------
    DataSetError, WeightsError
    """
    if not names:
        raise WeightsError("nothing to compare; name one network or more")
    for name in names:
        check_name(name)
    entries = read_index(data)
    chosen = folds_of(entries, folds, seed)
    by_case = {entry.case: entry for entry in entries}
    used = resolve_device(device)
    asked = {"seed": str(seed)} | {key: str(value) for key, value in training.items() if key != "workers"}
    results: Results = {}
    for name in names:
        given = (
            None if weights is None else NetworkScorer(name, _given(name, weights), device=used, flips=flips)
        )
        results[name] = {}
        scored: dict[str, CaseResult] = {}
        for fold in chosen:
            folder = out / weights_name(name) / fold.name
            if given is None:
                _check_same(folder, fold, asked)
            made = {"fold": fold.digest, "flips": flips, "weights": given.digests if given else None}
            found = _finished(folder / TESTED, made)
            if found is None:
                progress(f"{name}, {fold.name}: {len(fold.test)} cases to test")
                scorer = given
                if scorer is None:
                    arguments = {"device": device, "seed": seed, "leave_out": fold.held_out, **training}
                    settings = TrainingSettings(name, data, folder, resume=True, **arguments)
                    train(settings, report=progress, watch=watch)
                    scorer, scored = NetworkScorer(name, folder, device=used, flips=flips), {}
                for case in fold.test:
                    # draws share cases, and the same weights say the same of them
                    if case not in scored:
                        scored[case] = _scored(scorer, by_case[case], progress)
                found = [scored[case] for case in fold.test]
                write_json(folder / TESTED, {**made, "results": [asdict(result) for result in found]})
            results[name][fold.name] = found
    text, figures = tables(results, entries, drawn=folds == "draws", trained=weights is None)
    write_json(out / METRICS, {"folds": [asdict(fold) for fold in chosen], "figures": figures})
    (out / "tables.md").write_text(text, encoding="utf-8")
    return text


def _given(name: str, weights: Path) -> Path:
    own = weights / weights_name(name)
    return own if own.is_dir() else weights


def _check_same(folder: Path, fold: Fold, asked: Mapping[str, str]) -> None:
    """Refuse a folder whose training left other patients out or was asked for otherwise; else note what is asked for."""
    if (folder / CONFIG).exists() and set(read_json(folder / CONFIG)["leave_out"]) != set(fold.held_out):
        raise WeightsError(f"{folder} holds a training that left other patients out; give another folder")
    if (folder / ASKED).exists():
        before = read_json(folder / ASKED)
        changed = sorted(key for key in {*before, *asked} if before.get(key) != asked.get(key))
        if changed:
            key = changed[0]
            raise WeightsError(
                f"{folder} holds a training with {key} {before.get(key)}, not {asked.get(key)}; give another folder"
            )
    write_json(folder / ASKED, asked)


def _scored(scorer: NetworkScorer, entry: Entry, progress: Report) -> CaseResult:
    result = scorer.score(entry)
    progress(line_of(result))
    return result


def _finished(path: Path, made: Mapping[str, object]) -> list[CaseResult] | None:
    """Return what was found in an earlier run of the same fold with the same weights."""
    if not path.exists():
        return None
    stored = read_json(path)
    if any(stored.get(key) != value for key, value in made.items()):
        return None
    return [_restored(result) for result in stored["results"]]


def _restored(stored: dict[str, Any]) -> CaseResult:
    scores = stored["scores"]
    if scores is not None:
        # JSON has no nan.
        stored = {**stored, "scores": {k: float("nan") if v is None else v for k, v in scores.items()}}
    return CaseResult(**stored)


def tables(
    results: Results, entries: Sequence[Entry], *, drawn: bool = False, trained: bool = True
) -> tuple[str, dict[str, dict[str, object]]]:
    """Return the tables of the papers as Markdown, and the figures in them by heading and network.

    Parameters
    ----------
    results : mapping of network to mapping of fold to results
    entries : sequence of Entry
        Of the whole data set.
    drawn : bool
        The folds are paper 1's draws.
    trained : bool
        Each fold has a training of its own; else all were answered by the same weights.
    """
    parts = [
        "# Comparison",
        "",
        f"Published figures are those of the papers on their own patients: {PAPER_THREE}; {PAPER_ONE}. They are not "
        "measured on the cases of this table. Ours are means over the tested cases of all folds; in percent.",
        "",
    ]
    figures: dict[str, dict[str, object]] = {}
    headings = sorted({r.heading for folds in results.values() for found in folds.values() for r in found})
    for heading in headings:
        under = {
            name: {fold: [r for r in found if r.heading == heading] for fold, found in folds.items()}
            for name, folds in results.items()
        }
        parts += [f"## {heading[0].upper()}{heading[1:]}", ""]
        masks, classes = _figures(under)
        figures[heading] = {"masks": masks, "classes": classes}
        parts += [table.markdown() for table in _paper_three(masks, classes)]
        intervals = {name: _intervals(folds, entries, drawn=drawn) for name, folds in under.items()}
        known = {name: found for name, found in intervals.items() if found}
        if known:
            figures[heading]["draws"] = known
            how = "out-of-fold answers" if trained else "the same weights for all"
            if trained and drawn:
                how = "a training for each"
            title = f"Paper 1: mean and 95 % confidence interval over {DRAWS} draws ({how})"
            parts.append(interval_table(title, known).markdown())
        elif classes:
            parts.append(
                "Paper 1's draws need 15 MS and 15 NMOSD patients without follow-up; there are fewer.\n"
            )
    return "\n".join(parts), figures


def _figures(
    under: Mapping[str, Mapping[str, Sequence[CaseResult]]],
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    masks, classes = {}, {}
    for name, folds in under.items():
        found = [result for results in folds.values() for result in results]
        scored = [result.scores for result in found if result.scores is not None]
        said = _said(found)
        if scored:
            masks[name] = mean_scores(scored)
        if said:
            classes[name] = class_scores(said)
    return masks, classes


def _said(found: Sequence[CaseResult]) -> list[tuple[str, float]]:
    return [(r.label, r.nmosd) for r in found if r.nmosd is not None and r.label in ("MS", "NMOSD")]


def _paper_three(
    masks: Mapping[str, Mapping[str, float]], classes: Mapping[str, Mapping[str, float]]
) -> list[Table]:
    whole = {name: scores for name, scores in masks.items() if _stands_alone(name)}
    telling = {name: scores for name, scores in classes.items() if _stands_alone(name)}
    ablated = {
        name: {**masks.get(name, {}), **classes.get(name, {})}
        for name in [*masks, *(n for n in classes if n not in masks)]
        if name.startswith(JOINT)
    }
    made = []
    if whole:
        made.append(
            paper_table("Segmentation", SEGMENTATION_COLUMNS, PUBLISHED_SEGMENTATION, whole, ADDED_COLUMNS)
        )
    if telling:
        made.append(paper_table("Classification", CLASS_COLUMNS, PUBLISHED_CLASSES, telling))
    if any(not _stands_alone(name) for name in ablated):
        nothing = ("-",) * len(SEGMENTATION_COLUMNS), ("-",) * len(CLASS_COLUMNS)
        made.append(
            paper_table(
                "Ablations of the joint network",
                {**SEGMENTATION_COLUMNS, **CLASS_COLUMNS},
                {
                    name: (
                        *PUBLISHED_SEGMENTATION.get(name, nothing[0]),
                        *PUBLISHED_CLASSES.get(name, nothing[1]),
                    )
                    for name in {*PUBLISHED_SEGMENTATION, *PUBLISHED_CLASSES}
                },
                ablated,
            )
        )
    return made


def _stands_alone(name: str) -> bool:
    """Return whether a network has a row of its own in the paper's main table."""
    return ":" not in name


def _intervals(
    folds: Mapping[str, Sequence[CaseResult]], entries: Sequence[Entry], *, drawn: bool
) -> dict[str, tuple[float, float, float]]:
    """Return mean and interval of each class score over paper 1's draws; empty where the cases do not allow them.

    [ours] With folds by patient the draws are made from the answers that each case got while it was held out: a hundredth of
    the trainings.
    """
    if drawn:
        samples = [said for said in map(_said, folds.values()) if said]
    else:
        answers = {r.case: r for found in folds.values() for r in found if r.nmosd is not None}
        try:
            sets = draws([entry for entry in entries if entry.case in answers])
        except DataSetError:
            return {}
        samples = [_said([answers[case] for case in fold.test]) for fold in sets]
    if not samples:
        return {}
    scores = [class_scores(said) for said in samples]
    return {key: mean_interval([s[key] for s in scores]) for key in scores[0] if key != "n"}
