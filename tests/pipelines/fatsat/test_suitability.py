"""A series that is no coronal fat-suppressed T2 of the orbits is refused with its reason, by protocol and by pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from orbit_volumes import CENTRES, JUNCTIONS, orbit_eye, orbit_volume

from pipelines.fatsat.suitability import (
    check_contrast,
    check_geometry,
    check_protocol,
    coronal_tilt_deg,
    reach_behind_mm,
)
from pipelines.types import Volume


@pytest.mark.parametrize(
    ("attributes", "reason", "warnings"),
    [
        ({"EchoTime": 84.0}, "", ()),
        ({"EchoTime": 60.0}, "", ()),
        ({"EchoTime": 120.0}, "", ()),
        ({"EchoTime": 12.0}, "not T2 of the orbits: echo time 12 ms is outside 60 to 120 ms", ()),
        ({"EchoTime": 130.0}, "not T2 of the orbits: echo time 130 ms is outside 60 to 120 ms", ()),
        ({}, "", ("echo time not given",)),
    ],
)
def test_echo_time_is_judged_where_it_is_given(
    attributes: dict[str, object], reason: str, warnings: tuple[str, ...]
) -> None:
    verdict = check_protocol(attributes)
    assert (verdict.reason, verdict.warnings) == (reason, warnings)


def grid(
    shape: tuple[int, int, int] = (20, 32, 32),
    spacing: tuple[float, float, float] = (3.0, 0.5, 0.5),
    tilt_deg: float = 0.0,
) -> Volume:
    """A coronal grid, tilted about the left-right axis."""
    angle = np.radians(tilt_deg)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.sin(angle), -np.cos(angle)])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * spacing[2], column * spacing[1]
    affine[:3, 2] = np.cross(row, column) * spacing[0]
    return Volume(np.zeros(shape, np.float32), affine)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"tilt_deg": 30.0}, ""),
        ({"tilt_deg": -30.0}, ""),
        ({"tilt_deg": 34.0}, "not coronal: the slices are tilted by 34 degrees, more than 30"),
        ({"tilt_deg": 90.0}, "not coronal: the slices are tilted by 90 degrees, more than 30"),
        ({"spacing": (3.0, 0.8, 0.8)}, ""),
        ({"spacing": (3.0, 0.9, 0.9)}, "pixels are 0.90 mm wide; at most 0.8 mm can be analysed"),
        ({"spacing": (1.0, 0.5, 0.5)}, "slices are 1.0 mm apart; 2 to 4 mm can be analysed"),
        ({"spacing": (2.0, 0.5, 0.5)}, ""),
        ({"spacing": (4.5, 0.5, 0.5)}, "slices are 4.5 mm apart; 2 to 4 mm can be analysed"),
        ({"shape": (11, 32, 32)}, "11 slices; 12 to 40 can be analysed"),
        ({"shape": (41, 32, 32)}, "41 slices; 12 to 40 can be analysed"),
    ],
)
def test_plane_and_grid_are_judged(changes: dict[str, Any], reason: str) -> None:
    assert check_geometry(grid(**changes)).reason == reason


def test_thick_slices_are_taken_with_a_warning() -> None:
    assert check_geometry(grid(spacing=(3.5, 0.5, 0.5))).warnings == ()
    verdict = check_geometry(grid(spacing=(4.0, 0.5, 0.5)))
    assert (verdict.reason, verdict.warnings) == (
        "",
        ("slices are 4.0 mm apart: a short lesion may be missed",),
    )


def test_tilt_is_the_same_whichever_way_the_slices_run() -> None:
    tilted = grid(tilt_deg=20.0)
    turned = Volume(tilted.array, tilted.affine @ np.diag([1.0, -1.0, -1.0, 1.0]))
    assert coronal_tilt_deg(tilted) == pytest.approx(20.0)
    assert coronal_tilt_deg(turned) == pytest.approx(20.0)


def test_bright_vitreous_is_t2_and_dark_vitreous_is_not() -> None:
    volume = orbit_volume()
    eyes = [orbit_eye("right"), orbit_eye("left")]
    assert check_contrast(volume, eyes).reason == ""
    inverted = Volume(volume.array.max() - volume.array, volume.affine)
    assert check_contrast(inverted, eyes).reason.startswith(
        "not fat-suppressed T2: the vitreous is not bright (0."
    )


def test_one_dark_globe_does_not_refuse_the_series() -> None:
    volume = orbit_volume()
    positions = volume.position_lps(np.moveaxis(np.indices(volume.array.shape), 0, -1))
    oil = np.linalg.norm(positions - np.array(CENTRES["left"]), axis=-1) < 12
    volume.array[oil] = 0.1
    assert check_contrast(volume, [orbit_eye("right"), orbit_eye("left")]).reason == ""


def test_points_of_a_person_stand_for_dark_globes_where_the_echo_time_is_known() -> None:
    volume = orbit_volume()
    dark = Volume(volume.array.max() - volume.array, volume.affine, volume.attributes)
    by_hand = [orbit_eye("right", source="manual"), orbit_eye("left", source="manual")]
    verdict = check_contrast(dark, by_hand)
    assert verdict.reason == ""
    assert "the vitreous is not bright (0." in verdict.warnings[0]
    assert check_contrast(dark, [by_hand[0], orbit_eye("left")]).reason
    assert check_contrast(Volume(dark.array, dark.affine), by_hand).reason


def test_reach_is_counted_along_the_slices_normal_to_their_outer_edge() -> None:
    volume = orbit_volume()
    last_y = (
        float(volume.position_lps((0, 0, 0))[1]),
        float(volume.position_lps((len(volume.array) - 1, 0, 0))[1]),
    )
    assert reach_behind_mm(volume, JUNCTIONS["right"]) == pytest.approx(
        max(last_y) + 1.5 - JUNCTIONS["right"][1]
    )
