"""Matthews' rule on lesions painted by hand in MNI152 space; all places are L, P, S in mm."""

from __future__ import annotations

import functools
from collections.abc import Callable

import cc3d
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import CUBE_SPACING_MM, Alignment, coarse_grid
from pipelines.flair.matthews import (
    DAWSON,
    U_FIBRE,
    VENTRICLE_AND_TEMPORAL,
    fluid_in_mni,
    lesion_points,
    matthews_rule,
    normal_in_patient,
    places_with,
    shape_in_plane,
    shape_of,
)
from pipelines.flair.preprocess import Cube
from pipelines.types import Rule

Solid = Callable[[np.ndarray], np.ndarray]
"""Takes points, shape (..., 3), to whether they are inside."""

IN_MNI = Alignment(np.eye(4), 0.0)
AXIAL = Grid((130, 130, 130), np.array([[1.0, 0, 0, -65], [0, 1, 0, -55], [0, 0, 1, -50], [0, 0, 0, 1]]))


def ovoid(centre: tuple[float, ...], half_axes: tuple[float, ...]) -> Solid:
    return lambda points: (((points - centre) / np.array(half_axes)) ** 2).sum(axis=-1) <= 1


def half_ring(centre: tuple[float, ...], radius: float, thick: float) -> Solid:
    """In the L-S plane, open downwards."""

    def inside(points: np.ndarray) -> np.ndarray:
        left, posterior, superior = np.moveaxis(points - np.array(centre), -1, 0)
        across = np.hypot(np.hypot(left, superior) - radius, posterior)
        return (across <= thick) & (superior >= 0)

    return inside


AT_BODY = ovoid((18, 15, 22), (3, 3, 3))
TEMPORAL = ovoid((50, 20, -25), (4, 4, 4))
FINGER = ovoid((25, 10, 28), (6.5, 2.5, 2.5))
ALONG_THE_WALL = ovoid((19.5, 10, 28), (2.5, 6.5, 2.5))
U_LESION = half_ring((25, -30, 33), 7, 2)
CORTICAL_ROD = ovoid((25, -30, 36), (11, 2, 2))
DEEP_RING = half_ring((26, 12, 34), 7, 2)


def in_mni(grid: Grid, alignment: Alignment = IN_MNI) -> np.ndarray:
    """Return the place in MNI152 space of each voxel of a patient's grid."""
    voxels = np.moveaxis(np.indices(grid.shape_kji), 0, -1)
    inverse = np.linalg.inv(alignment.mni_to_patient)
    return np.asarray(grid.positions_lps(voxels) @ inverse[:3, :3].T + inverse[:3, 3])


@functools.cache
def in_axial(solid: Solid) -> np.ndarray:
    """Return the voxels of `AXIAL` that are inside, found once for all tests."""
    return solid(axial_places())


@functools.cache
def axial_places() -> np.ndarray:
    return in_mni(AXIAL)


def paint(solids: tuple[Solid, ...], grid: Grid = AXIAL, alignment: Alignment = IN_MNI) -> np.ndarray:
    """Return labels 1, 2, ... on a patient's grid."""
    mni = None if grid is AXIAL and alignment is IN_MNI else in_mni(grid, alignment)
    labels = np.zeros(grid.shape_kji, dtype=np.int32)
    for number, solid in enumerate(solids, start=1):
        labels[in_axial(solid) if mni is None else solid(mni)] = number
    return labels


def rule_of(
    labels: np.ndarray,
    grid: Grid = AXIAL,
    alignment: Alignment = IN_MNI,
    fluid: np.ndarray | None = None,
    probability: float = 0.9,
) -> Rule:
    return matthews_rule(labels, (labels > 0) * np.float32(probability), grid, alignment, fluid)


def criteria(*solids: Solid, fluid: np.ndarray | None = None) -> dict[str, tuple[int, ...]]:
    rule = rule_of(paint(solids), fluid=fluid)
    return {criterion.name: criterion.lesions for criterion in rule.criteria}


def test_ventricle_and_temporal_lobe_only_count_together() -> None:
    assert criteria(AT_BODY, TEMPORAL)[VENTRICLE_AND_TEMPORAL] == (1, 2)
    assert criteria(AT_BODY)[VENTRICLE_AND_TEMPORAL] == ()
    assert criteria(TEMPORAL)[VENTRICLE_AND_TEMPORAL] == ()


def test_other_side_of_the_head_counts_alike() -> None:
    right = (ovoid((-18, 15, 22), (3, 3, 3)), ovoid((-50, 20, -25), (4, 4, 4)))
    assert criteria(*right)[VENTRICLE_AND_TEMPORAL] == (1, 2)


@pytest.mark.parametrize("place", [(16, -32, 8), (28, 15, 22), (18, 15, -25), (50, 60, -25), (50, 20, 10)])
def test_lesions_elsewhere_do_not_count(place: tuple[float, ...]) -> None:
    """Frontal horn, 10 mm lateral of the body, brainstem, cerebellum, upper temporal lobe."""
    elsewhere = ovoid(place, (3, 3, 3))
    assert criteria(AT_BODY, elsewhere)[VENTRICLE_AND_TEMPORAL] == ()
    assert criteria(TEMPORAL, elsewhere)[VENTRICLE_AND_TEMPORAL] == ()


