import numpy as np
import pytest
from scipy import ndimage

from pipelines.training.synthetic.artefacts import (
    bent_coordinates,
    bias_field,
    draw_slices,
    drawn_on_slices,
    gamma,
    ghosting,
    jittered_mask,
    remaining_skull,
    rician,
    sample_at,
    scalp_plate,
    thick_slices,
)

N = 40
GRID = np.stack(np.meshgrid(*[np.arange(N)] * 3, indexing="ij")).astype(np.float32)
BALL = ((GRID - 19.5) ** 2).sum(0) < 13**2


def test_ghosts_stand_at_their_distance_along_their_axis() -> None:
    image = np.zeros((N, N, N), np.float32)
    image[20, 8, 20] = 1
    ghosts = ghosting(image, 1, 4, 0.5)
    line = ghosts[20, :, 20]
    # A quarter of the field apart, for every 4th line.
    assert sorted(np.argsort(line)[-4:]) == [8, 18, 28, 38]
    assert 0.02 < line[18] < 0.3
    assert np.delete(ghosts, 20, axis=0).max() < 1e-6


def test_ghosts_keep_the_contrast() -> None:
    image = BALL.astype(np.float32)
    assert ghosting(image, 2, 2, 0.5)[BALL].mean() == pytest.approx(1, abs=0.1)
    assert np.allclose(ghosting(image, 2, 3, 0.0), image, atol=1e-5)


def test_noise_lifts_the_background_as_that_of_a_magnitude_image_does() -> None:
    noisy = rician(BALL.astype(np.float32), 0.05, np.random.default_rng(0))
    assert noisy[~BALL].mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.05)
    assert noisy[BALL].std() == pytest.approx(0.05, rel=0.1)


def test_bias_has_its_strength_and_is_smooth() -> None:
    shaded = bias_field(np.ones((N, N, N), np.float32), 0.2, np.random.default_rng(1))
    assert 0.08 < np.log(shaded).std() < 0.4
    assert np.abs(np.diff(np.log(shaded), axis=0)).max() < 0.1


def test_gamma_keeps_white_matter() -> None:
    changed = gamma(np.array([0.0, 0.5, 1.0, 1.5], np.float32), np.random.default_rng(2))
    assert changed[0] == 0
    assert changed[2] == 1
    assert (np.diff(changed) > 0).all()


def test_thick_slices_keep_the_mean_and_blur_one_axis() -> None:
    rng = np.random.default_rng(0)
    image = np.ones((N, N, N), np.float32)
    image[:, :, 20] = 3
    thick = thick_slices(image, draw_slices(4.8, 2, rng), 0.0, rng)
    assert thick.mean() == pytest.approx(image.mean(), rel=0.15)
    assert np.ptp(thick[20, 20]) < 1.2
    assert np.ptp(thick[:, 20, 20]) < 1e-5


def test_remains_of_the_skull_lie_outside_the_brain_and_within_its_mask() -> None:
    image = BALL.astype(np.float32)
    added = 0
    for seed in range(6):
        changed, mask = remaining_skull(image, BALL, np.random.default_rng(seed))
        assert mask[BALL].all()
        left = mask & ~BALL
        added += int(left.sum())
        assert (((GRID - 19.5) ** 2).sum(0)[left] < 19**2).all()
        assert (changed[left] > 0).all()
        assert np.abs(changed - image)[((GRID - 19.5) ** 2).sum(0) < 10**2].max() < 0.02
    assert added > 100


def test_border_of_the_mask_is_jittered_by_little() -> None:
    jittered = jittered_mask(BALL, np.random.default_rng(3))
    assert (jittered != BALL).any()
    assert 2 * (jittered & BALL).sum() / (jittered.sum() + BALL.sum()) > 0.85


