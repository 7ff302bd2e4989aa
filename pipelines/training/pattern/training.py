"""Training of the network that tells MS from NMOSD by a lesion mask, and its score on a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.calibration import calibrated, fit_temperature
from pipelines.flair.pattern.features import NAMES
from pipelines.flair.pattern.model import PatternNetwork
from pipelines.flair.settings import PATTERN_WEIGHTS as WEIGHTS
from pipelines.training.cards import CLASSIFIER_LIMIT, VERSION, device_uid, readme, sources_of
from pipelines.training.data_sets.sample import CLASSES
from pipelines.training.pattern.lesion_patterns import PATTERNS, VIEWS, drawn
from pipelines.training.phase import Phase
from pipelines.training.results_folder import (
    CONFIG,
    CURVES,
    HISTORY,
    METRICS,
    draw_curves,
    read_json,
    software,
    write_json,
)
from pipelines.training.scoring.metrics import class_scores
from pipelines.types import FloatArray
from pipelines.weights import save_weights

LEAST_PATTERNS = 20
KEPT = "patterns.npz"
KEPT_EVERY = 100
VALIDATION_SHARE = 0.2
"""The last of the patterns, of patients that nothing is learnt from."""
EPOCHS, BATCH = 40, 64
RATE, DECAY = 2e-3, 1e-2
PURPOSE = "MS versus NMOSD by the places and shapes of the lesions found; research use only"
REFERENCE = "no paper's: a perceptron on figures of the lesion mask"
INPUT = "the lesions that the mask's networks found, `pipelines.flair.pattern.features`"
Watch = Callable[[Phase, int, dict[str, float]], None]
Targets = npt.NDArray[np.int64]


def fit(
    features: FloatArray, targets: Targets, kept: tuple[FloatArray, Targets], *, seed: int = 0
) -> tuple[PatternNetwork, list[dict[str, float]]]:
    """Train the perceptron; return it as it was at the epoch that is best by the cases kept out, and its history.

    Parameters
    ----------
    features : float32 array, shape (n, len(NAMES))
    targets : int64 array, shape (n,)
        0 MS, 1 NMOSD.
    kept : features and targets
        Of other patients.
    """
    torch.manual_seed(seed)
    network = PatternNetwork()
    inputs, classes = torch.from_numpy(features), torch.from_numpy(targets)
    network.mean.copy_(inputs.mean(0))
    network.spread.copy_(inputs.std(0).clamp_min(1e-2))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    annealed = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    order = torch.Generator().manual_seed(seed)
    state, step = network.state_dict(), 0
    history: list[dict[str, float]] = []
    for _ in range(EPOCHS):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(inputs), generator=order).split(BATCH):  # type: ignore[no-untyped-call]
            loss = functional.cross_entropy(network(inputs[rows]), classes[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(rows) / len(inputs)
            step += 1
        annealed.step()
        score = -_loss(network.eval(), *kept)
        if not history or score > max(line["score"] for line in history):
            state = {key: value.clone() for key, value in network.state_dict().items()}
        history.append({"phase": 0, "step": step, "class": total, "score": score})
    network.load_state_dict(state)
    return network.eval(), history


@torch.inference_mode()
def logits_of(network: PatternNetwork, features: FloatArray) -> FloatArray:
    """Return the logits of features, float32, shape (n, 2)."""
    said: FloatArray = network(torch.from_numpy(features)).numpy()
    return said


def _loss(network: PatternNetwork, features: FloatArray, targets: Targets) -> float:
    return float(
        functional.cross_entropy(torch.from_numpy(logits_of(network, features)), torch.from_numpy(targets))
    )


def train_pattern(
    data: Path | None,
    out: Path,
    *,
    patterns: int = PATTERNS,
    workers: int = 2,
    resume: bool = False,
    seed: int = 0,
    progress: Callable[[str], None] = print,
    watch: Watch | None = None,
) -> Path:
    """Draw lesion patterns, train the perceptron on them, and write its weights with a model card.

    ``out`` then holds ``config.json``, ``patterns.npz`` (the features), ``history.json``, ``curves.png``, ``metrics.json``, the
    weights and both cards. It may be killed at any time; ``resume`` goes on with the patterns that are drawn.

    Parameters
    ----------
    data : Path, optional
        Folder that may hold ``head_labels/``; without it the MNI152 template is the only head.
    patterns : int
        How many patients, at least `LEAST_PATTERNS`.
    workers : int
        Processes that draw.

    Returns
    -------
    Path
        The card of the weights.

    Raises
    ------
    DataSetError, WeightsError
        There is no folder ``data``; too few patterns are asked for; ``out`` has patterns and ``resume`` is not set, or they are
        those of another training.
    """
    if patterns < LEAST_PATTERNS:
        raise DataSetError(
            f"{patterns} patterns are too few to learn from; --steps {LEAST_PATTERNS} at least"
        )
    config = {
        "name": WEIGHTS,
        "seed": seed,
        "data": None if data is None else str(data.resolve()),
        "views": VIEWS,
        "features": len(NAMES),
    }
    if data is not None and not data.is_dir():
        raise DataSetError(f"no folder {data}")
    if (out / KEPT).exists() and not resume:
        raise WeightsError(f"{out / KEPT} exists; resume it, or give another folder")
    features = _kept(out, config) if resume else np.zeros((0, VIEWS, 0), np.float32)
    write_json(out / CONFIG, {**config, "patterns": patterns, "software": software()})
    phase = Phase("patterns", 0, VIEWS, patterns, float("inf"), RATE, joint=True)
    found = list(features[:patterns])
    progress(f"drawing {patterns} patterns" + (f", {len(found)} are there" if found else ""))
    for one in drawn(data, seed, range(len(found), patterns), workers):
        found.append(one)
        if watch is not None:
            watch(phase, len(found), {})
        if len(found) % KEPT_EVERY == 0 or len(found) == patterns:
            _keep(out, np.stack(found))
    return _finish(np.stack(found), data, out, phase, seed)


def _keep(out: Path, features: FloatArray) -> None:
    part = out / "patterns.part"
    with part.open("wb") as file:
        np.savez(file, features=features)
    part.replace(out / KEPT)


def _kept(out: Path, config: dict[str, object]) -> FloatArray:
    """Return the patterns of a training that goes on."""
    if not (out / KEPT).exists():
        return np.zeros((0, VIEWS, 0), np.float32)
    before = read_json(out / CONFIG)
    if any(before.get(key) != value for key, value in config.items()):
        raise WeightsError(
            f"the patterns in {out} are of another seed, data set or version; give another folder"
        )
    with np.load(out / KEPT) as stored:
        return np.asarray(stored["features"], dtype=np.float32)


def _finish(features: FloatArray, data: Path | None, out: Path, phase: Phase, seed: int) -> Path:
    targets = np.arange(len(features)) % len(CLASSES)
    first = round((1 - VALIDATION_SHARE) * len(features))
    (learnt, learnt_classes), (kept, kept_classes) = (
        (features[part].reshape(-1, features.shape[-1]), np.repeat(targets[part], VIEWS))
        for part in (slice(0, first), slice(first, None))
    )
    network, history = fit(learnt, learnt_classes, (kept, kept_classes), seed=seed)
    logits = logits_of(network, kept)
    temperature = fit_temperature(logits, kept_classes)
    said = calibrated(logits, temperature)[:, 1]
    scores = class_scores([(CLASSES[n], float(p)) for n, p in zip(kept_classes, said, strict=True)])
    write_json(out / HISTORY, history)
    draw_curves(history, [phase], out / CURVES)
    kind = "synthetic patterns of other patients, without images (NMOSD positive)"
    write_json(out / METRICS, {"validation": {"cases": len(kept) // VIEWS, "origin": kind, **scores}})
    figures = {kind: {f"{len(kept) // VIEWS} patients": {key: scores[key] for key in ("auc", "accuracy")}}}
    details = {
        "version": VERSION,
        "device_uid": device_uid(WEIGHTS),
        "network": WEIGHTS,
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained_on": "synthetic",
        "purpose": PURPOSE,
        "calibrated": True,
        "temperature": temperature,
        "calibrated_on": f"fitted on {len(kept) // VIEWS} synthetic patterns that it has not learnt from",
        "licence": "Apache-2.0",
        "reference": REFERENCE,
        "sources": sources_of(data, (), 0, segments=False),
        "figures": figures,
        "limitations": [
            CLASSIFIER_LIMIT,
            "It knows lesions only as they are found: what the mask misses, it misses.",
        ],
    }
    save_weights(WEIGHTS, network.state_dict(), details, readme({**details, "name": WEIGHTS}, INPUT), out)
    return out / f"{WEIGHTS}.json"