def test_finger_stands_at_a_right_angle_to_the_ventricle() -> None:
    assert criteria(FINGER)[DAWSON] == (1,)
    assert criteria(ALONG_THE_WALL)[DAWSON] == ()
    assert criteria(AT_BODY)[DAWSON] == ()
    away = ovoid((36, 10, 28), (6.5, 2.5, 2.5))
    assert criteria(away)[DAWSON] == ()


THICK = Grid((18, 144, 144), np.array([[0.9, 0, 0, -65], [0, 0.9, 0, -55], [0, 0, 7.2, -50], [0, 0, 0, 1.0]]))
"""Slices as most hospitals send them."""


def in_thick(
    *places_lps: tuple[float, float, float], pixels: tuple[int, int] = (1, 1), slices: int = 1
) -> np.ndarray:
    """Return labels of boxes of pixels (rows, columns) on the thick slices, each around a place."""
    labels = np.zeros(THICK.shape_kji, dtype=np.int32)
    inverse = np.linalg.inv(THICK.affine)
    for number, place in enumerate(places_lps, start=1):
        i, j, k = np.rint(inverse[:3, :3] @ place + inverse[:3, 3]).astype(int)
        labels[k : k + slices, j : j + pixels[0], i : i + pixels[1]] = number
    return labels


ROOF = (12.0, 10.0, 31.0)
BESIDE = (20.0, 10.0, 24.0)


@pytest.mark.parametrize("place", [ROOF, BESIDE, (-12.0, 10.0, 31.0), (20.0, 40.0, 20.0)])
@pytest.mark.parametrize(("pixels", "slices"), [((1, 1), 1), ((1, 1), 2), ((1, 3), 1), ((2, 2), 1)])
def test_speck_is_no_finger_however_thick_its_slice(
    place: tuple[float, float, float], pixels: tuple[int, int], slices: int
) -> None:
    assert not rule_of(in_thick(place, pixels=pixels, slices=slices), THICK).met


def test_finger_of_one_slice_is_seen_in_its_plane() -> None:
    assert criteria_on_thick(in_thick(BESIDE, pixels=(3, 12)))[DAWSON] == (1,)
    assert criteria_on_thick(in_thick(BESIDE, pixels=(12, 3)))[DAWSON] == ()


def criteria_on_thick(labels: np.ndarray, probability: float = 0.9) -> dict[str, tuple[int, ...]]:
    rule = rule_of(labels, THICK, probability=probability)
    return {criterion.name: criterion.lesions for criterion in rule.criteria}


@pytest.mark.parametrize(("probability", "met"), [(0.69, False), (0.71, True)])
def test_lesion_that_the_networks_doubt_meets_no_criterion(probability: float, *, met: bool) -> None:
    for solids in ((FINGER,), (U_LESION,), (AT_BODY, TEMPORAL)):
        assert rule_of(paint(solids), probability=probability).met == met


def test_shape_in_the_plane_is_that_of_the_slice() -> None:
    shape = shape_in_plane(in_thick(BESIDE, pixels=(3, 12))[10:11] > 0, THICK)
    long, middle, _ = shape.axes_mm
    assert (long, middle) == pytest.approx((12 * 0.9 * 4 / 12**0.5, 3 * 0.9 * 4 / 12**0.5))
    assert abs(shape.direction) == pytest.approx((1, 0, 0))


def test_lesion_that_fills_both_places_is_not_two() -> None:
    mass = lambda points: TEMPORAL(points) | AT_BODY(points)  # noqa: E731
    assert criteria(mass)[VENTRICLE_AND_TEMPORAL] == ()


@pytest.mark.parametrize("seed", range(4))
def test_tumour_and_specks_around_the_ventricles_do_not_support_ms(seed: int) -> None:
    """A mass of 25 to 45 mm in a hemisphere with a bumpy edge, and along the ventricles what networks take for lesions."""
    rng = np.random.default_rng(seed)
    points = AXIAL.positions_lps(np.moveaxis(np.indices(AXIAL.shape_kji), 0, -1))
    bumps = ndimage.zoom(rng.normal(size=(13, 13, 13)), 10, order=1)
    centre = np.array([rng.choice([-1, 1]) * rng.uniform(28, 42), rng.uniform(-35, 45), rng.uniform(0, 40)])
    mass = np.linalg.norm(points - centre, axis=-1) * (1 + 0.2 * bumps) < rng.uniform(12.5, 22.5)
    labels = (cc3d.largest_k(mass, k=1, connectivity=26) > 0).astype(np.int32)
    to_ventricle = places_with(None).ventricle_mm
    wall = coarse_grid().positions_lps(np.argwhere((to_ventricle > 0) & (to_ventricle < 4)))
    inverse = np.linalg.inv(AXIAL.affine)
    for place in rng.permutation(wall)[:30]:
        i, j, k = np.rint(inverse[:3, :3] @ place + inverse[:3, 3]).astype(int)
        if not labels[k - 1 : k + 2, j - 1 : j + 2, i - 1 : i + 8].any():
            labels[k, j, i : i + rng.integers(1, 8)] = labels.max() + 1
    assert labels.max() > 10
    assert not rule_of(labels).met


