"""The five slices are the same whether they come from a patient or from a training cube."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipelines.brain.mni_space import template
from pipelines.errors import PipelineError
from pipelines.flair.five_slices.slices import (
    PLANES_MM,
    TEMPLATE_EXTENT_LPS,
    slices_from_brain,
    slices_from_cube,
    slices_of_mask,
)
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.preprocess import to_cube

pytestmark = pytest.mark.slow

TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
NOD = np.array([[1.0, 0.0, 0.0], [0.0, 0.96, -0.28], [0.0, 0.28, 0.96]])
GRIDS = {
    "axial": np.diag([1.5, 1.5, 3.0]),
    "sagittal": np.array([[0.0, 0, -1.5], [1.5, 0, 0], [0, -1.5, 0]]),
    "coronal": np.array([[1.5, 0, 0], [0, 0, 3.0], [0, -1.5, 0]]),
    "upside-down": np.diag([1.5, 1.5, -3.0]),
    "mirrored rows and columns": np.diag([-1.5, -1.5, 3.0]),
    "oblique": TURN @ NOD @ np.diag([1.5, 1.5, 4.0]),
}


def pose(scale: float = 1.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = NOD @ TURN * scale
    matrix[:3, 3] = [12.0, -20.0, 35.0]
    return matrix


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS.keys())
def test_patient_and_cube_give_nearly_the_same_slices(head: Any, sliced: Any, axes: np.ndarray) -> None:
    brain, alignment = head(axes, pose(0.95))
    of_patient = sliced(axes, pose(0.95))[1].images
    of_cube = slices_from_cube(to_cube(brain.array, brain, alignment).values)
    assert of_patient.shape == of_cube.shape == (5, 128, 128)
    assert of_patient.dtype == of_cube.dtype == np.float32
    both = (of_patient > BACKGROUND) & (of_cube > BACKGROUND)
    assert both.sum() > 0.96 * (of_patient > BACKGROUND).sum()
    # the cube blurs the scalp into the brain's rim before it is cut off
    inside = ndimage.binary_erosion(both, np.ones((1, 5, 5)))
    assert np.abs(of_patient - of_cube)[inside].mean() < 0.05
    assert np.corrcoef(of_patient[inside], of_cube[inside])[0, 1] > 0.97


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS.keys())
def test_rows_run_to_posterior_and_columns_to_left(sliced: Any, axes: np.ndarray) -> None:
    images = sliced(axes, pose(0.95))[1].images
    bright = images > 1.5
    fluid = (images > BACKGROUND) & (images < -2.0)
    assert np.argmax(bright.sum(axis=(1, 2))) == 1
    assert np.argmax(fluid.sum(axis=(1, 2))) == 3
    # row = 63.5 + (P - 17) / 1.5, column = 63.5 + L / 1.5
    np.testing.assert_allclose(ndimage.center_of_mass(bright[1]), (38.8, 83.5), atol=1.0)
    np.testing.assert_allclose(ndimage.center_of_mass(fluid[3]), (78.8, 53.5), atol=1.0)


def test_background_is_cut_off_and_the_scalp_does_not_bleed_in(head: Any) -> None:
    brain, alignment = head(GRIDS["axial"], pose())
    slices = slices_from_brain(brain.array, brain, alignment)
    assert (slices.images[~slices.brain] == BACKGROUND).all()
    assert slices.images[2].max() < 1.0  # tissue alone; the scalp would be 10
    # an ellipse: the share of it at S = 18 mm that the brain must fill
    semi = np.sqrt(1 - ((18 - 7.5) / 73.6) ** 2)
    area = np.pi * (67 / 0.9175) * (83 / 0.9175) * semi**2 / 1.5**2
    assert slices.brain[2].sum() == pytest.approx(area, rel=0.03)


def test_thin_and_thick_slices_look_alike(head: Any) -> None:
    images = [
        slices_from_brain(brain.array, brain, alignment).images
        for brain, alignment in (head(np.diag([1.5, 1.5, dz]), pose()) for dz in (1.2, 5.0))
    ]
    inside = (images[0] > BACKGROUND) & (images[1] > BACKGROUND)
    assert np.abs(images[0] - images[1])[inside].mean() < 0.15


@pytest.fixture(scope="module")
def cube(head: Any) -> np.ndarray:
    brain, alignment = head(GRIDS["axial"], np.eye(4))
    values = to_cube(brain.array, brain, alignment).values
    values.flags.writeable = False
    return values


def test_noise_of_thin_slices_is_averaged(cube: np.ndarray) -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, cube.shape).astype(np.float32)
    clean = slices_from_cube(cube)
    noisy = slices_from_cube(np.where(cube > BACKGROUND, cube + noise, cube))
    assert (noisy - clean)[clean > BACKGROUND].std() < 0.6 * 0.3


def test_dark_brain_stays_apart_from_the_background(head: Any) -> None:
    brain, alignment = head(GRIDS["axial"], np.eye(4))
    tissue = slices_from_brain(brain.array, brain, alignment).brain
    dark = brain.array.copy()
    dark[brain.mask & (dark < 50)] = 0.0
    np.testing.assert_array_equal(slices_from_brain(dark, brain, alignment).brain, tissue)


def test_jitter_moves_the_planes_and_repeats_with_its_seed(cube: np.ndarray) -> None:
    still = slices_from_cube(cube)
    np.testing.assert_array_equal(still, slices_from_cube(cube))
    moved = slices_from_cube(cube, np.random.default_rng(3))
    np.testing.assert_array_equal(moved, slices_from_cube(cube, np.random.default_rng(3)))
    assert not np.array_equal(still, moved)
    areas = np.array(
        [(slices_from_cube(cube, np.random.default_rng(n))[0] > BACKGROUND).sum() for n in range(6)]
    )
    # at most 4 mm + 5 % of 40 mm away from S = 58 mm
    lowest, highest = (1 - ((58 + d - 7.5) / 73.6) ** 2 for d in (-6, 6))
    full = np.pi * (67 / 0.9175) * (83 / 0.9175) / 1.5**2
    assert areas.max() < full * lowest * 1.05
    assert areas.min() > full * highest * 0.95
    assert np.ptp(areas) > 0.1 * areas.mean()


def test_a_mask_is_cut_as_the_cube_is(cube: np.ndarray) -> None:
    brain = cube > BACKGROUND
    share = slices_of_mask(brain, cube, np.random.default_rng(3))
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-5
    np.testing.assert_array_equal(share > 0.5, slices_from_cube(cube, np.random.default_rng(3)) > BACKGROUND)


def test_cube_without_brain_is_refused() -> None:
    with pytest.raises(PipelineError, match="no brain"):
        slices_from_cube(np.full((16, 16, 16), BACKGROUND, dtype=np.float32))


def test_extents_are_those_of_the_template() -> None:
    reference = template()
    points = reference.grid.positions_lps(np.argwhere(reference.brain))
    expected = np.percentile(points, [0.5, 99.5], axis=0).T
    np.testing.assert_allclose(TEMPLATE_EXTENT_LPS, expected, atol=0.5)
    whole = np.ptp(points[:, :2], axis=0)
    assert (whole < 192).all()
    assert points[:, 2].min() < min(PLANES_MM) < max(PLANES_MM) < points[:, 2].max()
