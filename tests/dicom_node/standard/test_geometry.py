from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.standard.geometry import (
    Gap,
    affine_of,
    orientation_of,
    same_orientation,
    slice_normal,
    stack_slices,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def rotation(quaternion: tuple[float, float, float, float]) -> np.ndarray:
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@pytest.mark.parametrize(
    ("orientation", "normal"),
    [
        (AXIAL, (0, 0, 1)),
        ((0, 1, 0, 0, 0, -1), (-1, 0, 0)),  # sagittal: towards the right
        ((1, 0, 0, 0, 0, -1), (0, 1, 0)),  # coronal: towards the back
    ],
)
def test_normal_is_row_cross_column(orientation: tuple[float, ...], normal: tuple[float, ...]) -> None:
    np.testing.assert_allclose(slice_normal(orientation), normal, atol=1e-12)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 1, 0), (2, 0, 0, 0, 1, 0)])
def test_what_is_no_orientation_is_refused(orientation: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="perpendicular"):
        slice_normal(orientation)


def test_orientations_with_four_digits_are_the_same() -> None:
    assert same_orientation((0.9801, 0, -0.1987, 0, 1, 0), (0.98006658, 0, -0.19866933, 0, 1, 0))
    assert not same_orientation((0.9801, 0, -0.1987, 0, 1, 0), AXIAL)


def test_positions_in_any_order_are_stacked_along_the_normal() -> None:
    stack = stack_slices([(5, 5, 6.0), (5, 5, 0.0), (5, 5, 9.0), (5, 5, 3.0)], AXIAL)
    assert stack.order == (1, 3, 0, 2)
    assert stack.distances_mm == (0.0, 3.0, 6.0, 9.0)
    assert (stack.spacing_mm, stack.gaps, stack.repeats, stack.places) == (3.0, (), 1, 4)
    assert stack.drift_mm == 0


def test_gaps_are_found_with_what_is_missing() -> None:
    stack = stack_slices([(0, 0, z) for z in (0, 2.5, 5, 12.5, 15, 20)], AXIAL)
    assert stack.gaps == (Gap(5.0, 12.5, 2, 2), Gap(15.0, 20.0, 1, 4))
    assert stack.missing == 3
    assert stack.spacing_mm == pytest.approx(2.5)


def test_uneven_places_have_no_spacing() -> None:
    assert stack_slices([(0, 0, z) for z in (0, 3, 6, 10.3)], AXIAL).spacing_mm is None


def test_repeats_and_drift_are_measured() -> None:
    stack = stack_slices([(0, 0, 0), (0, 0, 3), (0, 0, 3), (4, 3, 6)], AXIAL)
    assert (stack.repeats, stack.places, stack.drift_mm) == (2, 3, 5.0)


def test_single_slice_has_no_spacing() -> None:
    assert stack_slices([(1, 2, 3)], AXIAL).spacing_mm is None


@settings(max_examples=50, deadline=None)
@given(
    quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    count=st.integers(2, 60),
    random=st.randoms(use_true_random=False),
)
def test_affine_survives_the_way_over_slices(quaternion, spacing, origin, count, random) -> None:
    affine = np.eye(4)
    affine[:3, :3] = rotation(quaternion) * spacing
    affine[:3, 3] = origin
    orientation, pixel_spacing = orientation_of(affine)
    positions = [affine[:3, 3] + k * affine[:3, 2] for k in range(count)]
    shuffled = random.sample(range(count), count)
    stack = stack_slices([positions[k] for k in shuffled], orientation)
    assert [shuffled[index] for index in stack.order] == list(range(count))
    assert stack.spacing_mm == pytest.approx(spacing[2])
    back = affine_of(orientation, pixel_spacing, positions[0], positions[-1], count)
    np.testing.assert_allclose(back, affine, atol=1e-9)


def test_sheared_axes_have_no_orientation() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    with pytest.raises(ValueError, match="not perpendicular"):
        orientation_of(affine)
