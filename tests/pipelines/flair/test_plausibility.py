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
from pipelines.types import BoolArray, NotTypical

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


def _signs(scene: Scene) -> dict[str, NotTypical]:
    return {sign.name: sign for sign in signs_of(scene)}


@pytest.mark.parametrize("value", [2.5, 3.5])
def test_bright_tissue_of_one_side_is_a_sign_without_any_mask(value: float) -> None:
    found = _signs(_with(value, _ball((5, 20, 38), 15)))
    assert list(found) == ["one-sided tissue", "bright tissue"]
    assert found["one-sided tissue"].unit == "mL"
    assert 7 < found["one-sided tissue"].value < 20


def test_thick_bright_tissue_of_both_sides_is_a_sign_where_the_mask_leaves_it_out() -> None:
    both = _ball((5, 20, 38), 15), _ball((5, 20, -38), 15)
    assert _names(_with(2.5, *both)) == ["bright tissue"]
    assert _names(replace(_with(2.5, *both), lesions=both[0] | both[1])) == []


def test_structures_that_are_bright_in_all_of_the_brain_are_none() -> None:
    structures = PLAIN.structures
    assert structures is not None
    grey = np.asarray(structures == Structure.DEEP_GREY) | _ball((-40, 20, 0), 20)
    scene = replace(_with(1.8, grey), structures=np.where(grey, Structure.DEEP_GREY, structures))
    assert _names(scene) == []


def test_forty_ml_around_both_ventricles_are_none() -> None:
    around = (_ball((10, 0, 14), 18) | _ball((10, 0, -14), 18)) & (PLAIN.values > -1)
    assert 35 < np.count_nonzero(around) * VOXEL_MM**3 / 1000 < 45
    assert _names(replace(_with(2.5, around), lesions=around)) == []


def test_fluid_of_one_side_is_a_sign() -> None:
    found = _signs(_with(-4.0, _ball((10, -25, -35), 14)))
    assert 7 < found["one-sided fluid"].value < 13


def test_fluid_where_the_network_tells_tissue_is_a_sign_on_both_sides() -> None:
    both = _ball((10, -25, -35), 14), _ball((10, -25, 35), 14)
    assert _names(_with(-4.0, *both)) == ["dark tissue"]


def test_fluid_inside_of_the_mask_is_a_sign() -> None:
    cavity = _ball((10, -25, -35), 12)
    assert "fluid in a lesion" in _names(replace(_with(-4.0, cavity), lesions=cavity))


def test_signal_above_all_lesions_is_a_sign() -> None:
    assert "signal" in _names(_with(7.0, _ball((5, 20, 30), 11)))


def test_third_ventricle_off_the_midline_is_a_sign() -> None:
    (sign,) = signs_of(replace(PLAIN, midline=Midline(np.array([1.0, 0.0, 0.0]), 6.5)))
    assert (sign.name, sign.unit) == ("midline shift", "mm")
    assert sign.value == pytest.approx(6.5, abs=0.7)


@pytest.mark.parametrize(
    ("radius_mm", "expected"),
    [(7, []), (10, ["compact lesion"]), (15, ["compact lesion", "isolated lesion"])],
)
def test_thick_round_lesion_that_is_most_of_the_load_is_a_sign(radius_mm: float, expected: list[str]) -> None:
    assert _names(replace(PLAIN, lesions=_ball((25, 20, 28), radius_mm))) == expected


def test_large_lesions_of_which_none_is_most_of_the_load_are_none() -> None:
    lesions = _ball((25, 20, 28), 13) | _ball((25, -15, -28), 13)
    assert _names(replace(PLAIN, lesions=lesions)) == []


def test_round_lesion_that_a_ventricle_touches_is_compact_and_not_isolated() -> None:
    assert _names(replace(PLAIN, lesions=_ball((10, 0, 34), 15))) == ["compact lesion"]


def test_wedge_with_its_cortex_is_a_territory_along_the_surface() -> None:
    structures = PLAIN.structures
    assert structures is not None
    cortex = PLAIN.brain & ~_ball((0, 0, 0), 59)
    wedge = _ball((0, 0, 62), 30) & PLAIN.brain
    scene = replace(PLAIN, lesions=wedge, structures=np.where(cortex, Structure.CORTEX, structures))
    assert {"one territory", "surface"} <= set(_names(scene))


def test_without_structures_the_image_alone_is_asked() -> None:
    scene = replace(_with(2.5, _ball((5, 20, 38), 15)), structures=None)
    assert _names(scene) == ["one-sided tissue", "bright tissue"]
