from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from pipelines.flair.intensity import BACKGROUND
from pipelines.training.data_sets.cases import write_cube
from pipelines.training.data_sets.cube import CUBE, SPACING_MM
from pipelines.training.synthetic.anatomy import CAP_MM, Anatomy, Tissue, from_label_map, from_template
from pipelines.training.synthetic.artefacts import draw_slices, jittered_mask, smooth_field
from pipelines.training.synthetic.contrast import Acquisition, drawn, scan, tissue_means
from pipelines.training.synthetic.generator import Generator, deform
from pipelines.training.synthetic.lesion_masks import transplant
from pipelines.training.synthetic.lesions import draw_lesions, places
from pipelines.training.synthetic.priors import REGIONS
from tests.kept import kept

ML = SPACING_MM**3 / 1000


@lru_cache(maxsize=1)
def head() -> Anatomy:
    return kept(from_template)


def test_template_head_has_a_plausible_brain_on_the_cube() -> None:
    anatomy = head()
    assert anatomy.labels.shape == (CUBE,) * 3
    assert 1300 < anatomy.brain.sum() * ML < 2200
    assert 300 < (anatomy.labels == Tissue.WHITE).sum() * ML < 800
    assert 5 < (anatomy.labels == Tissue.VENTRICLE).sum() * ML < 80
    centre = np.argwhere(anatomy.brain).mean(0)
    assert np.abs(centre - (CUBE - 1) / 2).max() < 8


def test_template_is_where_mni152_has_it() -> None:
    anatomy = head()
    assert anatomy.mni_scale == pytest.approx([SPACING_MM] * 3, abs=0.01)
    middle = anatomy.mni_origin + anatomy.mni_scale * (CUBE - 1) / 2
    assert middle == pytest.approx([0, 17, 5], abs=1)


def test_axes_point_to_superior_and_posterior() -> None:
    anatomy = head()
    k, j, _ = np.argwhere(anatomy.labels == Tissue.CEREBELLAR_CORTEX).mean(0)
    assert k < 60
    assert j > 95


@pytest.mark.slow
def test_lesions_of_a_label_map_are_white_matter_but_for_caps_at_the_ventricles(tmp_path: Path) -> None:
    numbers = np.zeros(len(Tissue), np.uint8)
    for tissue, number in (("FLUID", 24), ("VENTRICLE", 4), ("CORTEX", 3), ("WHITE", 2), ("DEEP_GREY", 10)):
        numbers[Tissue[tissue]] = number
    numbers[Tissue.BRIGHT_CORTEX], numbers[Tissue.BRIGHT_TRACT] = 3, 2
    raw = numbers[head().labels]
    upper = (slice(90, 110), slice(None), slice(None))
    raw[upper][raw[upper] == 2] = 25
    write_cube(raw, tmp_path / "head.nii.gz")
    anatomy = from_label_map(tmp_path / "head.nii.gz")
    caps = anatomy.labels == Tissue.CAP
    assert 1 < caps.sum() * ML < 12
    assert anatomy.ventricle_mm[caps].max() <= CAP_MM
    assert (anatomy.labels == Tissue.WHITE).sum() > 0.9 * (head().labels == Tissue.WHITE).sum()


def test_regions_are_where_their_names_say() -> None:
    anatomy = head()
    regions = places(anatomy)
    assert set(regions) == set(REGIONS)
    assert all(len(indices) > 100 for indices in regions.values())
    assert anatomy.ventricle_mm.ravel()[regions["periventricular"]].max() < 6
    assert anatomy.cortex_mm.ravel()[regions["juxtacortical"]].max() < 3


def test_lesions_keep_to_the_tissue_of_the_brain() -> None:
    anatomy, regions = head(), places(head())
    for label in ("MS", "NMOSD"):
        drawn = draw_lesions(anatomy, label, regions, np.random.default_rng(3)).lesions
        assert (drawn[anatomy.labels == Tissue.VENTRICLE] == 0).all()
        assert (drawn[~anatomy.brain] == 0).all()


def test_no_disease_no_lesions() -> None:
    assert not draw_lesions(head(), "none", places(head()), np.random.default_rng(0)).lesions.any()


def test_real_pattern_keeps_about_its_volume() -> None:
    lps = np.array([[-1.0, 0, 0, 90], [0, -1, 0, 126], [0, 0, 1, -72], [0, 0, 0, 1]])
    mask = np.zeros((182, 218, 182), bool)
    mask[60:70, 100:112, 90:100] = True  # 1.2 mL in white matter, MNI LPS 20..30, 14..26, 18..28
    drawn = transplant(head(), mask, lps, np.random.default_rng(1))
    assert 0.4 < (drawn > 0).sum() * ML < 2.0
    assert drawn.max() >= 1


def test_most_contrasts_stand_in_flair_order() -> None:
    means = np.array([tissue_means(np.random.default_rng(n)) for n in range(200)])
    ordered = (means[:, Tissue.VENTRICLE] < 1) & (means[:, Tissue.CORTEX] > 1)
    assert 0.7 < ordered.mean() < 1
    assert np.median(means[:, Tissue.CORTEX]) == pytest.approx(1.13, abs=0.03)


def test_thick_slices_blur_along_their_axis_only() -> None:
    image = np.ones((60, 60, 60), np.float32)
    image[30] = 3
    quiet = np.random.default_rng(0)
    thick = scan(image, Acquisition(draw_slices(6.0, 0, quiet), 0.0), quiet)
    assert thick.shape == image.shape
    assert np.ptp(thick[:, 30, 30]) < 0.8 * np.ptp(image[:, 30, 30])
    assert thick.mean() == pytest.approx(image.mean(), rel=0.3)


def test_smooth_field_has_about_unit_spread() -> None:
    spreads = [smooth_field((64, 64, 64), 12, np.random.default_rng(n)).std() for n in range(5)]
    assert np.mean(spreads) == pytest.approx(1, abs=0.25)


def test_expert_draws_from_half_of_a_lesions_contrast_on() -> None:
    share = np.zeros((40, 40, 40), np.float32)
    share[20, 20, 18:22] = (0.3, 0.49, 0.5, 1.0)
    assert np.argwhere(drawn(share, None)).tolist() == [[20, 20, 20], [20, 20, 21]]
    thick = drawn(share, draw_slices(4.8, 0, np.random.default_rng(0)))
    assert not thick.any()  # a quarter of a slice at most


@pytest.mark.slow
def test_ventricles_are_widened_in_some_heads() -> None:
    anatomy, none = head(), np.zeros(head().labels.shape, np.int16)
    own = (anatomy.labels == Tissue.VENTRICLE).sum()
    volumes = [
        (deform(anatomy, none, np.random.default_rng(n)).labels == Tissue.VENTRICLE).sum() / own
        for n in range(8)
    ]
    assert max(volumes) > 1.7
    assert min(volumes) < 1.2


def test_extraction_errs_by_little() -> None:
    brain = head().brain
    jittered = jittered_mask(brain, np.random.default_rng(2))
    assert 2 * (jittered & brain).sum() / (jittered.sum() + brain.sum()) > 0.93
    assert (jittered != brain).any()


@pytest.mark.slow
def test_same_seed_same_case() -> None:
    generator = Generator([head()])
    one, other = (next(generator.cases(7)) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.lesions, other.lesions)
    x = one.network_input()
    assert (x[~one.brain] == BACKGROUND).all()
    assert abs(np.median(x[one.brain])) < 2
