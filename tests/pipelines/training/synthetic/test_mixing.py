from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from pipelines.flair.intensity import BACKGROUND, normalise
from pipelines.training.data_sets.cube import lps_affine
from pipelines.training.data_sets.sample import NO_CLASS, Sample, pack_sample
from pipelines.training.flair.case_pool import PackedSamples, ready
from pipelines.training.synthetic.mixing import (
    bend,
    brain_of,
    carve_mix,
    local_white,
    paint_lesions,
    real_cases,
    rescan,
    signal,
)

N = 48
GRID = np.stack(np.meshgrid(*[np.arange(N)] * 3, indexing="ij")).astype(float)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    return ((GRID - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) < radius**2


def flair(
    lesion: tuple[float, float, float],
    *,
    radius: float = 4,
    level: float = 1.4,
    target: int = 0,
    seed: int = 0,
) -> Sample:
    """A ball of white matter with a dark core of fluid and one lesion."""
    brain, spot = ball((23.5, 23.5, 23.5), 20), ball(lesion, radius)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(brain.shape)
    image = np.where(spot, level, np.where(ball((23.5, 23.5, 23.5), 4), 0.3, 1.0)) + noise
    return Sample(normalise((image * brain).astype(np.float32), brain), spot & brain, target)


def mask_in_mni(where: tuple[slice, slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """A mask on the grid of MNI152, (x, y, z) towards R, A, S, 1 mm."""
    mask = np.zeros((182, 218, 182), bool)
    mask[where] = True
    return mask, lps_affine(np.array([[1.0, 0, 0, -91], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]]))


BOX = (slice(110, 130), slice(100, 120), slice(98, 118))  # about (+29, -16, +36), RAS, mm


def test_signal_undoes_the_normalisation() -> None:
    values = signal(flair((30, 30, 30)))
    assert np.median(values[ball((23.5, 23.5, 23.5), 18)]) == pytest.approx(1, abs=0.02)
    assert values[0, 0, 0] == 0


@pytest.mark.parametrize("seed", range(8))
def test_carved_lesion_comes_with_its_truth_and_the_recipients_own_stays(seed: int) -> None:
    recipient, donor = flair((14, 23, 23)), flair((33, 23, 23), level=1.8)
    mixed = carve_mix(recipient, donor, np.random.default_rng(seed))
    assert mixed.lesions[recipient.lesions].all()
    pasted = mixed.lesions & ~recipient.lesions
    assert pasted[33, 23, 23]
    assert not (pasted & ~donor.lesions).any()
    assert signal(mixed)[pasted].mean() > 1.6
    changed = mixed.image != recipient.image
    assert changed.sum() < 0.1 * changed.size
    assert np.array_equal(brain_of(mixed), brain_of(recipient))


def test_level_of_the_cut_varies_within_and_around_the_lesion() -> None:
    recipient, donor = flair((14, 23, 23)), flair((33, 23, 23), level=1.8)
    size = donor.lesions.sum()
    cuts = [
        (carve_mix(recipient, donor, np.random.default_rng(n)).image != recipient.image).sum()
        for n in range(20)
    ]
    assert min(cuts) < size < max(cuts)
    assert max(cuts) < 12 * size  # twice the radius at most


def test_mixed_diseases_have_no_class() -> None:
    one, other = flair((14, 23, 23), target=0), flair((33, 23, 23), target=1)
    assert carve_mix(one, other, np.random.default_rng(0)).target == NO_CLASS
    assert carve_mix(one, one, np.random.default_rng(0)).target == 0


def test_donor_without_lesions_changes_nothing() -> None:
    recipient = flair((14, 23, 23))
    empty = Sample(recipient.image, np.zeros((N, N, N), bool), 0)
    assert carve_mix(recipient, empty, np.random.default_rng(0)) is recipient


def test_pasted_truth_is_known_where_the_donors_is() -> None:
    recipient = flair((14, 23, 23))
    recipient = Sample(recipient.image, recipient.lesions, 0, np.ones((N, N, N), bool))
    donor = flair((33, 23, 23), level=1.8)
    mixed = carve_mix(recipient, donor, np.random.default_rng(0))
    assert mixed.ignore is not None
    assert not mixed.ignore[33, 23, 23]
    assert mixed.ignore[14, 23, 23]


def test_painted_lesion_has_the_contrast_of_real_ones_and_spares_fluid_and_known_lesions() -> None:
    recipient, ratios = flair((14, 23, 23)), []
    for seed in range(10):
        painted = paint_lesions(recipient, *mask_in_mni(BOX), np.random.default_rng(seed))
        new = painted.lesions & ~recipient.lesions
        assert painted.lesions[recipient.lesions].all()
        assert 30 < new.sum() < 1500
        assert not new[ball((23.5, 23.5, 23.5), 3)].any()
        values = signal(painted)
        ratios.append(np.median(values[new]) / np.median(values[brain_of(painted) & ~painted.lesions]))
        assert painted.target == NO_CLASS
        kept = values[recipient.lesions].mean() / signal(recipient)[recipient.lesions].mean()
        assert kept == pytest.approx(1, abs=0.05)
    assert 1.33 < np.mean(ratios) < 1.45


def test_painting_makes_truth_known_where_it_paints() -> None:
    recipient = flair((14, 23, 23))
    recipient = Sample(recipient.image, recipient.lesions, 0, np.ones((N, N, N), bool))
    painted = paint_lesions(recipient, *mask_in_mni(BOX), np.random.default_rng(0))
    assert painted.ignore is not None
    assert not painted.ignore[painted.lesions].any()
    assert painted.ignore[~painted.lesions].all()


def test_local_white_follows_shading_and_leaves_out_fluid() -> None:
    shade = 1 + 0.15 * (GRID[0] - 23.5) / 23.5
    brain = ball((23.5, 23.5, 23.5), 20)
    image = np.where(ball((23.5, 23.5, 23.5), 4), 0.3, shade).astype(np.float32)
    white = local_white(image, brain)
    assert np.abs(white - shade)[ball((23.5, 23.5, 23.5), 10)].max() < 0.08


def test_bent_scan_takes_its_truth_along() -> None:
    for seed in range(5):
        bent = bend(flair((33, 28, 28), radius=5), np.random.default_rng(seed))
        values = signal(bent)
        assert values[bent.lesions].mean() > 1.3
        assert 0.6 < bent.lesions.sum() / ball((33, 28, 28), 5).sum() < 1.6


def test_rescanned_case_keeps_its_truth_within_its_mask() -> None:
    sample = flair((33, 28, 28), radius=5)
    changed = [rescan(sample, np.random.default_rng(n)) for n in range(8)]
    for one in changed:
        # on slices of up to 8.5 mm the truth is what was drawn on them
        assert not (one.lesions & ~ndimage.binary_dilation(sample.lesions, iterations=4)).any()
        assert 0.7 < one.lesions.sum() / sample.lesions.sum() < 1.6
        assert (one.image[~brain_of(one)] == BACKGROUND).all()
    spreads = [np.ptp(one.image[28:38, 28, 28]) for one in changed]
    assert max(spreads) > 1.2 * min(spreads)


def test_real_cases_are_the_same_for_the_same_seed_and_vary() -> None:
    cases = [flair((14, 23, 23)), flair((33, 23, 23), seed=1)]
    masks = {"someone": mask_in_mni(BOX)}
    one, other = (list(islice(real_cases(cases, masks, 5), 6)) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.image, b.image)
        assert np.array_equal(a.lesions, b.lesions)
    assert len({int(sample.lesions.sum()) for sample in one}) > 3
    assert any(sample.target == NO_CLASS for sample in one)


def test_no_real_cases_is_an_error() -> None:
    with pytest.raises(ValueError, match="no real cases"):
        next(real_cases([], {}, 0))


def test_packed_samples_are_read_when_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        pack_sample(flair((14 + number, 23, 23), target=number % 2), tmp_path / f"case{number}.npz")
    packed = PackedSamples(sorted(tmp_path.glob("*.npz")))
    assert len(packed) == 3
    assert packed[1].target == 1
    assert [sample.target for sample in packed[:2]] == [0, 1]
    assert ready(tmp_path) == []


@pytest.mark.slow
def test_lesions_of_one_patient_are_painted_into_another(shared_data: Path) -> None:
    from pipelines.training.data_sets.cases import Entry, load_case
    from pipelines.training.synthetic.lesion_masks import read_masks

    folder = shared_data / "open_ms" / "mni" / "patient07"
    entry = Entry("07", "07", folder / "flair.nii.gz", None, folder / "lesions.nii.gz", "MS")
    sample = load_case(entry).sample("MS")
    masks = read_masks(shared_data / "open_ms" / "lesions_mni", ("patient07",))
    painted = paint_lesions(sample, *masks["patient19"], np.random.default_rng(3))
    new = painted.lesions & ~sample.lesions
    real = (
        np.asarray(nib.load(next((shared_data / "open_ms" / "lesions_mni").glob("patient19*"))).dataobj) > 0
    )
    assert 0.5 < new.sum() * 1.2**3 / real.sum() < 1.4
    image = signal(painted)
    usable = brain_of(painted) & ~painted.lesions
    ratio = np.median(image[new] / local_white(image, usable)[new])
    assert 1.25 < ratio < 1.5
