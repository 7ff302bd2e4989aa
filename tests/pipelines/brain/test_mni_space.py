"""Where the brain lies in MNI space is found, and the cube follows it without stretching."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid, resample
from pipelines.brain.mni_space import (
    Alignment,
    align_to_mni,
    brain_height_mm,
    overlap,
    template,
    turned_cube,
)


def pose(degrees: float, scale: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """Return MNI to patient: scaled, turned about x and z, shifted."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    result = np.eye(4)
    result[:3, :3] = turn @ np.diag(scale)
    result[:3, 3] = shift
    return result


@pytest.mark.slow
def test_template_lies_in_lps() -> None:
    reference = template()
    origin = np.linalg.inv(reference.grid.affine) @ [0.0, 0.0, 0.0, 1.0]
    np.testing.assert_allclose(origin[:3], [98.0, 134.0, 72.0])
    # nilearn's first voxel is the left, posterior, inferior one
    np.testing.assert_allclose(reference.grid.positions_lps([0, 0, 0]), [98.0, 134.0, -72.0])
    # the brain reaches further back (y > 0 in LPS) from the anterior commissure than forward
    back = reference.grid.positions_lps(np.argwhere(reference.brain))[:, 1]
    assert back.max() > 100.0
    assert -80.0 < back.min() < -65.0


def test_rotation_of_a_stretched_alignment_is_the_turn_alone() -> None:
    turn = pose(12.0, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))[:3, :3]
    stretched = pose(12.0, (0.9, 1.1, 0.8), (3.0, 4.0, 5.0))
    rotation = Alignment(stretched, 0.0).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation, turn, atol=1e-9)


def test_cube_is_centred_on_the_brain_and_turned_to_the_mni_axes() -> None:
    grid = Grid(
        (60, 100, 100), np.array([[2.0, 0, 0, -90], [0, 2.0, 0, -110], [0, 0, 3.0, -70], [0, 0, 0, 1]])
    )
    mask = np.zeros(grid.shape_kji, dtype=bool)
    mask[10:51, 20:81, 30:71] = True
    cube = turned_cube(Alignment(np.eye(4), 0.0), mask, grid)
    assert cube.shape_kji == (160, 160, 160)
    assert cube.spacing_mm == pytest.approx((1.2, 1.2, 1.2))
    centre = cube.positions_lps([79.5, 79.5, 79.5])
    np.testing.assert_allclose(centre, grid.positions_lps([30, 50, 50]), atol=1e-9)
    # k towards Superior, j towards Posterior, i towards Left
    np.testing.assert_allclose(cube.positions_lps([80.5, 79.5, 79.5]) - centre, [0, 0, 1.2], atol=1e-9)
    np.testing.assert_allclose(cube.positions_lps([79.5, 80.5, 79.5]) - centre, [0, 1.2, 0], atol=1e-9)
    np.testing.assert_allclose(cube.positions_lps([79.5, 79.5, 80.5]) - centre, [1.2, 0, 0], atol=1e-9)


def test_cube_axes_follow_a_tilted_head() -> None:
    grid = Grid((40, 40, 40), np.diag([4.0, 4.0, 4.0, 1.0]))
    tilted = Alignment(pose(15.0, (0.9, 0.9, 0.9), (0.0, 0.0, 0.0)), 0.0)
    cube = turned_cube(tilted, np.ones(grid.shape_kji, dtype=bool), grid)
    np.testing.assert_allclose(cube.affine[:3, :3] / 1.2, tilted.rotation, atol=1e-9)


def test_height_is_measured_along_the_head_not_the_scanner() -> None:
    grid = Grid((50, 50, 50), np.diag([2.0, 2.0, 2.0, 1.0]))
    mask = np.zeros(grid.shape_kji, dtype=bool)
    mask[5:45, 20:30, 20:30] = True
    assert brain_height_mm(Alignment(np.eye(4), 0.0), mask, grid) == pytest.approx(80.0)
    upright = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    assert brain_height_mm(Alignment(upright, 0.0), mask, grid) == pytest.approx(20.0)


@pytest.mark.slow
@pytest.mark.parametrize("handedness", [1.0, -1.0])
def test_alignment_of_a_moved_template_is_found_twice_the_same(handedness: float) -> None:
    reference = template()
    true = pose(9.0, (0.9, 0.94, 0.88), (8.0, -12.0, 20.0))
    affine = np.array([[1.8, 0, 0, -90.0], [0, 1.8, 0, -110.0], [0, 0, 3.0 * handedness, 0], [0, 0, 0, 1]])
    affine[2, 3] = 20.0 - handedness * 81.0
    grid = Grid((56, 110, 100), affine)
    back = np.linalg.inv(true)
    head = resample(reference.t1, reference.grid, grid, transform=back)
    mask = resample(reference.brain, reference.grid, grid, transform=back) > 0.5
    found = align_to_mni(head, mask, grid)
    points = np.array([[0, 0, 0, 1], [40, 20, 30, 1], [-40, -40, 10, 1], [0, 60, -30, 1]], dtype=float)
    error_mm = np.linalg.norm((points @ (found.mni_to_patient - true).T)[:, :3], axis=1)
    assert error_mm.max() < 1.0
    assert overlap(found, mask, grid) > 0.97
    if handedness > 0:
        np.testing.assert_array_equal(align_to_mni(head, mask, grid).mni_to_patient, found.mni_to_patient)
