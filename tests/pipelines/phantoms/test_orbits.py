"""Orbital phantoms keep the anatomical and the signal figures, and their truth is where their pixels show it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.routing.match import decide
from dicom_node.routing.rules import built_in_rules
from dicom_node.series.headers import read_header
from dicom_node.series.writer import write_series
from pipelines.errors import DataSetError
from pipelines.phantoms.orbit_anatomy import swung
from pipelines.phantoms.orbit_geometry import geometric_head
from pipelines.phantoms.orbits import (
    TEST_HEADS,
    TRAINING_HEADS,
    EyeTruth,
    LabelHeads,
    OrbitPhantom,
    OrbitScan,
    draw_scan,
    geometric_orbits,
)
from pipelines.types import Laterality, Volume
from tests.kept import kept

pytestmark = pytest.mark.slow

SEED = 11
"""Of a phantom whose left eye keeps still: no ghosts."""
SMALL = OrbitScan(shape_kji=(20, 100, 190))
SIDES: tuple[Laterality, ...] = ("right", "left")


def test_swung_nerve_leaves_its_globe_where_it_did_and_runs_elsewhere() -> None:
    eye = geometric_head(np.random.default_rng(3)).eyes[0]
    slopes = []
    for seed in range(40):
        course = swung(eye, 2.5, np.random.default_rng(seed)).course
        assert np.allclose(course[0], eye.course[0])
        assert np.allclose(np.linalg.norm(np.diff(course, axis=0), axis=1), 0.5, atol=0.02)
        apart = np.linalg.norm(course[:90] - eye.course[:90], axis=1)
        assert apart.max() < 15.0
        slopes.append((course[40] - course[0])[0] / 20.0)
    assert 0.05 < np.std(slopes) < 0.2, "as a nerve that runs some degrees otherwise"


@pytest.fixture(scope="module")
def phantom() -> OrbitPhantom:
    """Lesion in the left nerve alone, twice as bright."""
    return kept(geometric_orbits, SEED, lesions=("left",), scan=SMALL, contrast=2.0)


@pytest.fixture(scope="module")
def several() -> list[OrbitPhantom]:
    return [kept(geometric_orbits, seed, scan=SMALL) for seed in range(20, 25)]


def eye_of(phantom: OrbitPhantom, side: Laterality) -> EyeTruth:
    eye = phantom.eye(side)
    assert eye is not None
    return eye


def positions(phantom: OrbitPhantom, mask: np.ndarray) -> np.ndarray:
    return phantom.volume.position_lps(np.argwhere(mask))


def along_course(eye: EyeTruth, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where along the course each point lies, and how far from it, mm."""
    apart = np.linalg.norm(points[:, None, :] - eye.course_lps[None], axis=2)
    return 0.5 * apart.argmin(axis=1), apart.min(axis=1)


def vitreous(phantom: OrbitPhantom, eye: EyeTruth) -> np.ndarray:
    """The pixels of a globe's back half, away from lens and wall."""
    volume = phantom.volume
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume.array.shape), indexing="ij"), axis=-1)
    away = volume.position_lps(grid) - np.array(eye.centre_lps)
    chosen = (np.linalg.norm(away, axis=-1) < eye.radius_mm - 3.5) & (away[..., 1] > -1.0)
    return np.asarray(volume.array[chosen])


def test_same_seed_gives_the_same_phantom_and_another_seed_another(phantom: OrbitPhantom) -> None:
    again = geometric_orbits(SEED, lesions=("left",), scan=SMALL, contrast=2.0)
    np.testing.assert_array_equal(again.volume.array, phantom.volume.array)
    np.testing.assert_array_equal(again.eyes[0].course_lps, phantom.eyes[0].course_lps)
    other = geometric_orbits(7, lesions=("left",), scan=SMALL, contrast=2.0)
    assert not np.array_equal(other.volume.array, phantom.volume.array)


def test_left_is_the_patients_left_and_the_nerve_leaves_behind_and_medially(
    several: list[OrbitPhantom],
) -> None:
    for one in several:
        right, left = eye_of(one, "right"), eye_of(one, "left")
        assert [eye.side for eye in one.eyes] == ["right", "left"]
        middle = (right.centre_lps[0] + left.centre_lps[0]) / 2
        for eye, sign in ((right, -1.0), (left, 1.0)):
            assert sign * (eye.centre_lps[0] - middle) > 25.0
            medial = -sign * (eye.junction_lps[0] - eye.centre_lps[0])
            behind = eye.junction_lps[1] - eye.centre_lps[1]
            assert 2.0 < medial < 6.5
            assert 8.0 < behind < 12.5
            assert sign * (positions(one, eye.nerve)[:, 0] - middle).min() > 0.0


