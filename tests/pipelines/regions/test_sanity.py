"""Structures that are not plausible are not believed; what the field of view cuts off is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.regions import sanity
from pipelines.regions.brain_map import BrainMap
from pipelines.regions.structures import Structure
from tests.pipelines.regions.brains import brain, grid


def values(of: BrainMap) -> np.ndarray:  # type: ignore[type-arg]
    dark = np.isin(of.structures, (Structure.LATERAL_VENTRICLE, Structure.LOWER_VENTRICLE))
    return np.where(dark, -3.0, 0.0).astype(np.float32)


@pytest.fixture
def box_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of the brain of boxes, which is small."""
    for name, sizes in (
        ("BRAIN_ML", (100.0, 300.0)),
        ("HINDBRAIN_ML", (5.0, 30.0)),
        ("VENTRICLES_ML", (0.5, 9.0)),
        ("CUT_CM2", 6.0),
    ):
        monkeypatch.setattr(sanity, name, sizes)


@pytest.mark.usefixtures("box_sizes")
def test_plausible_structures_are_believed() -> None:
    assert sanity.doubt(brain(), values(brain()), grid()) == ""
    assert sanity.not_covered(brain(), grid()) == ()


def test_brain_of_a_wrong_size_is_doubted() -> None:
    assert sanity.doubt(brain(), values(brain()), grid()).startswith("the brain would have 2")


@pytest.mark.usefixtures("box_sizes")
def test_ventricle_on_one_side_or_bright_is_doubted() -> None:
    one_sided = brain().structures.copy()
    one_sided[:, :, :30][one_sided[:, :, :30] == Structure.LATERAL_VENTRICLE] = Structure.WHITE
    of = replace(brain(), structures=one_sided)
    assert "both sides" in sanity.doubt(of, values(of), grid())
    assert "darker" in sanity.doubt(brain(), np.zeros(brain().structures.shape, np.float32), grid())


@pytest.mark.usefixtures("box_sizes")
def test_cerebellum_at_the_border_of_the_image_is_cut_off_and_may_be_small() -> None:
    affine = np.eye(4)
    affine[2, 3] = 9.0
    image = Grid((51, 60, 60), affine)
    of = brain()
    structures = of.structures.copy()
    structures[:9] = Structure.BACKGROUND
    cut = replace(of, structures=structures)
    assert sanity.not_covered(cut, image) == ("infratentorial",)
    assert sanity.doubt(cut, values(cut), image) == ""
