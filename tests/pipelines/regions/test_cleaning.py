"""Structures made good around lesions."""

from __future__ import annotations

import numpy as np

from pipelines.regions.cleaning import LEAST_ML, cleaned, on_map
from pipelines.regions.structures import Structure
from tests.pipelines.regions.brains import ball, grid


def tissue() -> np.ndarray:  # type: ignore[type-arg]
    structures = np.full((60, 60, 60), Structure.WHITE, np.uint8)
    structures[:, :, :12] = Structure.CORTEX
    structures[20:40, 20:40, 40:55] = Structure.DEEP_GREY
    return structures


def test_lesion_that_looks_like_grey_is_white_matter_unless_deep_grey_is_around() -> None:
    in_white, in_grey = ball(30, 30, 27, 4), ball(30, 30, 47, 3)
    misled = tissue()
    misled[in_white] = Structure.DEEP_GREY
    found = cleaned(misled, in_white | in_grey, 1.0)
    assert (found[in_white] == Structure.WHITE).all()
    assert (found[in_grey] == Structure.DEEP_GREY).all()


def test_specks_of_cortex_in_white_matter_go_and_the_cortex_stays() -> None:
    speckled = tissue()
    speckled[ball(10, 30, 30, 3)] = Structure.CORTEX
    found = cleaned(speckled, np.zeros(speckled.shape, bool), 1.0)
    assert (found == tissue()).all()
    assert (found == Structure.CORTEX).sum() / 1000 > LEAST_ML[Structure.CORTEX]


def test_lesions_of_thick_slices_come_onto_the_map() -> None:
    image = grid(6.0)
    lesions = np.zeros(image.shape_kji, bool)
    lesions[5, 30, 30] = True
    assert np.unique(np.argwhere(on_map(lesions, image, grid()))[:, 0]).tolist() == [30, 31, 32, 33, 34, 35]
