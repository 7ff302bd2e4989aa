"""Scores of comparisons with known changes, and scans taken again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.comparison import Comparability, Comparison, LesionChange
from pipelines.training.change.evaluation import (
    MovedScore,
    Scores,
    moved_score_of,
    score,
    targets_of,
)
from pipelines.training.change.pairs import Base, Scanned, Sessions, TrueChange, sessions_of
from pipelines.training.change.rescan import Session, moved_copy, rescanned
from pipelines.types import Volume
from tests.pipelines.change.heads import examination

ONE = examination([(16.0, -14.0, 4.0, 4.0)])


def change(number: int, kind: str, *, possible: bool = False) -> LesionChange:
    return LesionChange(number, kind, possible, 50.0, 0.0, (0.0, 0.0, 0.0), (0, 0))  # type: ignore[arg-type]


@pytest.fixture
def sessions() -> Sessions:
    labels = np.zeros(ONE.volume.array.shape, np.int32)
    labels[10:12, 20:24, 20:24] = 1
    labels[15:17, 40:44, 40:44] = 2
    scanned = Scanned(ONE.volume, labels)
    changes = (TrueChange("new", 50.0, 0.0), TrueChange("new", 120.0, 0.0))
    return Sessions("A", scanned, scanned, scanned, changes)


def scored(sessions: Sessions, places: list[tuple[int, int, int]], *, changed: bool = True) -> Scores:
    labels = np.zeros(ONE.volume.array.shape, np.int32)
    for number, (k, j, i) in enumerate(places, start=1):
        labels[k, j, i] = number
    changes = tuple(change(number, "new") for number in range(1, len(places) + 1))
    result = Comparison(Comparability("A"), changes=changes, labels=labels)
    scores = Scores()
    examined = replace(ONE, labels=sessions.current.labels)
    empty = np.zeros_like(labels)
    score(result, sessions.current, empty, sessions, examined, scores, changed=changed)
    return scores


def test_change_at_a_true_one_is_found_and_another_is_false(sessions: Sessions) -> None:
    scores = scored(sessions, [(10, 21, 21), (5, 5, 5)])
    assert scores.false_new == {"A": [1]}
    assert [(one.found, one.in_mask) for one in scores.true["A"]] == [(True, True), (False, True)]


def test_every_change_between_unchanged_sessions_is_false(sessions: Sessions) -> None:
    scores = scored(sessions, [(10, 21, 21)], changed=False)
    assert scores.unchanged_new == {"A": [1]}
    assert scores.true == {}
    (target,) = targets_of(scores, [])
    assert (target.reached, target.met) == (1.0, False)


def test_moved_scan_counts_sure_changes() -> None:
    changes = (change(1, "new"), change(2, "new", possible=True), change(3, "smaller"))
    moved = moved_score_of("a", Comparison(Comparability("B"), changes=changes))
    assert moved == MovedScore("a", "B", 1, 0, 1, 0.0, 0.0, "")


def test_session_that_changes_nothing_gives_the_volume_again() -> None:
    grid = Grid(ONE.volume.array.shape, ONE.volume.affine)  # type: ignore[arg-type]
    same = rescanned(ONE.volume, ONE.brain, Session(np.eye(4), 3.0, 1.5, shading=0.0, noise=0.0), grid)
    ratio = same.array[ONE.brain] / np.maximum(ONE.volume.array[ONE.brain], 1)
    assert ratio.std() < 0.02


def test_moved_copy_is_the_same_for_the_same_seed() -> None:
    one, again = (moved_copy(ONE.volume, ONE.brain, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(one.array, again.array)
    assert not np.array_equal(one.affine, ONE.volume.affine)


@pytest.mark.slow
def test_sessions_differ_by_their_changes_alone() -> None:
    array = ONE.volume.array / 400
    base = Base(array, ONE.brain, ONE.labels > 0, Grid(array.shape, ONE.volume.affine))  # type: ignore[arg-type]
    made = sessions_of(base, "A", 0, np.random.default_rng(3))
    assert all(isinstance(of.volume, Volume) for of in (made.prior, made.unchanged, made.current))
    new = [number for number, of in enumerate(made.changes, start=1) if of.change == "new"]
    assert new
    gained = []
    for number in new:
        now, then = (
            float(np.median(of.volume.array[of.labels == number])) for of in (made.current, made.prior)
        )
        gained.append(now / then)
    assert np.mean(gained) > 1.1