def test_normal_stays_at_a_right_angle_to_its_surface_in_a_stretched_and_sheared_patient() -> None:
    to_patient = np.eye(4)
    to_patient[:3, :3] = [[0.9, 0.1, 0], [0.2, 1.1, 0.05], [-0.1, 0, 1.3]]
    normal = np.array([1.0, 0.5, -0.4])
    along = np.array([[0.5, -1.0, 0.0], [0.4, 0.0, 1.0]])
    turned = normal_in_patient(normal, Alignment(to_patient, 0.0))
    assert turned @ to_patient[:3, :3] @ along.T == pytest.approx([0, 0], abs=1e-12)
    assert turned @ to_patient[:3, :3] @ normal > 0


def test_u_fibre_lesion_is_curved_and_at_the_cortex() -> None:
    assert criteria(U_LESION)[U_FIBRE] == (1,)
    assert criteria(CORTICAL_ROD)[U_FIBRE] == ()
    assert criteria(DEEP_RING)[U_FIBRE] == ()


def test_no_lesion_and_lesions_without_a_criterion_do_not_meet_the_rule() -> None:
    assert not rule_of(paint(())).met
    rule = rule_of(paint((ovoid((28, 15, 32), (3, 3, 3)),)))
    assert not rule.met
    assert rule.disease == "MS"
    assert rule_of(paint((FINGER,))).met


@pytest.mark.slow
def test_turned_and_stretched_patient_on_an_oblique_anisotropic_grid_gives_the_same() -> None:
    to_patient = np.eye(4)
    to_patient[:3, :3] = Rotation.from_euler("xyz", [9, -6, 14], degrees=True).as_matrix() * 0.92
    to_patient[:3, 3] = [12.0, -30.0, 44.0]
    alignment = Alignment(to_patient, 0.0)
    affine = np.eye(4)
    # sagittal: i runs anterior, j inferior, k left, slightly turned
    axes = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    axes = Rotation.from_euler("z", 8, degrees=True).as_matrix() @ axes
    affine[:3, :3] = axes * [0.8, 0.8, 2.0]
    affine[:3, 3] = to_patient[:3] @ [0, 10, 0, 1] - affine[:3, :3] @ [100, 100, 40]
    grid = Grid((80, 200, 200), affine)
    solids = (AT_BODY, TEMPORAL, FINGER, U_LESION)
    rule = rule_of(paint(solids, grid, alignment), grid, alignment)
    assert {criterion.name: criterion.lesions for criterion in rule.criteria} == {
        VENTRICLE_AND_TEMPORAL: (1, 2, 3),
        U_FIBRE: (4,),
        DAWSON: (3,),
    }


def test_wide_ventricles_of_a_patient_reach_further_than_the_templates() -> None:
    beside = ovoid((28, 15, 22), (3, 3, 3))
    grid = coarse_grid()
    points = grid.positions_lps(np.moveaxis(np.indices(grid.shape_kji), 0, -1))
    wide = ovoid((10, 15, 22), (14, 20, 8))(points)
    assert criteria(beside, TEMPORAL)[VENTRICLE_AND_TEMPORAL] == ()
    assert criteria(beside, TEMPORAL, fluid=wide)[VENTRICLE_AND_TEMPORAL] == (1, 2)
    apart = ovoid((24, 12, 22), (1.5, 8, 6))(points)
    assert criteria(beside, TEMPORAL, fluid=apart)[VENTRICLE_AND_TEMPORAL] == ()


def test_fluid_is_what_is_dark_within_the_brain() -> None:
    affine = np.diag([CUBE_SPACING_MM, CUBE_SPACING_MM, CUBE_SPACING_MM, 1.0])
    affine[:3, 3] = -20.0
    shape = (40, 40, 40)
    values = np.zeros(shape, np.float32)
    values[:20], values[20:24] = -4.0, -5.0
    mask = np.ones(shape, dtype=bool)
    mask[20:24] = False
    fluid = fluid_in_mni(Cube(values, mask, Grid(shape, affine)), IN_MNI)
    heights = coarse_grid().positions_lps(np.argwhere(fluid))[:, 2]
    assert heights.min() == pytest.approx(-20, abs=2)
    assert heights.max() == pytest.approx(-20 + 20 * CUBE_SPACING_MM, abs=2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 3.0)])
def test_shape_of_an_ovoid_of_several_slices_is_its_axes(spacing: tuple[float, float, float]) -> None:
    solid = ovoid((0.0, 10.0, 5.0), (16, 10, 8))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-20, -10, -15]
    count = [int(40 / step) for step in spacing[::-1]]
    grid = Grid((count[0], count[1], count[2]), affine)
    shape = shape_of(*lesion_points(paint((solid,), grid) == 1, grid), grid)
    assert shape.axes_mm == pytest.approx((32, 20, 16), rel=0.05)
    assert abs(shape.direction[0]) > 0.98
    assert shape.fullness == pytest.approx(1.0, abs=0.05)
