"""Lesions painted into a volume: size, brightness, and where they go."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.phantoms.painting import PaintedLesion, lesion_share, normal_places, paint


def grid(slices_mm: float) -> Grid:
    affine = np.diag([1.0, 1.0, slices_mm, 1.0])
    return Grid((round(60 / slices_mm), 60, 60), affine)


@pytest.mark.parametrize("slices_mm", [1.0, 5.0])
def test_share_adds_up_to_the_volume_in_slices_of_any_thickness(slices_mm: float) -> None:
    lesion = PaintedLesion((30.0, 28.0, 31.0), 300.0, (1.0, 0.0, 0.0), 2.0)
    _, share = lesion_share(lesion, grid(slices_mm))
    assert float(share.sum()) * slices_mm == pytest.approx(300.0, rel=0.15)


def test_lesion_is_as_bright_as_asked_and_leaves_fluid_dark() -> None:
    image = np.full((60, 60, 60), 100.0, np.float32)
    image[:, :, :28] = 10.0
    brain = np.ones(image.shape, dtype=bool)
    painted = paint(image, brain, grid(1.0), [PaintedLesion((30.0, 30.0, 30.0), 500.0, brightness=1.4)])
    assert painted.array[30, 30, 31] == pytest.approx(140.0, abs=2)
    assert (painted.array[:, :, :28] == 10.0).all()
    assert set(np.unique(painted.labels)) == {0, 1}
    assert not painted.labels[:, :, :28].any()


def test_places_are_white_matter_far_from_edges_fluid_and_each_other() -> None:
    image = np.full((60, 60, 60), 100.0, np.float32)
    image[25:35, 25:35, 25:35] = 10.0
    brain = np.zeros(image.shape, dtype=bool)
    brain[4:56, 4:56, 4:56] = True
    suspect = np.zeros(image.shape, dtype=bool)
    suspect[40:45, 40:45, 40:45] = True
    places = np.array(normal_places(image, brain, suspect, grid(1.0), 8, np.random.default_rng(1)))
    assert len(places) == 8
    assert places.min() >= 11
    assert np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(8, 1)].min() >= 14
    assert (np.abs(places - 29.5).max(axis=1) > 8).all()
