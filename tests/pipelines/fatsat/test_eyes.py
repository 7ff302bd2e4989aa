"""Where the eyes, the junctions and the nerves are found, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.fatsat.anatomy import as_other_eye, head_frame
from pipelines.fatsat.eyes import SIDES, Eyes, find_eyes
from pipelines.fatsat.globes import Globe, find_globes, fine
from pipelines.fatsat.nerve import Nerve, follow
from pipelines.fatsat.sides import ALONE_MIN, PAIR_MIN
from pipelines.phantoms.orbits import TEST_HEADS, LabelHeads, OrbitPhantom, OrbitScan, geometric_orbits
from pipelines.types import Laterality, Point, Volume
from tests.kept import kept

pytestmark = pytest.mark.slow

SMALL = OrbitScan(spacing_mm=(3.0, 0.8, 0.8), shape_kji=(20, 160, 210))


def distance_mm(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    return float(np.linalg.norm(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)))


def slices(volume: Volume, chosen: slice) -> Volume:
    """Keep some slices of a series."""
    affine = volume.affine.copy()
    affine[:3, 3] = volume.position_lps((chosen.indices(len(volume.array))[0], 0, 0))
    return Volume(volume.array[chosen], affine, volume.attributes)


def slice_of(volume: Volume, point: Point) -> int:
    """Return the slice nearest to a point."""
    index = np.linalg.solve(volume.affine[:3, :3], np.asarray(point) - volume.affine[:3, 3])
    return round(float(index[2]))


def positions(volume: Volume, k: int) -> npt.NDArray[np.float64]:
    """Return where the pixels of a slice lie, shape (j, i, 3), mm, LPS."""
    j, i = np.indices(volume.array.shape[1:])
    return np.asarray(volume.position_lps(np.stack([np.full_like(j, k), j, i], axis=-1)))


@pytest.fixture(scope="module")
def phantom() -> OrbitPhantom:
    return kept(geometric_orbits, 20, lesions=(), scan=SMALL)


@pytest.fixture(scope="module")
def found() -> Eyes:
    return kept(eyes_of_phantom, 20)


def eyes_of_phantom(seed: int) -> Eyes:
    return find_eyes(kept(geometric_orbits, seed, lesions=(), scan=SMALL).volume)


@pytest.fixture(scope="module")
def one_eyed() -> OrbitPhantom:
    return kept(geometric_orbits, 5, lesions=(), scan=SMALL, missing=("left",))


def assert_true(eyes: Eyes, phantom: OrbitPhantom) -> None:
    for truth in phantom.eyes:
        eye = eyes.of(truth.side)
        assert eye is not None, eyes.missing
        assert distance_mm(eye.centre_lps, truth.centre_lps) < 1.5
        assert abs(eye.radius_mm - truth.radius_mm) < 1.0
        assert distance_mm(eye.junction_lps, truth.junction_lps) < 4.0


def test_finds_both_eyes(phantom: OrbitPhantom, found: Eyes) -> None:
    assert_true(found, phantom)
    assert [eye.side for eye in found] == ["right", "left"]
    assert {eye.source for eye in found} == {"automatic"}
    assert not found.missing and not found.warnings
    assert 0.0 < found.score == min(eye.score for eye in found) <= 1.0


def test_midpoint_lies_between_the_globes(phantom: OrbitPhantom, found: Eyes) -> None:
    middle = np.mean([truth.centre_lps for truth in phantom.eyes], axis=0)
    assert distance_mm(found.midpoint_lps, middle) < 1.0


@pytest.mark.parametrize("side", SIDES)
def test_course_follows_the_nerve_from_the_junction(
    phantom: OrbitPhantom, found: Eyes, side: Laterality
) -> None:
    eye, truth = found.of(side), phantom.eye(side)
    assert eye is not None and truth is not None
    assert distance_mm(eye.course_lps[0], eye.junction_lps) < 1e-6
    steps = np.linalg.norm(np.diff(eye.course_lps, axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.5, atol=0.05)
    assert len(eye.course_lps) > 30
    behind = eye.course_lps[6:30]
    away = np.linalg.norm(behind[:, None] - truth.course_lps[None], axis=2).min(axis=1)
    assert np.median(away) < 1.0
    assert away.max() < 2.0


@pytest.mark.parametrize(
    "scan",
    [
        replace(SMALL, order="posterior-first", tilt_deg=(18.0, 0.0)),
        replace(SMALL, spacing_mm=(4.0, 0.6, 0.6), shape_kji=(15, 200, 270), tilt_deg=(-12.0, 8.0)),
        OrbitScan(spacing_mm=(2.0, 0.8, 0.8), shape_kji=(30, 120, 200), tilt_deg=(-25.0, 0.0), scanner="B"),
        OrbitScan(),
    ],
    ids=["posterior-first", "thick", "tilted-thin-cropped", "published"],
)
def test_finds_eyes_in_any_near_coronal_series(scan: OrbitScan) -> None:
    phantom = geometric_orbits(21, lesions=(), scan=scan)
    assert_true(find_eyes(phantom.volume), phantom)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_array_order_does_not_change_sides(phantom: OrbitPhantom, found: Eyes, axis: int) -> None:
    volume = phantom.volume
    affine = volume.affine.copy()
    column = 2 - axis
    affine[:3, 3] += affine[:3, column] * (volume.array.shape[axis] - 1)
    affine[:3, column] *= -1.0
    eyes = find_eyes(Volume(np.flip(volume.array, axis), affine, volume.attributes))
    for side in SIDES:
        eye, before = eyes.of(side), found.of(side)
        assert eye is not None and before is not None
        assert distance_mm(eye.junction_lps, before.junction_lps) < 0.5


def test_mirrored_head_swaps_sides(phantom: OrbitPhantom, found: Eyes) -> None:
    volume = phantom.volume
    affine = np.diag([-1.0, 1.0, 1.0, 1.0]) @ volume.affine
    eyes = find_eyes(Volume(volume.array, affine, volume.attributes))
    left, right = eyes.left, found.right
    assert left is not None and right is not None
    assert distance_mm(np.array(left.junction_lps) * [-1.0, 1.0, 1.0], right.junction_lps) < 0.5


def test_one_eye_missing_leaves_the_other(one_eyed: OrbitPhantom) -> None:
    eyes = find_eyes(one_eyed.volume)
    assert_true(eyes, one_eyed)
    assert eyes.left is None
    assert eyes.missing == {"left": "no globe found on the left"}
    assert eyes.right is not None
    half_mm = eyes.midpoint_lps[0] - eyes.right.centre_lps[0]
    assert 24.0 < half_mm < 40.0
    (warning,) = eyes.warnings
    assert "midline is estimated" in warning


def test_points_override_what_is_found(phantom: OrbitPhantom, found: Eyes) -> None:
    assert found.left is not None
    x, y, z = found.left.junction_lps
    eyes = find_eyes(phantom.volume, {"left": (x + 2.0, y + 1.0, z - 2.0)})
    assert eyes.left is not None and eyes.right is not None
    assert eyes.left.source == "manual" and eyes.right.source == "automatic"
    assert eyes.left.junction_lps == (x + 2.0, y + 1.0, z - 2.0)
    assert distance_mm(eyes.left.course_lps[0], eyes.left.junction_lps) < 0.1
    truth = phantom.eye("left")
    assert truth is not None
    away = np.linalg.norm(eyes.left.course_lps[20:30, None] - truth.course_lps[None], axis=2).min(axis=1)
    assert away.max() < 2.0


def test_point_brings_back_an_eye_without_globe(one_eyed: OrbitPhantom) -> None:
    truth = one_eyed.eye("right")
    assert truth is not None
    x, y, z = truth.junction_lps
    point = (x + 50.0, y, z)
    eyes = find_eyes(one_eyed.volume, {"left": point})
    assert eyes.left is not None and eyes.left.source == "manual"
    assert eyes.left.junction_lps == point
    assert eyes.right is not None and eyes.right.source == "automatic"
    assert not eyes.missing
    assert "no globe found in front of the point given for the left eye" in eyes.warnings


def test_points_alone_are_enough_without_any_globe(phantom: OrbitPhantom) -> None:
    dark = Volume(phantom.volume.array.max() - phantom.volume.array, phantom.volume.affine)
    points = {truth.side: truth.junction_lps for truth in phantom.eyes}
    eyes = find_eyes(dark, points)
    assert [eye.source for eye in eyes] == ["manual", "manual"]
    for truth in phantom.eyes:
        eye = eyes.of(truth.side)
        assert eye is not None and eye.junction_lps == truth.junction_lps
        assert len(eye.course_lps) >= 1
    middle = np.mean([truth.centre_lps for truth in phantom.eyes], axis=0)
    assert abs(eyes.midpoint_lps[0] - middle[0]) < 3.0


def test_swapped_points_are_refused(phantom: OrbitPhantom) -> None:
    right, left = (truth.junction_lps for truth in phantom.eyes)
    both = find_eyes(phantom.volume, {"right": left, "left": right})
    one = find_eyes(phantom.volume, {"right": left})
    assert list(both) == [] and list(one) == []
    assert "does not lie to the left" in both.missing["left"]
    assert one.missing["right"] == "the point given for the right eye lies on the other side of the midline"


def test_point_outside_the_series_is_refused(phantom: OrbitPhantom) -> None:
    eyes = find_eyes(phantom.volume, {"left": (300.0, 0.0, 0.0)})
    assert eyes.left is None and eyes.right is not None
    assert eyes.missing["left"] == "the point given for the left eye lies outside of the series"


def test_series_that_ends_at_the_globes_is_refused(phantom: OrbitPhantom) -> None:
    last = max(slice_of(phantom.volume, truth.junction_lps) for truth in phantom.eyes) + 2
    eyes = find_eyes(slices(phantom.volume, slice(0, last)))
    assert list(eyes) == []
    assert all("mm behind the" in reason for reason in eyes.missing.values()), eyes.missing


def test_series_behind_the_globes_is_refused(phantom: OrbitPhantom) -> None:
    first = min(slice_of(phantom.volume, truth.junction_lps) for truth in phantom.eyes)
    eyes = find_eyes(slices(phantom.volume, slice(first, None)))
    assert eyes.missing == {side: f"no globe found on the {side}" for side in SIDES}


def test_dark_vitreous_is_refused(phantom: OrbitPhantom) -> None:
    dark = phantom.volume.array.max() - phantom.volume.array
    eyes = find_eyes(Volume(dark, phantom.volume.affine))
    assert eyes.missing == {side: f"no globe found on the {side}" for side in SIDES}


def painted_over(phantom: OrbitPhantom) -> Volume:
    """Return the series with noise in place of all that lies behind the left globe."""
    volume, truth = phantom.volume, phantom.eye("left")
    assert truth is not None
    array = volume.array.copy()
    k = np.arange(slice_of(volume, truth.junction_lps) - 1, len(array))
    index = np.linalg.inv(volume.affine) @ np.append(truth.centre_lps, 1.0)
    row, column, wide = round(float(index[1])), round(float(index[0])), 50
    behind = array[k[3] :, row - wide : row + wide, column - wide : column + wide]
    level = float(np.percentile(behind, 40))
    noise = np.random.default_rng(0).normal(level, 0.1 * level, behind.shape)
    array[k[3] :, row - wide : row + wide, column - wide : column + wide] = noise
    return Volume(array, volume.affine)


def test_painted_over_nerve_is_refused(phantom: OrbitPhantom) -> None:
    eyes = find_eyes(painted_over(phantom))
    assert eyes.left is None and eyes.right is not None
    assert eyes.missing["left"] == "the nerve behind the left globe cannot be followed"


@pytest.mark.parametrize(
    ("score", "length_mm", "up_mm", "is_taken"),
    [(0.2, 20.0, 0.0, True), (0.16, 20.0, 0.0, False), (0.2, 5.0, 0.0, False), (0.2, 20.0, 4.0, False)],
)
def test_faint_nerve_is_taken_where_it_runs_as_that_of_the_other_eye(
    monkeypatch: pytest.MonkeyPatch, score: float, length_mm: float, up_mm: float, is_taken: bool
) -> None:
    phantom = kept(geometric_orbits, 21, lesions=(), scan=SMALL)  # its nerves mirror each other well
    followed, truth = kept(eyes_of_phantom, 21).left, phantom.eye("left")
    assert followed is not None and truth is not None

    def faint_on_the_left(
        volume: Volume, globe: Globe, medial: npt.NDArray[np.float64], *rest: object, **anatomy: object
    ) -> Nerve:
        if medial[0] > 0.0 or anatomy:
            return follow(volume, globe, medial, *rest, **anatomy)  # type: ignore[arg-type]
        return Nerve(followed.course_lps + np.array([0.0, 0.0, up_mm]), score, length_mm, 40.0)

    monkeypatch.setattr("pipelines.fatsat.eyes.follow", faint_on_the_left)
    eyes = find_eyes(painted_over(phantom))
    assert (eyes.left is not None) is is_taken
    if eyes.left is not None:
        assert distance_mm(eyes.left.junction_lps, truth.junction_lps) < 2.0
        assert eyes.left.score == pytest.approx(score)
        assert any("left globe is faint" in warning for warning in eyes.warnings)


def test_a_nerve_is_compared_with_the_mirror_image_of_the_other_one() -> None:
    frame = head_frame()
    depth = np.arange(8.0, 30.0, 0.5)[:, None]
    right = np.array([-31.0, 0.0, 0.0]) + depth * (frame.back + 0.5 * frame.left)
    left = np.array([31.0, 0.0, 0.0]) + depth * (frame.back - 0.5 * frame.left)
    centre = np.array([31.0, 0.0, 0.0])
    expected = as_other_eye(right, np.array([-31.0, 0.0, 0.0]), frame.left, frame)
    assert expected.apart_sd(left, centre, -frame.left, frame) == pytest.approx(0.0, abs=1e-6)
    at_10_mm = left[depth[:, 0] <= 11.0] + expected.sd_mm[1] * frame.up
    assert expected.apart_sd(at_10_mm, centre, -frame.left, frame) == pytest.approx(1.0)
    assert expected.apart_sd(left[:2], centre, -frame.left, frame) == np.inf


def test_nerve_that_bright_fat_hides_in_front_is_found_by_the_other_eye(phantom: OrbitPhantom) -> None:
    volume, truth = phantom.volume, phantom.eye("left")
    assert truth is not None
    array = volume.array.copy()
    front, rng = slice_of(volume, truth.junction_lps), np.random.default_rng(0)
    j, i = np.indices(array.shape[1:])
    for k in range(front, front + 5):
        at = np.append(truth.course_lps[6 * (k - front)], 1.0)
        row, column = np.linalg.inv(volume.affine)[[1, 0]] @ at
        away = np.linalg.norm(positions(volume, k) - np.asarray(truth.centre_lps), axis=-1)
        fat = (np.hypot(j - row, i - column) < 12) & (away > truth.radius_mm)
        level = 1.6 * float(array[k][fat].mean())
        array[k][fat] = rng.normal(level, 0.1 * level, int(fat.sum()))
    eyes = find_eyes(Volume(array, volume.affine))
    assert eyes.left is not None and eyes.right is not None, eyes.missing
    assert distance_mm(eyes.left.junction_lps, truth.junction_lps) < 4.0
    assert any("left globe is faint" in warning for warning in eyes.warnings)


def test_dark_cavity_with_a_bright_lining_is_no_globe() -> None:
    affine = SMALL.grid(np.zeros(3)).affine
    k, j, i = np.indices((20, 160, 210))
    away = np.sqrt((3.0 * (k - 10)) ** 2 + (0.8 * (j - 80)) ** 2 + (0.8 * (i - 100)) ** 2)
    array = np.random.default_rng(4).normal(100.0, 10.0, away.shape).astype(np.float32)
    array[(away > 10.5) & (away < 13.0)] += 500.0
    array[away <= 10.5] = 15.0
    globes = find_globes(fine(Volume(array, affine)))
    assert max((globe.score for globe in globes), default=0.0) < PAIR_MIN
    array[away < 11.5] = 600.0
    array[away >= 11.5] = 100.0
    (globe, *_) = find_globes(fine(Volume(array, affine)))
    assert globe.score > ALONE_MIN
    assert abs(globe.radius_mm - 11.5) < 0.7


def test_axial_slices_are_refused(phantom: OrbitPhantom) -> None:
    upright = np.eye(4)
    upright[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    eyes = find_eyes(Volume(phantom.volume.array, upright @ phantom.volume.affine))
    assert list(eyes) == []
    assert "not coronal" in eyes.missing["left"]


@pytest.mark.parametrize("kind", ["blank", "noise", "ball", "nothing finite", "one slice"])
def test_odd_volumes_have_no_eyes(kind: str) -> None:
    affine = SMALL.grid(np.zeros(3)).affine
    shape = (1 if kind == "one slice" else 20, 160, 210)
    array = np.zeros(shape, dtype=np.float32)
    if kind in ("noise", "ball", "one slice"):
        array += np.abs(np.random.default_rng(2).normal(size=shape)).astype(np.float32)
    if kind == "ball":
        k, j, i = np.indices(shape)
        array[(k * 3.0 - 30) ** 2 + (0.8 * (j - 80)) ** 2 + (0.8 * (i - 60)) ** 2 < 45.0**2] += 20.0
    if kind == "nothing finite":
        array[:] = np.nan
    eyes = find_eyes(Volume(array, affine))
    assert list(eyes) == []
    assert eyes.score == 0.0
    assert set(eyes.missing) == {"left", "right"} and all(eyes.missing.values())


def test_finds_eyes_of_real_shapes(shared_data: Path) -> None:
    heads = LabelHeads(shared_data / "head_labels", TEST_HEADS[:1])
    phantom = heads.draw(np.random.default_rng(1), lesions=(), scan=replace(SMALL, scanner="B"))
    assert_true(find_eyes(phantom.volume), phantom)
