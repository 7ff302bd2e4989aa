"""Forecast of the time that a training will take where it runs, from a trial step of each phase."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import torch

from pipelines.training.flair.case_pool import ready
from pipelines.training.flair.loop import Trainer
from pipelines.training.phase import Phase
from pipelines.training.progress_log import duration

TRIALS = 2
"""Steps that are tried; the last one counts, the first one also makes what all later ones share."""


def forecast(trainer: Trainer, pool: Path) -> str:
    """Return in a line how long the phases that are left will take; the training itself is not touched.

    Parameters
    ----------
    trainer : Trainer
        Before its `run`.
    pool : Path
        Folder with rings of packed cases, one or more.
    """
    total, said = 0.0, []
    state = trainer.state
    for number, phase in enumerate(trainer.phases[state.phase :]):
        done, used_s = (state.step, state.used_s) if number == 0 else (0, 0.0)
        step_s = trial_step_s(trainer, phase, pool)
        left_s = max(0.0, min((phase.steps - done) * step_s, 60 * phase.minutes - used_s))
        total += left_s
        said.append(f"{phase.name} {duration(left_s)} at {step_s:.2g} s a step")
    parts = ", ".join(said)
    return f"about {duration(total)} on this machine as it is now ({parts}); validations come on top"


def trial_step_s(trainer: Trainer, phase: Phase, pool: Path) -> float:
    """Return how long a step of a phase takes, s: drawing or learning, whichever is slower, since they run side by side."""
    network = copy.deepcopy(trainer.model).train()
    longest = 0.0
    with torch.random.fork_rng():
        for trial in range(TRIALS):
            began = time.monotonic()
            batch = trainer.task.draw(ready(pool), phase, np.random.default_rng(trial))
            drawn = time.monotonic()
            loss = trainer.loss_of(phase, batch, network)[0]
            loss.backward()  # type: ignore[no-untyped-call]
            if trainer.device.startswith("cuda"):
                torch.cuda.synchronize(trainer.device)
            longest = max(drawn - began, time.monotonic() - drawn)
    trainer.auxiliary.zero_grad(set_to_none=True)
    return longest