def test_globes_and_nerves_keep_the_anatomical_figures(several: list[OrbitPhantom]) -> None:
    radii = [eye.radius_mm for one in several for eye in one.eyes]
    assert 11.0 < np.mean(radii) < 12.0
    assert 9.6 < min(radii) <= max(radii) < 13.4
    angles = []
    for one in several:
        apart = np.linalg.norm(np.subtract(one.eyes[0].centre_lps, one.eyes[1].centre_lps))
        assert 55.5 < apart < 69.5
        for eye in one.eyes:
            step = eye.course_lps[48] - eye.course_lps[0]
            angles.append(np.degrees(np.arctan2(abs(step[0]), step[1])))
            np.testing.assert_allclose(
                np.linalg.norm(np.diff(eye.course_lps, axis=0), axis=1), 0.5, atol=0.02
            )
            wall = np.linalg.norm(np.subtract(eye.junction_lps, eye.centre_lps))
            assert wall == pytest.approx(eye.radius_mm, abs=0.02)
    assert np.mean(angles) == pytest.approx(27.0, abs=4.0)


def test_nerve_is_as_thick_as_in_the_figures_and_grows_thinner(several: list[OrbitPhantom]) -> None:
    front: list[float] = []
    back: list[float] = []
    for one in several:
        for eye in one.eyes:
            if eye.lesion.any():
                continue
            for lists, (start, stop) in ((front, (3.0, 9.0)), (back, (21.0, 27.0))):
                at, _ = along_course(eye, positions(one, eye.nerve))
                volume = np.count_nonzero((at >= start) & (at < stop)) * one.volume.voxel_volume_mm3
                lists.append(2.0 * np.sqrt(volume / (stop - start) / np.pi) / eye.state.size)
    assert np.mean(front) == pytest.approx(3.1, abs=0.25)
    assert np.mean(back) == pytest.approx(2.65, abs=0.25)


def test_globe_is_bright_where_its_truth_says(several: list[OrbitPhantom]) -> None:
    for one in several:
        bright = [float(np.median(vitreous(one, eye))) for eye in one.eyes]
        whole = float(np.median(one.volume.array))
        assert min(bright) > 2.5 * whole
        for eye, value in zip(one.eyes, bright, strict=True):
            near = np.linalg.norm(
                one.volume.position_lps(np.argwhere(one.volume.array > 0.6 * value)) - eye.centre_lps, axis=1
            )
            found = np.count_nonzero(near < eye.radius_mm + 2.0) * one.volume.voxel_volume_mm3
            assert 0.6 < np.cbrt(found * 0.75 / np.pi) / eye.radius_mm < 1.05


def test_nerve_fat_and_vitreous_keep_their_ratios(several: list[OrbitPhantom]) -> None:
    nerves, fats = [], []
    for one in several:
        k, j, i = (np.arange(n) for n in one.volume.array.shape)
        grid = one.volume.position_lps(np.stack(np.meshgrid(k, j, i, indexing="ij"), axis=-1))
        for eye in one.eyes:
            level = np.median(vitreous(one, eye))
            healthy = eye.nerve & ~eye.lesion
            at, apart = along_course(eye, positions(one, healthy))
            core = (apart < 0.9) & (at > 14.0) & (at < 26.0)
            if np.count_nonzero(core) > 20:
                nerves.append(np.median(one.volume.array[healthy][core]) / level)
            place = eye.course_lps[20]
            off = np.linalg.norm(grid - place, axis=-1)
            fats.append(np.median(one.volume.array[(off > 4.5) & (off < 7.0)]) / level)
    # shading and the sheath's light, which a pixel of half a millimetre takes in, widen the ranges
    assert len(nerves) > 4
    assert 0.28 < np.median(nerves) < 0.50
    assert min(nerves) > 0.22
    assert max(nerves) < 0.75
    assert 0.06 < np.median(fats) < 0.35


