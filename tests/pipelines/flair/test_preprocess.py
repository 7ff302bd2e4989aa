"""What is found in the cube lands on the same place of the patient in the native grid."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.mni_space import Alignment
from pipelines.flair import preprocess
from pipelines.flair.preprocess import find_brain, to_cube, to_native
from pipelines.types import Volume

pytestmark = pytest.mark.slow

TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
ORIENTATIONS = {
    "axial": np.diag([0.9, 0.9, 3.0]),
    "sagittal": np.array([[0.0, 0, -1.2], [1.0, 0, 0], [0, -1.0, 0]]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 3.0], [0, -1.0, 0]]),
    "left-handed": np.diag([0.9, 0.9, -3.0]),
    "oblique": TURN @ np.diag([0.9, 0.9, 4.0]),
}
SPOT_LPS = np.array([20.0, -31.0, 12.0])


@pytest.fixture
def ball_is_brain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any voxel brighter than 50 be brain."""
    monkeypatch.setattr(preprocess, "brain_mask", lambda array, affine, device: array > 50.0)


def ball(axes: np.ndarray) -> Volume:
    """Return a ball of radius 70 mm around the origin with a brighter one of 8 mm at SPOT_LPS."""
    extent_mm = 170.0
    shape_ijk = np.ceil(extent_mm / np.linalg.norm(axes, axis=0)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ ((shape_ijk - 1) / 2.0)
    volume = Volume(np.zeros(shape_ijk[::-1], dtype=np.float32), affine)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in volume.array.shape)]
    points = [row[0] * i + row[1] * j + row[2] * k + row[3] for row in affine[:3]]
    for centre, radius_mm, value in ((np.zeros(3), 70.0, 100.0), (SPOT_LPS, 8.0, 170.0)):
        squared = sum((x - c) ** 2 for x, c in zip(points, centre, strict=True))
        volume.array[squared < radius_mm**2] = value
    return volume


@pytest.mark.parametrize("axes", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
@pytest.mark.usefixtures("ball_is_brain")
def test_spot_goes_into_the_cube_and_back_to_its_place(axes: np.ndarray) -> None:
    volume = ball(axes)
    brain = find_brain(volume)
    assert brain is not None
    pose = np.eye(4)
    pose[:3, :3] = TURN * 0.9
    cube = to_cube(brain.array, brain, Alignment(pose, 0.0))
    bright = np.where(cube.mask & (cube.values > 1.5), np.float32(1.0), np.float32(0.0))
    centre = cube.grid.positions_lps(np.argwhere(bright > 0.0)).mean(axis=0)
    np.testing.assert_allclose(centre, SPOT_LPS, atol=0.8)

    native = to_native(bright, cube, brain)
    assert native.shape == volume.array.shape
    found = native > 0.5
    np.testing.assert_allclose(volume.position_lps(np.argwhere(found)).mean(axis=0), SPOT_LPS, atol=0.8)
    volume_mm3 = found.sum() * volume.voxel_volume_mm3
    assert volume_mm3 == pytest.approx(4 / 3 * np.pi * 8.0**3, rel=0.2)


@pytest.mark.usefixtures("ball_is_brain")
def test_outside_the_brain_the_native_map_is_zero() -> None:
    volume = ball(ORIENTATIONS["axial"])
    brain = find_brain(volume)
    assert brain is not None
    cube = to_cube(brain.array, brain, Alignment(np.eye(4), 0.0))
    native = to_native(np.ones_like(cube.values), cube, brain)
    assert native[volume.array == 0.0].max() == 0.0
    assert native[volume.array > 0.0].min() == pytest.approx(1.0)


@pytest.mark.usefixtures("ball_is_brain")
def test_cube_is_normalised_and_its_background_cut_off() -> None:
    brain = find_brain(ball(ORIENTATIONS["axial"]))
    assert brain is not None
    cube = to_cube(brain.array, brain, Alignment(np.eye(4), 0.0))
    assert cube.values.shape == (160, 160, 160)
    assert np.median(cube.values[cube.mask]) == pytest.approx(0.0, abs=0.2)
    assert np.unique(cube.values[~cube.mask]).size == 1


@pytest.mark.usefixtures("ball_is_brain")
def test_volume_without_brain_gives_none() -> None:
    assert find_brain(Volume(np.zeros((5, 6, 7), dtype=np.float32), np.eye(4))) is None


@pytest.mark.usefixtures("ball_is_brain")
def test_values_that_are_not_numbers_become_background() -> None:
    volume = ball(ORIENTATIONS["axial"])
    volume.array[5, 5, 5] = np.nan
    brain = find_brain(volume)
    assert brain is not None
    assert np.isfinite(brain.array).all()