def test_plate_of_scalp_lies_beyond_a_dark_gap_and_within_the_mask() -> None:
    image = BALL.astype(np.float32)
    beside = ndimage.binary_dilation(BALL)
    for seed in range(6):
        changed, mask = scalp_plate(image, BALL, np.random.default_rng(seed))
        assert (changed[BALL] == 1).all()
        added = mask & ~BALL
        assert added.sum() > 50
        assert (changed[~mask] == image[~mask]).all()
        bright = added & (changed > 0.41)
        assert not (bright & beside).any()
        assert changed[bright].mean() > 2 * changed[added & ~bright].mean()


def test_slices_with_gaps_see_their_profile_alone() -> None:
    image = np.zeros((N, N, N), np.float32)
    image[::6] = 1  # a plane of 1.2 mm each 7.2 mm
    seen = [
        draw_slices(7.2, 0, np.random.default_rng(n), profile).take(image)
        for n in range(40)
        for profile in (2.4, None)
    ]
    # a profile of two planes holds one of them in one third of the cases; without gaps each slice sees it all
    assert [part[2, 0, 0] for part in seen[1::2]] == pytest.approx([1 / 6] * 40, abs=1e-5)
    assert 5 < sum(part[2, 0, 0] < 0.01 for part in seen[::2]) < 36
    assert max(part[2, 0, 0] for part in seen[::2]) == pytest.approx(0.5)


def test_expert_draws_on_a_slice_what_fills_half_of_it() -> None:
    share = np.zeros((N, N, N), np.float32)
    share[18:22, 10:14, 10:14] = 1
    share[20, 24:28, 24:28] = 1
    drawn = drawn_on_slices(share, draw_slices(4.8, 0, np.random.default_rng(3)), 0.45)
    assert drawn[:, 10:14, 10:14].any()
    assert drawn[:, 12, 12].sum() in {4, 5, 8}
    assert not drawn[:, 24:28, 24:28].any()
    assert not drawn[:, :8].any()


def test_sampling_at_its_own_places_changes_nothing() -> None:
    image = np.random.default_rng(0).random((8, 10, 12)).astype(np.float32)
    where = [c.astype(np.float32) for c in np.meshgrid(*[np.arange(n) for n in image.shape], indexing="ij")]
    assert np.allclose(sample_at(image, where), image, atol=1e-5)
    where[1] = where[1] + 1
    assert np.allclose(sample_at(image, where)[:, :-1], image[:, 1:], atol=1e-5)
    assert np.allclose(sample_at(image, where)[:, -1], 0, atol=1e-5)


def test_bend_stays_within_its_range() -> None:
    for seed in range(10):
        where = bent_coordinates(
            (N, N, N), np.random.default_rng(seed), angle_deg=10, scales=(0.94, 1.07), mirror=False
        )
        moved = np.stack(where) - GRID
        # 4 voxels of shift, 7 % of 20 and 10 degrees of 28 voxels, and some elastic SDs of 2.2
        assert np.abs(moved).max() < 4 + 2 + 12 + 12
        assert np.abs(moved[:, 20, 20, 20]).max() < 12
    mirrored = [bent_coordinates((N, N, N), np.random.default_rng(n))[2][20, 20] for n in range(20)]
    assert 3 < sum(line[-1] < line[0] for line in mirrored) < 17


@pytest.mark.parametrize("thickness_mm", [2.0, 3.0, 5.0])
def test_thick_slices_lie_where_the_truth_is(thickness_mm: float) -> None:
    k = np.arange(80, dtype=np.float32)
    shifts = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bump = np.exp(-((k - 30 - seed) ** 2) / 72)
        image = np.broadcast_to(bump[:, None, None], (80, 2, 2))
        thick = thick_slices(image, draw_slices(thickness_mm, 0, rng), 0.0, rng)[:, 0, 0]
        assert thick.sum() == pytest.approx(bump.sum(), rel=0.01)
        shifts.append(float((thick * k).sum() / thick.sum()) - 30 - seed)
    assert max(map(abs, shifts)) < 0.1