def test_lesion_lies_in_its_nerve_alone_and_nowhere_else_changes(phantom: OrbitPhantom) -> None:
    left, right = eye_of(phantom, "left"), eye_of(phantom, "right")
    assert left.lesion.any()
    assert not (left.lesion & ~left.nerve).any()
    assert not right.lesion.any()
    assert (left.lesion_contrast, right.lesion_contrast) == (2.0, 1.0)
    assert left.state.motion_mm == 0.0
    plain = geometric_orbits(SEED, lesions=("left",), scan=SMALL, contrast=1.0)
    changed = positions(phantom, phantom.volume.array != plain.volume.array)
    _, apart = along_course(left, changed)
    assert apart.max() < 7.0
    ratio = phantom.volume.array[left.lesion] / plain.volume.array[left.lesion]
    assert 1.5 < np.median(ratio) < 2.05


def test_lesion_is_as_long_as_drawn(several: list[OrbitPhantom]) -> None:
    seen = 0
    for one in [*several, *(geometric_orbits(seed, lesions=SIDES, scan=SMALL) for seed in (8, 9))]:
        for eye in one.eyes:
            lesion = eye.state.lesion
            if lesion is None:
                continue
            seen += 1
            at, apart = along_course(eye, positions(one, eye.lesion))
            assert apart.max() < 3.0
            length = np.count_nonzero(eye.lesion) / np.count_nonzero(eye.nerve)
            assert at.mean() == pytest.approx(lesion.middle_mm, abs=1.7)
            assert length == pytest.approx(lesion.length_mm / eye.course_lps.shape[0] / 0.5, abs=0.2)
    assert seen >= 4


@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0), (24.0, 10.0)])
def test_order_and_tilt_do_not_change_the_truth(phantom: OrbitPhantom, tilt_deg: tuple[float, float]) -> None:
    scan = replace(SMALL, order="posterior-first", tilt_deg=tilt_deg, shape_kji=(26, 140, 190))
    other = geometric_orbits(SEED, lesions=("left",), scan=scan, contrast=2.0)
    for side in SIDES:
        one, two = eye_of(phantom, side), eye_of(other, side)
        assert one.centre_lps == two.centre_lps
        assert one.junction_lps == two.junction_lps
        shared = min(len(one.course_lps), len(two.course_lps))
        assert shared > 40
        np.testing.assert_array_equal(one.course_lps[:shared], two.course_lps[:shared])
        _, apart = along_course(two, positions(other, two.nerve))
        assert np.percentile(apart, 95) < 2.8
    normal = other.volume.affine[:3, 2]
    assert normal[1] < 0.0
    assert phantom.volume.affine[1, 2] > 0.0
    cosine = abs(normal[1]) / np.linalg.norm(normal)
    assert cosine == pytest.approx(np.prod(np.cos(np.deg2rad(tilt_deg))))
    lesion = positions(phantom, eye_of(phantom, "left").lesion).mean(axis=0)
    again = positions(other, eye_of(other, "left").lesion).mean(axis=0)
    np.testing.assert_allclose(again, lesion, atol=1.5)


def test_missing_eye_is_no_part_of_the_truth_and_an_operated_one_is_dark() -> None:
    one = geometric_orbits(9, lesions=SIDES, scan=SMALL, missing=("right",), operated=("left",))
    assert one.eye("right") is None
    left = eye_of(one, "left")
    assert left.state.globe == "silicone oil"
    assert left.lesion.any()
    usual = geometric_orbits(9, lesions=SIDES, scan=SMALL)
    assert np.median(vitreous(one, left)) < 0.65 * np.median(vitreous(usual, eye_of(usual, "left")))
    right = eye_of(usual, "right")
    assert np.median(vitreous(one, right)) < 0.5 * np.median(vitreous(usual, right))


def test_scanners_differ_in_contrast_sharpness_noise_and_grid() -> None:
    # the first slices lie in the air before the face
    scan = OrbitScan((3.0, 0.6, 0.6), (22, 100, 170), front_mm=42.0)
    a = geometric_orbits(5, lesions=(), scan=scan)
    b = geometric_orbits(5, lesions=(), scan=replace(scan, scanner="B"))
    assert (a.scanner, b.scanner) == ("A", "B")
    assert a.eyes[0].centre_lps == b.eyes[0].centre_lps

    def neighbours(one: OrbitPhantom) -> float:
        air = one.volume.array[0]
        return float(np.corrcoef(air[:, 1:].ravel(), air[:, :-1].ravel())[0, 1])

    # of the magnitude: about the square of the noise's own correlation
    assert abs(neighbours(a)) < 0.06
    assert neighbours(b) > 0.08
    for one, (lowest, highest) in ((a, (14.0, 25.0)), (b, (10.0, 18.0))):
        # Rayleigh noise: its mean is 1.2533 times its SD; shading is not in it, and B's is weaker at the border
        middle = one.volume.array[0, 30:70, 60:110].mean()
        level = np.mean([np.median(vitreous(one, eye)) for eye in one.eyes])
        assert 0.75 * lowest < 1.2533 * level / middle < 1.3 * highest
    assert np.median(vitreous(b, b.eyes[0])) > 1.2 * np.median(vitreous(a, a.eyes[0]))
    rng = np.random.default_rng(0)
    assert draw_scan(rng, "A").spacing_mm != draw_scan(rng, "B").spacing_mm
    assert a.volume.attributes["EchoTime"] != b.volume.attributes["EchoTime"]


