"""MS against NMOSD as tasks: what a training sees of a case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.training import class_tasks
from pipelines.training.class_tasks import VIEWS
from pipelines.training.pool import ready
from pipelines.training.recipes import Phase
from pipelines.training.tasks import make_task

STEPS = Phase("slices", 160, 6, 10, 1, 1e-3, joint=True)


def test_five_slices_are_seen_at_several_heights(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_tasks, "SLICE_NOISE", 0.0)
    task = make_task("five-slices", small=True)
    rng = np.random.default_rng(0)
    files = ready(pool)[:1]
    seen = {image.numpy().tobytes() for _ in range(8) for image in task.draw(files, STEPS, rng)[0]}
    assert VIEWS < len(seen) <= 2 * VIEWS  # each mirrored or not
