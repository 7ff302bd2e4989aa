"""Lesions of other kinds in a plain head."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.anatomy import Tissue
from pipelines.training.synthetic.generator import Head
from pipelines.training.synthetic.normal_brightness import Position
from pipelines.training.synthetic.other_lesions import KINDS, Kind, draw_other, pushed

SIDE = 100


def _head() -> Head:
    """Return a ball of white matter with a rim of cortex, grey in its middle and a cerebellum below."""
    axis = ((np.arange(SIDE) - (SIDE - 1) / 2) * SPACING_MM).astype(np.float32)
    k, j, i = np.broadcast_arrays(axis[:, None, None], axis[:, None], axis)
    far = np.sqrt(k**2 + j**2 + i**2)
    labels = np.where(far < 56, Tissue.WHITE, Tissue.AIR).astype(np.uint8)
    labels[(far < 56) & (far > 52)] = Tissue.CORTEX
    labels[(np.abs(i) > 12) & (np.abs(i) < 28) & (np.abs(j) < 10) & (np.abs(k) < 10)] = Tissue.DEEP_GREY
    labels[(labels == Tissue.WHITE) & (k < -30)] = Tissue.CEREBELLAR_WHITE
    at = Position(far.astype(np.float32), k.copy(), j.copy(), i.copy())
    return Head(labels, np.zeros(labels.shape, np.int16), far < 56, at, labels.copy())


HEAD = _head()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_lesion_lies_in_the_brain_and_changes_the_image(kind: Kind) -> None:
    rng = np.random.default_rng(5)
    head, drawn = draw_other(HEAD, kind, rng)
    assert drawn.kind == kind
    assert 0.5 < drawn.inside.sum() * SPACING_MM**3 / 1000 < 400
    assert not (drawn.inside & ~HEAD.brain).any()
    image = (head.labels > 0).astype(np.float32)
    changed = np.abs(drawn.painted(image, rng) - image) > 0.1
    assert (changed & drawn.inside).sum() > 0.5 * drawn.inside.sum()
    assert not (changed & (HEAD.at.ventricle_mm > 62)).any()


@pytest.mark.slow
def test_same_seed_draws_the_same_lesion() -> None:
    first, again = (draw_other(HEAD, "tumour", np.random.default_rng(3))[1].inside for _ in range(2))
    assert (first == again).all()


def test_structures_are_pushed_away_and_the_surface_stays() -> None:
    moved = pushed(HEAD, np.array([50, 50, 70]), 12.0, 1.5)
    middle = moved.at.left[50, 50]
    # What lies at the midline now lay nearer to the lesion before.
    assert middle[50] > HEAD.at.left[50, 50, 50] + 0.5
    assert (moved.labels[:, 50, 3:6] == HEAD.labels[:, 50, 3:6]).all()
