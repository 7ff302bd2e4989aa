"""Lesions that are told to be unchanged: those that the prior has too and that are in no change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.change.unchanged import unchanged_of
from pipelines.comparison import Examined, LesionChange, LesionMatch
from pipelines.types import Lesion, Volume

POINT = (0.0, 0.0, 0.0)


def examined(**volumes: float) -> Examined:
    shape = (2, 2, 2)
    lesions = tuple(
        Lesion(int(name[1:]), POINT, volume, 0.9, (0, 0), "lesion") for name, volume in volumes.items()
    )
    volume = Volume(np.zeros(shape, np.float32), np.eye(4))
    empty = np.zeros(shape, bool)
    return Examined(volume, empty, volume.array, np.zeros(shape, np.int32), lesions)


def changed(lesion: int | None, prior_lesion: int | None) -> LesionChange:
    return LesionChange(1, "smaller", True, 10.0, 20.0, POINT, (0, 0), lesion, prior_lesion)


def told(
    now: Examined, then: Examined, *matches: LesionMatch, change: LesionChange | None = None
) -> dict[int, float]:
    found = unchanged_of(now, then, [] if change is None else [change], matches)
    return {one.lesion: one.prior_volume_mm3 for one in found}


def test_only_what_both_masks_have_and_no_change_names_is_unchanged() -> None:
    now, then = examined(l1=10, l2=20, l3=30, l4=40), examined(l7=12, l8=22, l9=32)
    matches = LesionMatch(1, 7, 5), LesionMatch(2, 8, 15), LesionMatch(3, 9, 25)
    assert told(now, then, *matches) == {3: 32, 2: 22, 1: 12}
    assert told(now, then, *matches, change=changed(2, 8)) == {3: 32, 1: 12}
    assert told(now, then, *matches, change=changed(None, 8)) == {3: 32, 1: 12}


def test_merged_lesion_was_all_of_them_and_a_split_off_part_what_it_shares() -> None:
    merged = told(examined(l1=50), examined(l7=20, l8=25), LesionMatch(1, 7, 15), LesionMatch(1, 8, 20))
    assert merged == {1: 45}
    split = told(examined(l1=50, l2=9), examined(l7=60), LesionMatch(1, 7, 45), LesionMatch(2, 7, 8))
    assert split == {1: 60, 2: 8}


def test_point_is_within_a_lesion_whose_centre_is_not() -> None:
    now = examined(l1=10)
    labels = np.zeros((1, 7, 7), np.int32)
    labels[0, 1:6, 1:6] = 1
    labels[0, 2:5, 2:] = 0
    volume = Volume(np.zeros(labels.shape, np.float32), np.eye(4))
    now = replace(now, labels=labels, volume=volume)
    (one,) = unchanged_of(now, examined(l7=12), [], [LesionMatch(1, 7, 5)])
    i, j, k = (int(value) for value in one.point_lps)
    assert labels[k, j, i] == 1
