"""Signs by which findings are not like demyelination, on a plain brain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.brain.grid import Grid
from pipelines.flair.coarse_brain import Scene
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.plausibility import signs_of
from pipelines.regions.brain_map import Midline
from pipelines.regions.structures import Structure
from pipelines.types import BoolArray

SIDE, VOXEL_MM = 128, 1.2


def _ball(centre_mm: tuple[float, float, float], radius_mm: float) -> BoolArray:
    """Return a ball; its centre (S, P, L), mm, is that of the brain by default."""
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) * VOXEL_MM
    k, j, i = (axis - at for at in centre_mm)
    far: npt.NDArray[np.float64] = k[:, None, None] ** 2 + j[:, None] ** 2 + i**2
    return np.asarray(far < radius_mm**2)


def _scene() -> Scene:
    """Return a brain of white matter with two lateral ventricles and a third one."""
    brain = _ball((0, 0, 0), 65)
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = -(SIDE - 1) / 2 * VOXEL_MM
    structures = np.where(brain, Structure.WHITE, Structure.BACKGROUND).astype(np.uint8)
    for side in (-1, 1):
        structures[_ball((10, 0, 14 * side), 9)] = Structure.LATERAL_VENTRICLE
        structures[_ball((-12, 0, 18 * side), 6)] = Structure.DEEP_GREY
    structures[_ball((-12, 0, 0), 4)] = Structure.LOWER_VENTRICLE
    fluid = np.isin(structures, (Structure.LATERAL_VENTRICLE, Structure.LOWER_VENTRICLE))
    values = np.where(brain, np.where(fluid, -4.0, 0.0), BACKGROUND).astype(np.float32)
    return Scene(
        values,
        brain,
        np.zeros_like(brain),
        structures,
        Grid((SIDE, SIDE, SIDE), affine),
        Midline(np.array([1.0, 0.0, 0.0]), 0.0),
    )


PLAIN = _scene()


def _with(value: float, *balls: BoolArray) -> Scene:
    values = PLAIN.values.copy()
    for ball in balls:
        values[ball] = value
    return replace(PLAIN, values=values)


def _names(scene: Scene) -> list[str]:
    return [sign.name for sign in signs_of(scene)]


def test_plain_brain_has_no_sign() -> None:
    assert signs_of(PLAIN) == ()


def test_empty_brain_has_no_sign() -> None:
    assert signs_of(replace(PLAIN, brain=np.zeros_like(PLAIN.brain))) == ()


@pytest.mark.parametrize("value", [2.5, 3.5])
def test_bright_tissue_of_one_side_is_a_sign_without_any_mask(value: float) -> None:
    (sign,) = signs_of(_with(value, _ball((5, 20, 38), 15)))
    assert (sign.name, sign.unit) == ("one-sided tissue", "mL")
    assert 7 < sign.value < 20


def test_bright_tissue_of_both_sides_is_none() -> None:
    assert _names(_with(2.5, _ball((5, 20, 38), 15), _ball((5, 20, -38), 15))) == []


def test_uneven_tissue_that_the_mask_holds_is_none_beside_a_large_load() -> None:
    tissue = _ball((5, 20, 38), 15)
    load = tissue | (PLAIN.brain & (np.arange(SIDE) < 40))
    assert _names(replace(_with(2.5, tissue), lesions=load, structures=None)) == []


def test_fluid_of_one_side_is_a_sign() -> None:
    (sign,) = signs_of(_with(-4.0, _ball((10, -25, -35), 14)))
    assert sign.name == "one-sided fluid"
    assert 7 < sign.value < 13


def test_signal_above_all_lesions_is_a_sign() -> None:
    assert "signal" in _names(_with(7.0, _ball((5, 20, 30), 11)))


def test_third_ventricle_off_the_midline_is_a_sign() -> None:
    (sign,) = signs_of(replace(PLAIN, midline=Midline(np.array([1.0, 0.0, 0.0]), 6.5)))
    assert (sign.name, sign.unit) == ("midline shift", "mm")
    assert sign.value == pytest.approx(6.5, abs=0.7)


@pytest.mark.parametrize(
    ("radius_mm", "elsewhere_mm", "flagged"), [(10, 0, True), (8, 0, False), (10, 14, False), (15, 17, True)]
)
def test_large_lesion_apart_from_the_ventricles_is_a_sign(
    radius_mm: float, elsewhere_mm: float, flagged: bool
) -> None:
    lesions = _ball((30, 20, 30), radius_mm)
    if elsewhere_mm:
        lesions = lesions | _ball((10, 0, -25), elsewhere_mm)
    assert ("isolated lesion" in _names(replace(PLAIN, lesions=lesions))) == flagged


def test_large_lesion_at_a_ventricle_is_none() -> None:
    assert _names(replace(PLAIN, lesions=_ball((10, 0, 30), 12))) == []


def test_without_structures_the_image_alone_is_asked() -> None:
    scene = replace(_with(2.5, _ball((5, 20, 38), 15)), structures=None, lesions=_ball((5, 20, 38), 13))
    assert _names(scene) == ["one-sided tissue"]