def test_wide_scans_stay_within_what_the_pipeline_takes() -> None:
    rng = np.random.default_rng(1)
    scans = [draw_scan(rng, wide=True) for _ in range(200)]
    tilts = [np.degrees(np.arccos(scan.axes[1, 2])) for scan in scans]
    assert 20.0 < max(tilts) < 30.0
    assert {scan.order for scan in scans} == {"anterior-first", "posterior-first"}
    for scan in scans:
        assert 2.0 <= scan.spacing_mm[0] <= 4.0
        assert 0.4 <= scan.spacing_mm[1] <= 0.8
        assert np.linalg.det(scan.axes) == pytest.approx(1.0)


@pytest.mark.parametrize("scanner", ["A", "B"])
@pytest.mark.parametrize("tilt_deg", [(0.0, 0.0), (25.0, 12.0)])
def test_series_is_routed_as_an_orbital_one(
    tmp_path: Path, scanner: str, tilt_deg: tuple[float, float]
) -> None:
    scan = OrbitScan(shape_kji=(14, 8, 8), scanner="A" if scanner == "A" else "B", tilt_deg=tilt_deg)
    blank = Volume(
        np.zeros(scan.shape_kji, dtype=np.float32), scan.grid(np.zeros(3)).affine, scan.dicom_attributes()
    )
    decision = decide([read_header(path) for path in write_series(blank, tmp_path)], built_in_rules())
    assert decision.pipeline == "fatsat"


def test_pixels_are_whole_numbers_that_a_scanner_could_store(several: list[OrbitPhantom]) -> None:
    for one in several:
        array = one.volume.array
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.rint(array))
        assert array.min() >= 0.0
        assert array.max() < 8192.0


def test_training_and_test_heads_are_apart_and_a_missing_map_is_named(tmp_path: Path) -> None:
    assert set(TRAINING_HEADS) == set(range(1, 13))
    assert TEST_HEADS == (13, 14, 15)
    with pytest.raises(DataSetError, match=r"head_01\.nii\.gz"):
        LabelHeads(tmp_path, (1,))


def test_unreadable_map_is_named(tmp_path: Path) -> None:
    (tmp_path / "head_01.nii.gz").write_bytes(b"no image")
    heads = LabelHeads(tmp_path, (1,))
    with pytest.raises(DataSetError, match=r"head_01\.nii\.gz cannot be read"):
        heads.draw(np.random.default_rng(0), scan=SMALL)


def test_label_heads_give_many_anatomies_with_the_figures(shared_data: Path) -> None:
    heads = LabelHeads(shared_data / "head_labels", (13,))
    first, second = (heads.draw(np.random.default_rng(s), lesions=("left",), scan=SMALL) for s in (1, 2))
    again = heads.draw(np.random.default_rng(1), lesions=("left",), scan=SMALL)
    np.testing.assert_array_equal(first.volume.array, again.volume.array)
    assert first.head == "head_13"
    assert first.eyes[0].radius_mm != second.eyes[0].radius_mm
    for one in (first, second):
        right, left = eye_of(one, "right"), eye_of(one, "left")
        assert 52.0 < left.centre_lps[0] - right.centre_lps[0] < 70.0
        assert left.lesion.any()
        assert not right.lesion.any()
        for eye in (right, left):
            assert 10.0 < eye.radius_mm < 13.8
            assert eye.junction_lps[1] > eye.centre_lps[1] + 6.0
            level = np.median(vitreous(one, eye))
            assert level > 3.0 * np.median(one.volume.array)
            _, apart = along_course(eye, positions(one, eye.nerve))
            assert np.percentile(apart, 95) < 2.5
