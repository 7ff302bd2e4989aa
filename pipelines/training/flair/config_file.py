"""The file ``config.json`` of a results folder: what a training was asked for and began from, so that it goes on so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.errors import WeightsError
from pipelines.training.cards import seen_patients
from pipelines.training.flair.export import fit, weights_of
from pipelines.training.flair.material import Material
from pipelines.training.flair.task import Task
from pipelines.training.flair.training_settings import TrainingSettings
from pipelines.training.phase import Phase
from pipelines.training.results_folder import CONFIG, read_json, software
from pipelines.weights import card_details, load_weights


def as_before(asked: TrainingSettings) -> tuple[TrainingSettings, dict[str, Any]]:
    """Return the settings of the training in a results folder, and the cases that it began with (`Material.as_dict`).

    Parameters
    ----------
    asked : TrainingSettings
        Of them count what is not of the training itself: folder, workers, device, and data and pool if they are given.

    Raises
    ------
    DataSetError, WeightsError
        ``config.json`` cannot be read, or is of another network.
    """
    config = read_json(asked.out / CONFIG)
    if config["name"] != asked.name:
        raise WeightsError(
            f"{asked.out} holds a training of {config['name']}, not of {asked.name}; give another folder"
        )
    settings = replace(
        asked,
        seed=int(config["seed"]),
        leave_out=tuple(config["leave_out"]),
        pool_size=int(config["pool_size"]),
        given_share=float(config["given_share"]),
        fixed_pool=bool(config["fixed_pool"]),
        learn_from_all=bool(config.get("learn_from_all", False)),
        data=asked.data or _path(config.get("data")),
        pool=asked.pool or _path(config.get("pool")),
        phases=tuple(Phase.from_dict(phase) for phase in config["phases"]),
        small=bool(config["small"]),
    )
    return settings, config.get("material", {})


def _path(stored: str | None) -> Path | None:
    return None if stored is None else Path(stored)


def start_from(task: Task, init: Path, report: Callable[[str], None]) -> dict[str, object]:
    """Put earlier weights of the same network into a task's; return what they have learnt from.

    Raises
    ------
    DataSetError, WeightsError
        There are none in the folder ``init``, or they are damaged.
    """
    weights = weights_of(task.name, init)[0]
    fit(task, load_weights(weights, init)[0], weights)
    report(f"starting from {weights} in {init}")
    card = card_details(weights, init)
    return {
        "trained_on": card["trained_on"],
        "sources": card.get("sources", []),
        "seen_patients": sorted(seen_patients(weights, init)),
    }


def config_of(
    settings: TrainingSettings, material: Material, start: Mapping[str, Any] | None
) -> dict[str, object]:
    """Return the content of ``config.json``; ``start`` is from `start_from`."""
    earlier = start["seen_patients"] if start else []
    return {
        "name": settings.name,
        "seed": settings.seed,
        "small": settings.small,
        "data": None if settings.data is None else str(settings.data.resolve()),
        "pool": None if settings.pool is None else str(settings.pool.resolve()),
        "leave_out": settings.leave_out,
        "material": material.as_dict(),
        "start": start,
        "seen_patients": sorted({*material.seen_patients, *earlier}),
        "pool_size": settings.pool_size,
        "given_share": settings.given_share,
        "fixed_pool": settings.fixed_pool,
        "learn_from_all": settings.learn_from_all,
        "phases": [phase.as_dict() for phase in settings.phases],
        "software": software(),
    }
