"""What ``dicom-node models train`` calls."""

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
from pipelines.training.flair.export import export
from pipelines.training.flair.loop import CHECKPOINT, Trainer, Watch
from pipelines.training.flair.material import Material, Plan, prepare
from pipelines.training.flair.recipes import POOL_CASES, check_name, recipe
from pipelines.training.flair.task_by_name import make_task
from pipelines.training.flair.training_settings import as_before, config_of, start_from
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

MIN_CALIBRATION_CASES = 4
"""Of each class."""
Report = Callable[[str], None]


def train(
    name: str,
    data: Path | None,
    out: Path,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    device: str = "auto",
    seed: int = 0,
    leave_out: Sequence[str] = (),
    workers: int | None = None,
    pool_size: int = POOL_CASES,
    given_share: float = 0.5,
    fixed_pool: bool = False,
    pool: Path | None = None,
    init: Path | None = None,
    weights: str | None = None,
    phases: Sequence[Phase] | None = None,
    early_stop: int | None = None,
    small: bool = False,
    progress: Report = print,
    watch: Watch | None = None,
) -> Path:
    """Train a network and write its weights with a model card.

    The folder ``out`` then holds ``config.json`` (what was asked for), ``checkpoint.pt`` and ``best.pt``, ``history.json``,
    ``curves.png``, ``metrics.json`` (the validation), ``pool/`` and ``validation/`` (cases), and the weights with their card
    as JSON and Markdown. It may be killed at any time; ``resume`` goes on from the last checkpoint.

    The same seed gives the same batches from the same pool. The pool itself is refreshed all the time, so two trainings are the
    same only with ``fixed_pool`` or a ``pool`` that is given; on a GPU up to its rounding.

    Parameters
    ----------
    name : str
        One of `recipes.NAMES`.
    data : Path, optional
        Folder that may hold ``head_labels/``, ``open_ms/lesions_mni/`` (sources of the generator) and ``index.csv`` with
        cases to learn from beside the synthetic ones. Without it the MNI152 template alone is used.
    out : Path
    steps, minutes : optional
        Length; see `recipes.recipe`.
    resume : bool
        Go on with the checkpoint in ``out``: phases, seed, pool, share and patients to leave out are those of its
        ``config.json``, and so is ``data`` if it is not given.
    device : str
        "auto", "cpu", "cuda:0".
    leave_out : sequence of str
        Patients whose lesion masks and cases are not used.
    workers : int, optional
        Processes that make cases; one beside a CPU training, most cores beside a GPU.
    pool_size : int
        Cases in the pool.
    given_share : float
        Share of the pool that is made from the cases of the index; the rest is generated.
    fixed_pool : bool
        Fill the pool once, before the first step.
    pool : Path, optional
        Folder with rings of packed synthetic cases, used as it is; nothing is generated.
    init : Path, optional
        Folder with weights of the same network to start from; their sources and patients stand on the new card, too.
    weights : str, optional
        Name of the weights, "nnunet"; that of the network by default.
    phases : sequence of Phase, optional
        In place of the recipe.
    early_stop : int, optional
        Epochs without a better validation score after which a phase ends, 0 for never; the recipe's by default.
    small : bool
        The tiny variant, for tests.
    progress : callable
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
    check_name(name)
    used = resolve_device(device)
    if (out / CHECKPOINT).exists() and not resume:
        raise WeightsError(f"{out / CHECKPOINT} exists; resume it, or give another folder")
    going_on = resume and any((out / file).exists() for file in (CHECKPOINT, CONFIG))
    plan = Plan(
        data,
        out,
        tuple(leave_out),
        seed,
        pool_size,
        workers,
        given_share,
        fixed_pool,
        pool=pool,
    )
    if going_on:
        phases, small, plan = as_before(name, plan)
    else:
        phases = list(phases or recipe(name, used, cases=pool_size, steps=steps, minutes=minutes))
        if early_stop is not None:
            phases = [replace(phase, stop=early_stop) for phase in phases]
    if plan.data is not None and not plan.data.is_dir():
        raise DataSetError(f"no folder {plan.data}")
    if not 0 <= plan.given_share <= 1:
        raise DataSetError(f"a share lies between 0 and 1, not at {plan.given_share:g}")
    if used == "cpu":
        keep_freed_memory()
    torch.manual_seed(plan.seed)
    task = make_task(name, small=small)
    start = None if init is None or going_on else start_from(task, init, progress)
    trainer = Trainer(task, phases, out, seed=plan.seed, device=used, report=progress, watch=watch)
    plan = replace(
        plan, validation_cases=task.validated[1], segments=task.segments, classifies=task.classifies
    )
    with prepare(plan, used, progress) as material:
        task.class_weight = material.class_weight
        if not going_on:
            write_json(out / CONFIG, config_of(name, phases, plan, material, small, start))
        if resume and trainer.resume():
            progress(f"going on with phase {trainer.state.phase + 1}, step {trainer.state.step}")
        scored = material.validation[: task.validated[0]]
        trainer.run(material.pool, validate=_validation(trainer, scored, out, phases))
    write_json(out / HISTORY, trainer.state.history)
    draw_curves(trainer.state.history, phases, out / CURVES)
    return _finish(trainer, material, out, weights, plan)


def _validation(
    trainer: Trainer, files: Sequence[Path], out: Path, phases: Sequence[Phase]
) -> Callable[[nn.Module, Phase], float] | None:
    if not files:
        return None

    def validate(network: nn.Module, phase: Phase) -> float:
        score = trainer.task.score(
            network, PackedSamples(files), device=trainer.device, mask_only=not phase.joint
        )
        write_json(out / HISTORY, trainer.state.history)
        draw_curves(trainer.state.history, phases, out / CURVES)
        return score

    return validate


def _finish(trainer: Trainer, material: Material, out: Path, weights: str | None, plan: Plan) -> Path:
    """Score the trained network on its validation cases, fit its temperature, and write weights and card."""
    task, network = trainer.task, trainer.best.eval()
    samples = PackedSamples(material.validation)
    score = task.score(network, samples, device=trainer.device) if samples else None
    temperature = _temperature(trainer, samples) if task.classifies else None
    kind = material.validation_origin
    config = read_json(out / CONFIG)
    start = config.get("start") or {"trained_on": material.provenance, "sources": []}
    sources = sources_of(plan.data, material.left_out, len(material.learnt), segments=task.segments)
    origins = {*material.provenance.split(" and "), *start["trained_on"].split(" and ")}
    write_json(
        out / METRICS,
        {"validation": {"cases": len(samples), "origin": kind, "score": score, "temperature": temperature}},
    )
    figures: dict[str, dict[str, object]] = {}
    if score is not None:
        figures[f"{kind} cases, validation (the best epoch was chosen by them)"] = {
            f"score, {len(samples)} cases": round(score, 4)
        }
    return export(
        network,
        out,
        name=task.name,
        weights=weights,
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
