from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
import pytest

from pipelines.errors import PipelineError
from pipelines.fatsat.course import nerve_mask
from pipelines.fatsat.crop import crop_eye, normalised, outline, to_native
from pipelines.fatsat.crop_grid import SEEN, SHAPE, crop_grid, values_at
from pipelines.types import Volume

pytestmark = pytest.mark.slow

JUNCTIONS = {"left": (30.0, 0.0, 2.0), "right": (-28.0, 0.0, -1.0)}
"""On voxel centres of `coronal()`."""


@dataclass(frozen=True)
class FoundEye:
    junction_lps: tuple[float, float, float]
    course_lps: np.ndarray


@dataclass(frozen=True)
class FoundEyes:
    left: FoundEye | None
    right: FoundEye | None
    midpoint_lps: tuple[float, float, float] = (1.0, 0.0, 0.0)

    def of(self, side):
        return self.left if side == "left" else self.right


def course(side, length_mm=40.0, slope=0.5):
    """A nerve that runs backwards and to the midline."""
    x, y, z = JUNCTIONS[side]
    back = np.arange(0, length_mm, 0.5)
    inwards = -slope * back if side == "left" else slope * back
    return np.stack([x + inwards, y + back, z + 0.1 * back], axis=1)


def both(**changes):
    eyes = FoundEyes(*(FoundEye(JUNCTIONS[side], course(side)) for side in ("left", "right")))
    return replace(eyes, **changes)


