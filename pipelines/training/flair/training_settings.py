"""What a training was asked for and began from, as its results folder keeps it: it goes on as it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.errors import WeightsError
from pipelines.training.cards import seen_patients
from pipelines.training.flair.export import fit, weights_of
from pipelines.training.flair.material import Material, Plan
from pipelines.training.flair.task import Task
from pipelines.training.phase import Phase
from pipelines.training.results_folder import CONFIG, read_json, software
from pipelines.weights import card_details, load_weights


def as_before(name: str, plan: Plan) -> tuple[list[Phase], bool, Plan]:
    """Return the phases of the training in a results folder, whether it is of the tiny variant, and its plan.

    Parameters
    ----------
    plan : Plan
        What is asked for now: folder and workers count, and data and pool if they are given.

    Raises
    ------
    DataSetError, WeightsError
        ``config.json`` cannot be read, or is of another network.
    """
    config = read_json(plan.out / CONFIG)
    if config["name"] != name:
        raise WeightsError(
            f"{plan.out} holds a training of {config['name']}, not of {name}; give another folder"
        )
    plan = replace(
        plan,
        seed=int(config["seed"]),
        leave_out=tuple(config["leave_out"]),
        pool_size=int(config["pool_size"]),
        given_share=float(config["given_share"]),
        fixed_pool=bool(config["fixed_pool"]),
        before=config.get("material", {}),
        data=plan.data or _path(config.get("data")),
        pool=plan.pool or _path(config.get("pool")),
    )
    return [Phase.from_dict(phase) for phase in config["phases"]], bool(config["small"]), plan


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
    name: str,
    phases: Sequence[Phase],
    plan: Plan,
    material: Material,
    small: bool,
    start: Mapping[str, Any] | None,
) -> dict[str, object]:
    """Return the content of ``config.json``; ``start`` is from `start_from`."""
    earlier = start["seen_patients"] if start else []
    return {
        "name": name,
        "seed": plan.seed,
        "small": small,
        "data": None if plan.data is None else str(plan.data.resolve()),
        "pool": None if plan.pool is None else str(plan.pool.resolve()),
        "leave_out": plan.leave_out,
        "material": material.as_dict(),
        "start": start,
        "seen_patients": sorted({*material.seen_patients, *earlier}),
        "pool_size": plan.pool_size,
        "given_share": plan.given_share,
        "fixed_pool": plan.fixed_pool,
        "phases": [phase.as_dict() for phase in phases],
        "software": software(),
    }
