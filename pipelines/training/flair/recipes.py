"""Recipes of training by the name of the network, on a GPU and on a CPU.

On a GPU the recipes are the papers', an epoch being as many cases as the pool holds:

================================ ================================================================= ==========
network                          recipe                                                            time
================================ ================================================================= ==========
joint, its ablations, unet3d,    paper 3: whole volumes, batch 2, Adam 1e-4, halved after 10       some 4 to
vnet, attention-unet, swin-unetr epochs without improvement, 200 epochs                            12 hours
resnet50 to squeezenet           the same, on the volume pooled to 80 cubed                        1 to 3 h
nnunet                           [ours] crops of 80, batch 8, AdamW 2e-3, half a cosine            some 2 h
five-slices                      paper 1: 25 epochs, batch 10, Adam 5e-4, weighted cross-entropy   minutes
================================ ================================================================= ==========

The times on a GPU are estimates; none of these has been run there. On a CPU, two cores of 2024, all of them are [ours] and
end after two hours at the latest:

================================ ================================================================= ==========
joint, its ablations             crops of 80 for mask and kinds of lesions (batch 2, 2.5 s a       2 hours
                                 step), the class fitted to 400 volumes, volumes for everything
                                 (batch 1, 10 s a step); AdamW 2e-3, then 3e-4
nnunet                           crops of 64, batch 4, AdamW 2e-3, half a cosine; 1.1 s a step     75 minutes
the other segmentation networks  crops of 80, batch 2; the wide ones take fewer steps              2 hours
resnet50 to squeezenet           pooled volumes, batch 4, AdamW 1e-3, half a cosine                2 hours
five-slices                      as on a GPU, an epoch being 2000 cases                            1 hour
================================ ================================================================= ==========
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pipelines.errors import WeightsError
from pipelines.flair.joint.network import ABLATIONS
from pipelines.training.papers.networks import CLASSIFICATION, SEGMENTATION
from pipelines.training.phase import WHOLE, Phase

Kind = Literal["joint", "segmentation", "classification", "five-slices"]

JOINT = "joint"
FIVE_SLICES = "five-slices"
NAMES = (
    JOINT,
    *(f"{JOINT}:{ablation}" for ablation in ABLATIONS),
    *SEGMENTATION,
    *CLASSIFICATION,
    FIVE_SLICES,
)
"""Everything that can be trained."""
POOL_CASES = 400
SLICED_CASES = 2000
"""An epoch of the five-slice network on a CPU: from fewer cases it learns them by heart and nothing else."""
EPOCHS = 200
CPU_MINUTES = 120.0


def check_name(name: str) -> Kind:
    """Return what kind of network a name stands for.

    Raises
    ------
    WeightsError
        There is none of that name.
    """
    if name == JOINT or name in NAMES[: 1 + len(ABLATIONS)]:
        return "joint"
    if name in SEGMENTATION:
        return "segmentation"
    if name in CLASSIFICATION:
        return "classification"
    if name == FIVE_SLICES:
        return "five-slices"
    raise WeightsError(f"no network {name!r}; there is {', '.join(NAMES)}")


def ablation_of(name: str) -> str:
    """Return what is left out of the joint network: "" or what follows the colon of its name."""
    return name.partition(":")[2]


def _paper_three(epoch: int) -> Phase:
    return Phase(
        "volumes", WHOLE, 2, EPOCHS * epoch, math.inf, 1e-4, joint=True, schedule="halve", decay=False, epoch=epoch, stop=40
    )  # fmt: skip


def _paper_one(cases: int, minutes: float) -> Phase:
    epoch = max(1, cases // 10)
    return Phase(
        "slices",
        WHOLE,
        10,
        25 * epoch,
        minutes,
        5e-4,
        joint=True,
        schedule="constant",
        decay=False,
        epoch=epoch,
    )


def _on_gpu(name: str, cases: int) -> list[Phase]:
    kind = check_name(name)
    if kind == "five-slices":
        return [_paper_one(cases, math.inf)]
    if name == "nnunet":
        return [Phase("crops", 80, 8, 40_000, math.inf, 2e-3, joint=False, epoch=1000)]
    return [_paper_three(max(1, cases // 2))]


def _on_cpu(name: str, cases: int) -> list[Phase]:
    kind = check_name(name)
    if kind == "five-slices":
        return [_paper_one(max(cases, SLICED_CASES), 60.0)]
    if kind == "classification":
        return [Phase("volumes", WHOLE, 4, 3000, CPU_MINUTES, 1e-3, joint=True)]
    if name == "nnunet":
        # Many small crops rather than few large ones: its batch norm sees more heads at once.
        return [Phase("crops", 64, 4, 4000, 75.0, 2e-3, joint=False, epoch=400)]
    if kind == "segmentation":
        return [Phase("crops", 80, 2, 3000, CPU_MINUTES, 2e-3, joint=False, epoch=300)]
    if ablation_of(name) == "only-classification":
        return [Phase("volumes", WHOLE, 1, 400, 0.55 * CPU_MINUTES, 1e-3, joint=True, epoch=100)]
    # The last layer is fitted in some 20 minutes between them.
    return [
        Phase("crops", 80, 2, 1600, 0.55 * CPU_MINUTES, 2e-3, joint=False, epoch=200),
        Phase("volumes", WHOLE, 1, 180, 0.27 * CPU_MINUTES, 3e-4, joint=True, epoch=90, refit=True),
    ]


def recipe(
    name: str,
    device: str,
    *,
    cases: int = POOL_CASES,
    steps: int | None = None,
    minutes: float | None = None,
) -> list[Phase]:
    """Return the phases of a training.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    device : str
        "cpu", "cuda:0".
    cases : int
        In the pool: an epoch of the papers.
    steps, minutes : optional
        Length of the whole, shared among the phases as the recipe shares it. Counted in steps alone, a training anneals its
        learning rate the same way however fast the machine is.

    Raises
    ------
    WeightsError
        There is no network of that name.
    """
    phases = _on_gpu(name, cases) if device.startswith("cuda") else _on_cpu(name, cases)
    if steps is not None:
        phases = _shared_steps(phases, steps, endless=minutes is None)
    if minutes is not None:
        total = sum(phase.steps for phase in phases)
        shares = [phase.minutes for phase in phases]
        if any(math.isinf(share) for share in shares):
            shares = [phase.steps / total for phase in phases]
        phases = [
            replace(phase, minutes=minutes * share / sum(shares))
            for phase, share in zip(phases, shares, strict=True)
        ]
    return phases


def _shared_steps(phases: Sequence[Phase], steps: int, *, endless: bool) -> list[Phase]:
    total = sum(phase.steps for phase in phases)
    shared = []
    for phase in phases:
        own = max(1, round(steps * phase.steps / total))
        time = math.inf if endless else phase.minutes
        shared.append(replace(phase, steps=own, minutes=time, epoch=min(phase.epoch, own)))
    return shared