def coronal(spacing=(3.0, 0.5, 0.5), shape=(20, 120, 240)):
    """Coronal slices from front to back, rows down, columns to the patient's left; smooth, left and right alike in `|x|`."""
    k, j, i = spacing
    affine = np.array(
        [
            [i, 0, 0, -i * (shape[2] // 2)],
            [0, 0, k, -k * 6],
            [0, -j, 0, j * (shape[1] // 2)],
            [0, 0, 0, 1.0],
        ]
    )
    volume = Volume(np.zeros(shape, np.float32), affine)
    return replace(volume, array=painted(volume))


def painted(volume):
    """A plane in |x|, y and z: linear interpolation is exact on it."""
    at = volume.position_lps(np.moveaxis(np.indices(volume.array.shape), 0, -1))
    return (5 * np.abs(at[..., 0]) + 3 * at[..., 1] + at[..., 2]).astype(np.float32)


def reordered(volume, order, flips):
    """The same voxels in the same places of the patient, stored along other axes."""
    to_ijk = volume.affine
    array = volume.array
    for axis, flipped in enumerate(flips):
        if flipped:
            array = np.flip(array, axis)
            column = 2 - axis
            turn = np.eye(4)
            turn[column, column], turn[column, 3] = -1, array.shape[axis] - 1
            to_ijk = to_ijk @ turn
    array = np.transpose(array, order)
    columns = [2 - axis for axis in order][::-1]
    affine = np.eye(4)
    affine[:, :3], affine[:, 3] = to_ijk[:, columns], to_ijk[:, 3]
    return Volume(np.ascontiguousarray(array), affine)


def test_published_crop_has_the_published_offsets_and_the_series_own_voxels():
    volume = coronal()
    crop = crop_eye(volume, both(), "right")
    assert crop.values.shape == SHAPE == (13, 31, 40)
    k, j, i = 6, 60 - 0 + 2, 120 - 56
    assert np.allclose(volume.position_lps((k, j, i)), JUNCTIONS["right"])
    assert np.array_equal(crop.values, volume.array[k - 2 : k + 11, j - 15 : j + 16, i - 15 : i + 25])
    assert np.allclose(crop.positions_lps[2, 15, 15], JUNCTIONS["right"])


def test_left_eye_is_mirrored():
    volume = coronal()
    crop = crop_eye(volume, both(), "left")
    k, j, i = 6, 60 - 4, 120 + 60
    mirrored = volume.array[k - 2 : k + 11, j - 15 : j + 16, i - 24 : i + 16][..., ::-1]
    assert np.array_equal(crop.values, mirrored)
    assert crop.positions_lps[2, 15, 39, 0] < crop.positions_lps[2, 15, 0, 0], "to the nose is to the right"


@pytest.mark.parametrize("kind", ["published", "along-nerve"])
def test_eyes_that_mirror_each_other_give_the_same_crop(kind):
    eyes = both()
    mirrored = np.array([-1, 1, 1])
    twin = FoundEyes(
        FoundEye(tuple(mirrored * JUNCTIONS["right"]), course("right") * mirrored),
        eyes.right,
        (0.0, 0.0, 0.0),
    )
    left, right = (crop_eye(coronal(), twin, side, kind) for side in ("left", "right"))
    assert np.allclose(left.values, right.values)
    assert np.array_equal(left.nerve, right.nerve)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["published", "along-nerve"])
def test_crop_does_not_depend_on_how_the_series_is_stored(side, kind):
    volume = coronal(shape=(20, 100, 200))
    noisy = replace(volume, array=np.random.default_rng(0).random(volume.array.shape, np.float32))
    wanted = crop_eye(noisy, both(), side, kind)
    for order, flips in product(permutations(range(3)), product((False, True), repeat=3)):
        stored = reordered(noisy, order, flips)
        crop = crop_eye(stored, both(), side, kind)
        assert np.allclose(crop.values, wanted.values), (order, flips)
        assert np.allclose(crop.positions_lps, wanted.positions_lps)


@pytest.mark.parametrize("spacing", [(3.0, 0.4, 0.4), (3.0, 0.6, 0.6), (2.5, 0.5, 0.5), (3.5, 0.7, 0.45)])
def test_other_grids_are_resampled_to_the_published_one(spacing):
    volume = coronal(spacing, (24, 160, 320))
    crop = crop_eye(volume, both(), "left")
    at = crop.positions_lps
    steps = [np.linalg.norm(np.diff(at, axis=axis), axis=-1).mean() for axis in range(3)]
    assert steps == pytest.approx([3.0, 0.5, 0.5])
    inside = (at[..., 1] > -3 * 6) & (at[..., 1] < spacing[0] * 17)
    plane = 5 * np.abs(at[..., 0]) + 3 * at[..., 1] + at[..., 2]
    assert np.allclose(crop.values[inside], plane[inside], atol=1e-3)


@pytest.mark.parametrize("angle_deg", [-30, 12, 30])
@pytest.mark.parametrize("side", ["left", "right"])
def test_tilted_series_is_cropped_along_its_own_axes(angle_deg, side):
    angle = np.deg2rad(angle_deg)
    about_x = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    volume = coronal()
    affine = volume.affine.copy()
    affine[:3] = about_x @ affine[:3]
    tilted = replace(volume, affine=affine)
    turned = FoundEyes(
        *(FoundEye(tuple(about_x @ JUNCTIONS[s]), course(s) @ about_x.T) for s in ("left", "right"))
    )
    assert np.array_equal(crop_eye(tilted, turned, side).values, crop_eye(volume, both(), side).values)


def test_along_nerve_keeps_the_nerve_at_the_junctions_place():
    crop = crop_eye(coronal(), both(), "right", "along-nerve")
    for number in range(2, 13):
        back = 3.0 * (number - 2)
        nerve = np.add(JUNCTIONS["right"], (0.5 * back, back, 0.1 * back))
        assert np.linalg.norm(crop.positions_lps[number, 15, 15] - nerve) <= 0.36, number
    published = crop_eye(coronal(), both(), "right")
    assert np.array_equal(crop.values[:3], published.values[:3])
    assert crop.coverage == 1.0


def test_nerve_that_leaves_the_crop_lowers_the_coverage():
    steep = both(right=FoundEye(JUNCTIONS["right"], course("right", slope=1.0)))
    published = crop_eye(coronal(), steep, "right")
    # Of 12.25 mm to the nose the network sees 11.25: 11.25 * sqrt(2.01) of the first 24 mm of the way.
    assert published.coverage == pytest.approx(11.25 * np.sqrt(2.01) / 24, abs=0.02)
    assert crop_eye(coronal(), steep, "right", "along-nerve").coverage == 1.0


@pytest.mark.parametrize("kind", ["published", "along-nerve"])
def test_what_the_network_never_sees_does_not_count_as_covered(kind):
    straight = both(right=FoundEye(JUNCTIONS["right"], course("right", slope=0.0)))
    # Seven and a half of ten slices behind the junction's reach the answer: 22.5 mm.
    assert crop_eye(coronal(), straight, "right", kind).coverage == pytest.approx(
        22.5 * np.sqrt(1.01) / 24, abs=0.02
    )


def test_nerve_without_a_course_has_no_coverage():
    point = both(right=FoundEye(JUNCTIONS["right"], course("right")[:1]))
    assert crop_eye(coronal(), point, "right").coverage is None


def test_series_that_ends_early_lowers_the_coverage():
    assert crop_eye(coronal(shape=(11, 120, 240)), both(), "right").coverage == pytest.approx(
        13.5 * np.sqrt(1.26) / 24, abs=0.02
    )


def test_nerve_of_the_crop_is_that_of_the_series():
    volume = coronal()
    crop = crop_eye(volume, both(), "right")
    assert crop.nerve[2, 15, 15]
    assert crop.nerve[2, 15, 15 - 4]
    assert not crop.nerve[2, 15, 15 - 6]
    assert not crop.nerve[0].any(), "there is the globe"
    mask = nerve_mask(volume, course("right"))
    assert np.array_equal(
        to_native(crop.nerve, crop, volume) > 0, mask & (to_native(np.ones(SHAPE), crop, volume) > 0)
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["published", "along-nerve"])
def test_maps_go_back_to_the_very_voxels_they_came_from(side, kind):
    volume = coronal(shape=(20, 100, 200))
    volume = replace(volume, array=np.random.default_rng(1).random(volume.array.shape, np.float32) + 1)
    crop = crop_eye(volume, both(), side, kind)
    back = to_native(crop.values, crop, volume)
    assert np.count_nonzero(back) == 13 * 31 * 40
    assert np.allclose(back[back > 0], volume.array[back > 0])


@pytest.mark.parametrize("spacing", [(3.0, 0.4, 0.4), (2.0, 0.6, 0.6), (4.0, 0.8, 0.8)])
def test_maps_go_back_to_their_place_on_other_grids(spacing):
    volume = coronal(spacing, (30, 160, 320))
    crop = crop_eye(volume, both(), "left", "along-nerve")
    point = crop.positions_lps[5, 15, 15]
    bump = np.exp(-(((crop.positions_lps - point) / [2.0, 4.0, 2.0]) ** 2).sum(axis=-1))
    back = to_native(bump, crop, volume)
    centre = np.average(
        volume.position_lps(np.argwhere(back > 0.05)), axis=0, weights=back[back > 0.05].astype(float)
    )
    assert np.linalg.norm(centre - point) < 0.5
    assert 0.6 < back.max() <= 1.0


def test_outline_is_the_edge_of_what_the_network_sees_in_every_slice():
    volume = coronal()
    edge = outline(crop_eye(volume, both(), "right"), volume)
    slices, rows, columns = SEEN
    assert edge.sum() == slices * (2 * columns + 2 * (rows - 2))
    assert np.flatnonzero(edge.any(axis=(1, 2))).tolist() == list(range(4, 14)), (
        "the junction's slice is the sixth"
    )
    assert not edge[6, 62, 64]


def test_what_lies_beyond_the_series_is_the_mean_of_the_rest():
    volume = coronal(shape=(11, 120, 240))
    crop = crop_eye(volume, both(), "right")
    assert np.allclose(crop.values[9:], crop.values[:7].mean(), rtol=1e-3)
    assert np.array_equal(crop.values[0], volume.array[4, 47:78, 49:89])


def test_what_belongs_to_the_other_half_is_not_seen():
    near = (-4.0, 0.0, -1.0)
    eyes = both(right=FoundEye(near, np.array([near])))
    crop = crop_eye(coronal(), eyes, "right")
    other = crop.positions_lps[..., 0] > 1.0
    assert other.any()
    assert np.ptp(crop.values[other]) == 0


def test_shifted_crops_come_from_one_with_a_margin():
    volume = coronal()
    near, wide = (
        values_at(
            volume, crop_grid(volume, JUNCTIONS["left"], course("left"), "left", "published", m).indices()
        )
        for m in (0, 1)
    )
    assert wide.shape == (13, 33, 42)
    assert np.array_equal(wide[:, 1:-1, 1:-1], near)


def test_normalised_has_mean_zero_and_deviation_one():
    values = normalised(crop_eye(coronal(), both(), "left").values)
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=1e-5)
    assert values.std() == pytest.approx(1, abs=1e-5)
    assert not normalised(np.full(SHAPE, 7, np.float32)).any()


def test_swapped_points_are_refused():
    swapped = both(left=both().right)
    with pytest.raises(PipelineError, match=r"left eye lies on the other side of the midline"):
        crop_eye(coronal(), swapped, "left")


def test_eye_that_is_not_there_and_point_outside_are_refused():
    with pytest.raises(PipelineError, match="no left eye"):
        crop_eye(coronal(), both(left=None), "left")
    far = FoundEye((-28.0, 200.0, 0.0), course("right"))
    with pytest.raises(PipelineError, match="right eye lies outside of the series"):
        crop_eye(coronal(), both(right=far), "right")
