"""Region of a lesion by what it touches and lies in."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.brain.grid import Grid
from pipelines.regions.rules import Contact, Place, Surroundings, tolerance_mm
from pipelines.types import BoolArray
from tests.pipelines.regions.brains import ball, brain, grid

FAR = Contact(ventricle=9, cortex=9, infratentorial=0, deep_grey=0, callosal=0, cortical=0)


def place(mask: BoolArray, on: Grid | None = None) -> Place:
    return Surroundings(brain(), on or grid()).contact(mask, (0, 0, 0)).place()


@pytest.mark.parametrize(
    ("where", "radius_mm", "region"),
    [
        ((35, 30, 20), 4, "periventricular"),
        ((35, 30, 13), 3, "deep_white_matter"),
        ((35, 30, 6), 3, "juxtacortical"),
        ((8, 45, 20), 3, "infratentorial"),
        ((9, 23, 30), 3, "infratentorial"),
        ((26, 30, 22), 3, "deep_grey_matter"),
        ((44, 30, 30), 2.5, "periventricular"),  # callosum, above the ventricles at the midline
        ((24, 30, 34), 3, "deep_white_matter"),  # beside the third ventricle
    ],
)
def test_region_follows_from_the_structures_around(
    where: tuple[int, int, int], radius_mm: float, region: str
) -> None:
    assert place(ball(*where, radius_mm)).region == region


def test_lesion_between_ventricle_and_cortex_is_periventricular_and_reaches_the_cortex() -> None:
    mask = np.zeros(grid().shape_kji, bool)
    mask[33:37, 28:32, 3:24] = True
    assert place(mask) == Place("periventricular", ("juxtacortical",))


def test_lesion_a_little_farther_than_the_tolerance_is_borderline() -> None:
    mask = np.zeros(grid().shape_kji, bool)
    mask[33:37, 28:32, 14:22] = True  # 2 mm of white matter up to the ventricle
    assert place(mask) == Place("deep_white_matter", borderline=True)


def test_thick_slices_widen_the_tolerance_across_them_alone() -> None:
    assert tolerance_mm((6.0, 0.9, 0.9)) == (1.5, 3.0)
    thick = grid(6.0)
    above = ball(45, 30, 26, 3, thick)  # the slice from 42 to 48 mm, the ventricle ends at 39.5
    assert place(above, thick).region == "periventricular"
    beside = np.zeros(thick.shape_kji, bool)
    beside[5:7, 28:32, 14:21] = True  # as far within the slice
    assert place(beside, thick).region == "deep_white_matter"


def test_smooth_thin_rim_of_a_ventricle_is_no_lesion() -> None:
    rim = np.zeros(grid().shape_kji, bool)
    rim[32:38, 22:38, 22:24] = True
    assert place(rim) == Place(None)
    thick = rim.copy()
    thick[32:38, 28:33, 18:22] = True
    assert place(thick).region == "periventricular"


def test_infratentorial_and_deep_grey_come_before_contacts() -> None:
    assert Contact(0, 0, 0.6, 0.3, 0, 0).regions() == ("infratentorial", ())
    assert Contact(0, 0, 0.4, 0.6, 0, 0).regions() == ("deep_grey_matter", ())
    assert FAR.place() == Place("deep_white_matter")
    assert Contact(9, 9, 0, 0, 0, 0.2).regions() == ("juxtacortical", ())
