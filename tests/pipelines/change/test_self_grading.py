"""Self-grading: lesions painted into the prior, and how many of them the comparison finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.change.self_grading import painted_prior, self_grade
from pipelines.comparison import Examined
from pipelines.types import Volume
from tests.pipelines.change.heads import examination, of

OLD = [(16.0, -14.0, 4.0, 4.0)]
CURRENT, PRIOR = examination(OLD, seed=3), examination(OLD, seed=4)


def bright_is_lesion(volume: Volume) -> Examined:
    """Return what a network would that takes all that is bright for a lesion."""
    probability = np.clip((volume.array / 400 - 1.2) / 0.1, 0, 1).astype(np.float32) * PRIOR.brain
    return of(volume.array, PRIOR.brain, probability)


def sees_nothing(volume: Volume) -> Examined:
    return of(volume.array, PRIOR.brain, np.zeros_like(PRIOR.probability))


def test_painted_prior_differs_where_its_lesions_are_alone() -> None:
    volume, truth = painted_prior(PRIOR, 7)
    assert truth.max() >= 3
    assert volume.attributes == PRIOR.volume.attributes
    changed = volume.array != PRIOR.volume.array
    assert (volume.array >= PRIOR.volume.array).all()
    assert changed[truth > 0].mean() > 0.9
    assert not truth[PRIOR.probability > 0.05].any()
    again, _ = painted_prior(PRIOR, 7)
    assert np.array_equal(again.array, volume.array)


@pytest.mark.slow
def test_grade_counts_what_was_really_painted_and_found() -> None:
    _, truth = painted_prior(PRIOR, 7)
    painted = len(np.unique(truth)) - 1
    grade = self_grade(CURRENT, PRIOR, bright_is_lesion, 7)
    assert grade.painted == painted
    assert 0 < grade.found <= painted
    assert grade.false == 0
    assert self_grade(CURRENT, PRIOR, sees_nothing, 7).found == 0


def test_brain_without_room_paints_nothing() -> None:
    full = replace(PRIOR, probability=np.ones_like(PRIOR.probability))
    grade = self_grade(CURRENT, full, bright_is_lesion, 7)
    assert (grade.painted, grade.found, grade.false) == (0, 0, 0)
