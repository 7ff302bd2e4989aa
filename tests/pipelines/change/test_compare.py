"""Comparison of two examinations: nothing against itself, swapped answers when swapped, new and gone lesions found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.change.compare import compare
from pipelines.comparison import Comparison, Examined
from tests.pipelines.change.heads import examination, turned

OLD = [(16.0, -14.0, 4.0, 4.0), (-17.0, 18.0, 8.0, 5.0)]
NEW = (18.0, 16.0, -6.0, 4.5)
OPPOSITE = {"new": "resolved", "enlarging": "smaller", "smaller": "enlarging", "resolved": "new"}


def compared(current: Examined, prior: Examined) -> Comparison:
    return compare(current, prior, lambda _stage, _seconds: None)


def said(comparison: Comparison) -> list[tuple[str, bool, float, float]]:
    return sorted((c.change, c.possible, c.volume_mm3, c.prior_volume_mm3) for c in comparison.changes)


def test_study_against_itself_has_no_change_bit_for_bit() -> None:
    one = examination(OLD, seed=1)
    result = compared(one, one)
    assert result.not_compared == ""
    assert result.changes == ()
    assert result.labels is not None
    assert not result.labels.any()
    assert result.volume_mm3 == result.prior_volume_mm3 > 0
    assert result.current_to_prior is not None
    assert np.array_equal(result.current_to_prior, np.eye(4))
    assert result.prior_on_current is not None
    assert np.array_equal(result.prior_on_current, one.volume.array)
    assert {(u.lesion, u.volume_mm3) for u in result.unchanged} == {
        (lesion.id, lesion.volume_mm3) for lesion in one.lesions
    }
    for lesion in result.unchanged:
        assert lesion.prior_volume_mm3 == lesion.volume_mm3
        i, j, k = np.rint(np.linalg.inv(one.volume.affine) @ (*lesion.point_lps, 1.0))[:3].astype(int)
        assert one.labels[k, j, i] == lesion.lesion


@pytest.fixture(scope="module")
def pair() -> tuple[Examined, Examined]:
    prior = examination(OLD, seed=1)
    # The head lies otherwise, one lesion is new and one is gone.
    current = examination([OLD[0], NEW], seed=2, pose=turned(4.0, (2.0, -3.0, 2.5)))
    return current, prior


@pytest.fixture(scope="module")
def result(pair: tuple[Examined, Examined]) -> Comparison:
    return compared(*pair)


@pytest.mark.slow
def test_new_and_resolved_lesions_of_a_moved_head_are_found(
    pair: tuple[Examined, Examined], result: Comparison
) -> None:
    assert [(c.change, c.possible) for c in result.changes] == [("new", False), ("resolved", False)]
    new, resolved = result.changes
    true = pair[0].labels == new.lesion
    assert result.labels is not None
    assert np.array_equal(result.labels == new.number, true)
    assert (new.prior_volume_mm3, resolved.volume_mm3) == (0.0, 0.0)
    assert resolved.lesion is None
    assert resolved.prior_lesion in (1, 2)
    assert new.slices_k == (
        int(true.any(axis=(1, 2)).argmax()),
        int(np.flatnonzero(true.any(axis=(1, 2)))[-1]),
    )
    back = np.linalg.inv(turned(4.0, (2.0, -3.0, 2.5))) @ (*NEW[:3], 1.0)
    assert np.linalg.norm(np.array(new.centre_lps) - back[:3]) < 1.0
    assert [(m.shared_mm3 > 100) for m in result.matches] == [True]
    (unchanged,) = result.unchanged
    assert unchanged.lesion == result.matches[0].lesion != new.lesion


@pytest.mark.slow
def test_registration_finds_how_the_head_lay(result: Comparison) -> None:
    assert result.current_to_prior is not None
    points = np.array([[x, y, z, 1.0] for x in (-30, 30) for y in (-40, 40) for z in (-25, 25)])
    error = points @ (result.current_to_prior - turned(4.0, (2.0, -3.0, 2.5))).T
    assert np.linalg.norm(error[:, :3], axis=1).max() < 0.5


@pytest.mark.slow
def test_swapped_studies_give_swapped_answers_exactly(
    pair: tuple[Examined, Examined], result: Comparison
) -> None:
    swapped = compared(pair[1], pair[0])
    mirrored = sorted((OPPOSITE[change], possible, then, now) for change, possible, now, then in said(result))
    assert said(swapped) == mirrored
    assert (swapped.volume_mm3, swapped.prior_volume_mm3) == (result.prior_volume_mm3, result.volume_mm3)
    assert {(m.prior_lesion, m.lesion, m.shared_mm3) for m in swapped.matches} == {
        (m.lesion, m.prior_lesion, m.shared_mm3) for m in result.matches
    }


@pytest.mark.slow
def test_different_field_strength_makes_a_new_lesion_possible_at_most(
    pair: tuple[Examined, Examined],
) -> None:
    current, prior = pair
    other = {**prior.volume.attributes, "MagneticFieldStrength": 1.5}
    result = compared(current, replace(prior, volume=replace(prior.volume, attributes=other)))
    assert result.comparability.grade == "C"
    assert [(c.change, c.possible) for c in result.changes] == [("new", True), ("resolved", True)]
    assert result.count("new") == 0


def test_brain_that_is_not_there_refuses() -> None:
    one = examination(OLD)
    result = compared(one, replace(one, brain=np.zeros_like(one.brain)))
    assert result.comparability.grade == "D"
    assert result.not_compared == "one of the images shows no brain"
    assert result.labels is None
