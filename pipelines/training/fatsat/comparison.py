"""Table 2 of paper 0: SVM, random forest and 3D CNN, by cross-validation (D1) and on an unseen scanner (D2), ours beside."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.device import resolve_device
from pipelines.errors import DataSetError
from pipelines.fatsat.ensemble import Ensemble
from pipelines.fatsat.settings import WEIGHTS, CropKind
from pipelines.memory import keep_freed_memory
from pipelines.training.fatsat.classic import Baseline
from pipelines.training.fatsat.crops import EyeSet, centred
from pipelines.training.fatsat.curves import draw_members
from pipelines.training.fatsat.evaluation import MEMBERS_CURVE
from pipelines.training.fatsat.evaluation import SERIES as TEST_SERIES
from pipelines.training.fatsat.networks import probability, train_member
from pipelines.training.fatsat.phantoms import phantom_eyes, test_plan
from pipelines.training.fatsat.recipe import EPOCHS
from pipelines.training.fatsat.training import (
    MEMBERS_FOLDER,
    THRESHOLD,
    Stage,
    Watch,
    is_data_set,
    learning_eyes,
    train_members,
)
from pipelines.training.papers.optic_nerve_protocol import (
    TEST_SHARE,
    balanced,
    curve_of_members,
    mean_of,
    scores,
    split,
)
from pipelines.training.papers.optic_nerve_table import METHODS, Method, table_text
from pipelines.training.results_folder import METRICS, read_json, write_json
from pipelines.types import FloatArray
from pipelines.weights import card_details

REPEATS = 5
"""On a CPU [ours]; the paper has 200."""
MEMBERS = 5
SERIES = 150
Report = Callable[[str], None]


@dataclass(frozen=True)
class Protocol:
    """Settings that every method is compared with.

    Parameters
    ----------
    repeats : int
        Of the cross-validation.
    members : int
        Of the final ensembles.
    other_looks : bool
        The eyes are phantoms', whose looks are varied.
    """

    repeats: int
    members: int
    epochs: int
    device: str
    seed: int
    other_looks: bool

    def mark(self, eyes: EyeSet) -> str:
        """Return what tells results on these eyes from results on others, or with another seed or other epochs."""
        told = (eyes.digest(), self.seed, self.epochs, self.other_looks)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:12]


def compare(
    data: Path | None,
    out: Path,
    *,
    repeats: int = REPEATS,
    members: int = MEMBERS,
    series: int = SERIES,
    test_series: int = TEST_SERIES,
    epochs: int = EPOCHS,
    weights: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    methods: Sequence[Method] = METHODS,
    report: Report = print,
    watch: Watch | None = None,
) -> str:
    """Train every method by the paper's protocol and write its Table 2 with ours beside; what is finished is not done again.

    D1: each repeat splits by patient 75/25 and sub-samples to balance; mean of the scores. D2: as many members as asked for,
    each on all of D1 with its own sub-sample, their probabilities averaged. For phantoms D1 is scanner A with the training
    heads and D2 scanner B with the others; of a data set D1 is the scanner with most eyes and D2 all others.

    Parameters
    ----------
    data : Path, optional
        See `training.train`.
    out : Path
        For the eyes, the repeats, the members, ``tables.md``, ``metrics.json`` and ``members.png``.
    weights : Path, optional
        Folder with weights whose members stand for D2's networks, where it has them; they must not know D2's patients.

    Returns
    -------
    str
        The table, Markdown.

    Raises
    ------
    DataSetError, WeightsError
    """
    first, second, origin = _parts(data, out, series, test_series, seed, report, watch)
    protocol = Protocol(repeats, members, epochs, resolve_device(device), seed, origin == "synthetic")
    if protocol.device == "cpu":
        keep_freed_memory()
    ours: dict[str, dict[str, float]] = {}
    curves = {}
    for method in methods:
        found = _cross_validation(method, first, protocol, out, report, watch)
        ours[method.name] = {f"D1 {key}": value for key, value in mean_of(found).items()}
        if second is None:
            continue
        answers = _final(method, first, second, protocol, out, weights, report, watch)
        said = scores(second.labels, answers.mean(axis=0), THRESHOLD)
        ours[method.name] |= {f"D2 {key}": value for key, value in said.items()}
        rng = np.random.default_rng(seed)
        curves[method.name] = curve_of_members(second.labels, answers, THRESHOLD, rng)
    if curves:
        draw_members(curves, out / MEMBERS_CURVE)
    text = table_text(ours, first, second, origin, protocol.repeats)
    (out / "tables.md").write_text(text, encoding="utf-8")
    write_json(out / METRICS, {"origin": origin, "figures": ours, "members": curves})
    return text


def _parts(
    data: Path | None,
    out: Path,
    series: int,
    test_series: int,
    seed: int,
    report: Report,
    watch: Watch | None,
) -> tuple[EyeSet, EyeSet | None, str]:
    """Return the eyes of D1 and D2, and their origin."""
    eyes, origin = learning_eyes(data, out, series=series, seed=seed, report=report, watch=watch)
    if is_data_set(data):
        names, counts = np.unique(eyes.scanners, return_counts=True)
        most = str(names[counts.argmax()])
        first, rest = eyes.take(eyes.scanners == most), eyes.take(eyes.scanners != most)
        # A patient who was on both scanners would be on both sides.
        rest = rest.take(~np.isin(rest.patients, first.patients))
        if len(set(rest.labels.tolist())) < 2:
            report(
                f"D2: no other scanner than {most} has healthy eyes and eyes with a lesion of other patients"
            )
            return first, None, origin
        return first, rest, origin

    def told(done: int, count: int) -> None:
        if watch:
            watch(Stage("test phantoms", count), done, {})

    second = phantom_eyes(test_plan(data, test_series, seed), out / "test" / "usual", told)
    found = np.isfinite(second.errors_mm)
    if not found.any():
        raise DataSetError("not one eye of the test was found")
    return eyes, second.take(found), origin


def _cross_validation(
    method: Method, eyes: EyeSet, protocol: Protocol, out: Path, report: Report, watch: Watch | None
) -> list[dict[str, float]]:
    results = []
    made = protocol.mark(eyes)
    for repeat in range(protocol.repeats):
        path = out / "cross-validation" / f"{method.stem}-{repeat + 1:03d}.json"
        stored = read_json(path) if path.exists() else {}
        if stored.get("made") != made:
            rng = np.random.default_rng((protocol.seed, repeat))
            learnt, tested = split(eyes.patients, eyes.labels, TEST_SHARE, rng)
            tested = balanced(eyes.labels, tested, rng)
            name = f"{method.name}, repeat {repeat + 1} of {protocol.repeats}"
            answer = _trained(
                method,
                eyes.take(learnt),
                eyes.take(tested),
                protocol,
                100 + repeat,
                Stage(name, protocol.epochs),
                watch,
            )
            stored = {"made": made, "scores": scores(eyes.labels[tested], answer, THRESHOLD)}
            write_json(path, stored)
            report(f"{name}: balanced accuracy {stored['scores']['balanced accuracy']:.3f}")
        results.append(stored["scores"])
    return results


def _trained(
    method: Method,
    learnt: EyeSet,
    tested: EyeSet,
    protocol: Protocol,
    number: int,
    stage: Stage,
    watch: Watch | None,
) -> FloatArray:
    """Train one classifier and return its probabilities for the tested eyes."""
    seed = 1000 * protocol.seed + number
    if method.machine != "3D CNN":
        chosen = balanced(learnt.labels, np.arange(len(learnt)), np.random.default_rng(seed))
        return (
            Baseline(method.machine, seed).fit(learnt, method.crop, chosen).probability(tested, method.crop)
        )

    def told(epoch: int, losses: dict[str, float]) -> None:
        if watch:
            watch(stage, epoch, losses)

    member = train_member(
        learnt,
        method.crop,
        seed=seed,
        epochs=protocol.epochs,
        other_looks=protocol.other_looks,
        device=protocol.device,
        watch=told,
    )
    return probability(member.network, centred(tested, method.crop))


def _final(
    method: Method,
    first: EyeSet,
    second: EyeSet,
    protocol: Protocol,
    out: Path,
    weights: Path | None,
    report: Report,
    watch: Watch | None,
) -> FloatArray:
    """Return what the members of the final model say of D2, shape (n, eyes)."""
    if method.machine != "3D CNN":
        stage = Stage("", 1)
        return np.stack(
            [
                _trained(method, first, second, protocol, number, stage, watch)
                for number in range(1, protocol.members + 1)
            ]
        )
    crops = centred(second, method.crop)
    if weights is not None and (weights / f"{WEIGHTS[method.crop]}.json").exists():
        _check_unseen(weights, method.crop, second)
        return Ensemble(protocol.device, weights, crop=method.crop)(crops).members
    trained = train_members(
        first,
        method.crop,
        out / MEMBERS_FOLDER / f"{method.stem}-{protocol.mark(first)}",
        members=protocol.members,
        seed=protocol.seed,
        epochs=protocol.epochs,
        device=protocol.device,
        other_looks=protocol.other_looks,
        report=report,
        watch=watch,
    )
    return np.stack([probability(member.network, crops) for member in trained])


def _check_unseen(weights: Path, crop: CropKind, tested: EyeSet) -> None:
    """Refuse weights that have learnt from a patient of D2: their figures would be no test."""
    seen = set(card_details(WEIGHTS[crop], weights).get("seen_patients", ()))
    known = seen & set(tested.patients.tolist())
    if known:
        raise DataSetError(
            f"the weights in {weights} were trained on {len(known)} of the patients of the other scanners; "
            "leave --weights out, or give weights that were trained without them"
        )
