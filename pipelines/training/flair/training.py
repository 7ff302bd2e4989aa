"""Training of a network on FLAIR, from its settings to weights with a model card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipelines.device import resolve_device
from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.calibration import fit_temperature
from pipelines.memory import keep_freed_memory
from pipelines.training.cards import sources_of
from pipelines.training.data_sets.sample import Sample
from pipelines.training.flair.case_pool import PackedSamples
from pipelines.training.flair.config_file import as_before, config_of, start_from
from pipelines.training.flair.export import export
from pipelines.training.flair.forecast import forecast
from pipelines.training.flair.loop import CHECKPOINT, Trainer, Watch
from pipelines.training.flair.material import Material, Needs, prepare
from pipelines.training.flair.recipes import check_name, recipe
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.flair.training_settings import TrainingSettings
from pipelines.training.phase import Phase
from pipelines.training.results_folder import (
    CONFIG,
    CURVES,
    HISTORY,
    METRICS,
    draw_curves,
    read_json,
    write_json,
)
from pipelines.training.scoring.recalibration import MIN_CALIBRATION_CASES

Report = Callable[[str], None]


def train(settings: TrainingSettings, *, report: Report = print, watch: Watch | None = None) -> Path:
    """Train a network and write its weights with a model card.

    The results folder then holds ``config.json`` (what was asked for), ``checkpoint.pt`` and ``best.pt``, ``history.json``,
    ``curves.png``, ``metrics.json`` (the validation), ``pool/`` and ``validation/`` (cases), and the weights with their card
    as JSON and Markdown. It may be killed at any time; ``resume`` goes on from the last checkpoint.

    The same seed gives the same batches from the same pool. The pool itself is refreshed all the time, so two trainings are the
    same only with ``fixed_pool`` or a ``pool`` that is given; on a GPU up to its rounding.

    Parameters
    ----------
    settings : TrainingSettings
    report : callable
        Takes lines.
    watch : callable, optional
        Told of each step.

    Returns
    -------
    Path
        The card of the weights.

    Raises
    ------
    DataSetError, WeightsError
        The data are not as documented; the network is unknown; ``out`` has a checkpoint and ``resume`` is not set.
    """
    check_name(settings.name)
    device = resolve_device(settings.device)
    going_on = _goes_on(settings)
    settings, before = as_before(settings) if going_on else (_with_phases(settings, device), None)
    _check(settings)
    if device == "cpu":
        keep_freed_memory()
    torch.manual_seed(settings.seed)
    task = make_task(settings.name, small=settings.small)
    start = None if settings.init is None or going_on else start_from(task, settings.init, report)
    trainer = Trainer(
        task, settings.phases, settings.out, seed=settings.seed, device=device, report=report, watch=watch
    )
    with prepare(settings, Needs.of(task), device, report, before) as material:
        task.class_weight = material.class_weight
        if not going_on:
            write_json(settings.out / CONFIG, config_of(settings, material, start))
        if settings.resume and trainer.resume():
            report(f"going on with phase {trainer.state.phase + 1}, step {trainer.state.step}")
        if trainer.state.phase < len(settings.phases):
            report(f"the training takes {forecast(trainer, material.pool)}")
        trainer.run(material.pool, validate=_validation(trainer, material, settings))
    _write_history(trainer, settings)
    return _finish(trainer, material, settings)


def _goes_on(settings: TrainingSettings) -> bool:
    """Return whether there is a training to go on with; refuse one that was not meant to go on."""
    checkpoint = settings.out / CHECKPOINT
    if checkpoint.exists() and not settings.resume:
        raise WeightsError(f"{checkpoint} exists; resume it, or give another folder")
    return settings.resume and (checkpoint.exists() or (settings.out / CONFIG).exists())


def _with_phases(settings: TrainingSettings, device: str) -> TrainingSettings:
    """Return settings with the phases of the recipe, unless they have their own, and with the early stop."""
    phases = settings.phases or recipe(
        settings.name, device, cases=settings.pool_size, steps=settings.steps, minutes=settings.minutes
    )
    if settings.early_stop is not None:
        phases = [replace(phase, stop=settings.early_stop) for phase in phases]
    return replace(settings, phases=tuple(phases))


def _check(settings: TrainingSettings) -> None:
    if settings.data is not None and not settings.data.is_dir():
        raise DataSetError(f"no folder {settings.data}")
    if not 0 <= settings.given_share <= 1:
        raise DataSetError(f"a share lies between 0 and 1, not at {settings.given_share:g}")


def _write_history(trainer: Trainer, settings: TrainingSettings) -> None:
    write_json(settings.out / HISTORY, trainer.state.history)
    draw_curves(trainer.state.history, settings.phases, settings.out / CURVES)


def _validation(
    trainer: Trainer, material: Material, settings: TrainingSettings
) -> Callable[[nn.Module, Phase], float] | None:
    """Return what scores the network at the end of an epoch, and tells the history; None without cases for it."""
    files = material.validation[: trainer.task.validated[0]]
    if not files:
        return None

    def validate(network: nn.Module, phase: Phase) -> float:
        score = trainer.task.score(
            network, PackedSamples(files), device=trainer.device, mask_only=not phase.joint
        )
        _write_history(trainer, settings)
        return score

    return validate


def _finish(trainer: Trainer, material: Material, settings: TrainingSettings) -> Path:
    """Score the trained network on its validation cases, fit its temperature, and write weights and card."""
    task, network = trainer.task, trainer.best.eval()
    samples = PackedSamples(material.validation)
    score = task.score(network, samples, device=trainer.device) if samples else None
    temperature = _temperature(trainer, samples) if task.classifies else None
    kind = material.validation_origin
    config = read_json(settings.out / CONFIG)
    start = config.get("start") or {"trained_on": material.provenance, "sources": []}
    sources = sources_of(settings.data, material.left_out, len(material.learnt), segments=task.segments)
    origins = {*material.provenance.split(" and "), *start["trained_on"].split(" and ")}
    write_json(
        settings.out / METRICS,
        {"validation": {"cases": len(samples), "origin": kind, "score": score, "temperature": temperature}},
    )
    figures: dict[str, dict[str, object]] = {}
    if score is not None:
        figures[f"{kind} cases, validation (the best epoch was chosen by them)"] = {
            f"score, {len(samples)} cases": round(score, 4)
        }
    return export(
        network,
        settings.out,
        name=task.name,
        weights=settings.weights,
        provenance=" and ".join(sorted(origins)),
        sources=[*sources, *(source for source in start["sources"] if source not in sources)],
        figures=figures,
        temperature=temperature,
        calibrated_on=f"fitted on {len(samples)} {kind} cases kept out of the training",
        real_classes=material.real_classes,
        seen=config["seen_patients"],
        small=task.small,
    )


def _temperature(trainer: Trainer, samples: Sequence[Sample]) -> float | None:
    """Return the temperature that fits the validation's classes; None where a class has fewer than four cases."""
    known = [number for number, sample in enumerate(samples) if sample.target >= 0]
    targets = [samples[number].target for number in known]
    if min(targets.count(0), targets.count(1)) < MIN_CALIBRATION_CASES:
        return None
    logits: list[Any] = [
        trainer.task.predict(trainer.best, samples[number].image, device=trainer.device).logits
        for number in known
    ]
    return fit_temperature(np.stack(logits), targets)
