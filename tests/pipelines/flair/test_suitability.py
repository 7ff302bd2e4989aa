"""What is not a FLAIR of a whole brain is refused with one line that says why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.brain.mni_space import Alignment, template
from pipelines.flair.suitability import (
    COARSE,
    check_brain,
    check_contrast,
    check_geometry,
    check_protocol,
    protocol_fits,
)
from pipelines.types import Volume

IN_PLACE = Alignment(np.eye(4), 0.0)


@pytest.mark.parametrize(
    ("inversion_ms", "echo_ms"), [(2500, 90), ("1800", "388"), (1500.0, 70.0), (2900, 140), ((2500.0,), 81.0)]
)
def test_flair_protocols_pass_without_a_warning(inversion_ms: object, echo_ms: object) -> None:
    verdict = check_protocol({"InversionTime": inversion_ms, "EchoTime": echo_ms})
    assert (verdict.reason, verdict.warnings) == ("", ())


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        (
            {"InversionTime": 180, "EchoTime": 90},
            "not FLAIR: inversion time 180 ms is outside 1500 to 2900 ms",
        ),
        ({"InversionTime": 3000.0}, "not FLAIR: inversion time 3000 ms is outside 1500 to 2900 ms"),
        ({"InversionTime": 2000, "EchoTime": 20}, "not FLAIR: echo time 20 ms is below 70 ms"),
    ],
)
def test_other_protocols_are_refused(attributes: dict[str, object], reason: str) -> None:
    assert check_protocol(attributes).reason == reason


@pytest.mark.parametrize("missing", [{}, {"InversionTime": None, "EchoTime": ""}, {"InversionTime": 0}])
def test_missing_times_only_warn(missing: dict[str, object]) -> None:
    verdict = check_protocol(missing)
    assert verdict.reason == ""
    assert verdict.warnings == ("inversion time not given", "echo time not given")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("Sag DIR 3D", True),
        ("t2_spc_dir_sag", True),
        ("Double Inversion", True),
        ("double_IR", True),
        ("Ax FLAIR directional", False),
        ("t2_tirm_tra_dark-fluid", False),
        (None, False),
    ],
)
@pytest.mark.parametrize("key", ["SeriesDescription", "ProtocolName", "SequenceName"])
def test_name_of_double_inversion_is_refused_although_its_times_fit(
    key: str, name: str | None, *, refused: bool
) -> None:
    reason = check_protocol({"InversionTime": 2500, "EchoTime": 90, key: name}).reason
    assert reason == ("not FLAIR: its name says double inversion recovery" if refused else "")


@pytest.mark.parametrize(
    ("attributes", "fits"),
    [
        ({"InversionTime": 2500, "EchoTime": 90}, True),
        ({"InversionTime": 2500}, False),
        ({"EchoTime": 90}, False),
        ({"InversionTime": 180, "EchoTime": 90}, False),
        ({"InversionTime": 2500, "EchoTime": 90, "SeriesDescription": "DIR"}, False),
    ],
)
def test_protocol_fits_where_both_times_are_given_and_those_of_a_flair(
    attributes: dict[str, object], *, fits: bool
) -> None:
    assert protocol_fits(attributes) == fits


def volume(spacing_k_mm: float) -> Volume:
    return Volume(np.zeros((20, 30, 30), dtype=np.float32), np.diag([1.0, 1.0, spacing_k_mm, 1.0]))


@pytest.mark.parametrize(
    ("spacing_k_mm", "reason", "warnings"),
    [
        (3.0, "", ()),
        (3.04, "", ()),
        (5.0, "", ("slices are 5.0 mm apart: small lesions may be missed",)),
        (6.0, "", ("slices are 6.0 mm apart: small lesions may be missed",)),
        (6.04, "", ("slices are 6.0 mm apart: small lesions may be missed",)),
        (6.6, "", (f"slices are 6.6 mm apart: {COARSE}",)),
        (8.54, "", (f"slices are 8.5 mm apart: {COARSE}",)),
        (8.6, "slices are 8.6 mm apart; at most 8.5 mm can be analysed", ()),
    ],
)
def test_slice_distance_is_judged(spacing_k_mm: float, reason: str, warnings: tuple[str, ...]) -> None:
    verdict = check_geometry(volume(spacing_k_mm))
    assert (verdict.reason, verdict.warnings) == (reason, warnings)


def test_single_slice_is_not_a_volume() -> None:
    flat = Volume(np.zeros((1, 30, 30), dtype=np.float32), np.eye(4))
    assert check_geometry(flat).reason == "not a volume: shape 1x30x30"


def cut_brain(below_mm: float) -> np.ndarray:
    """Return the template's brain without what lies below an MNI height."""
    reference = template()
    brain = reference.brain.copy()
    brain[: int(below_mm + 72)] = False
    return brain


def test_brain_of_less_than_100_mm_is_refused() -> None:
    verdict = check_brain(cut_brain(0.0), template().grid, IN_PLACE)
    assert verdict.reason.startswith("only ")
    assert verdict.reason.endswith("mm of brain in height; 100 mm are needed")


def test_brain_of_less_than_120_mm_is_warned_of() -> None:
    verdict = check_brain(cut_brain(-30.0), template().grid, IN_PLACE)
    assert verdict.reason == ""
    assert "part of it is missing" in verdict.warnings[0]


def test_whole_brain_passes() -> None:
    verdict = check_brain(template().brain, template().grid, IN_PLACE)
    assert (verdict.reason, verdict.warnings) == ("", ())


def test_brain_beside_the_template_is_refused() -> None:
    aside = np.eye(4)
    aside[0, 3] = 60.0
    verdict = check_brain(template().brain, template().grid, Alignment(aside, 0.0))
    assert verdict.reason == "the brain could not be aligned to the MNI template"


def scan(white: float, grey: float, fluid: float) -> np.ndarray:
    reference = template()
    rest = np.clip(1.0 - reference.white - reference.grey, 0.0, 1.0)
    signal = white * reference.white + grey * reference.grey + fluid * rest
    noise = np.random.default_rng(3).normal(0.0, 0.05, signal.shape)
    return np.asarray((signal + noise) * reference.brain, dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("white", "grey", "fluid", "reason"),
    [
        (1.0, 1.12, 0.2, ""),
        (400.0, 430.0, 200.0, ""),
        (1.0, 1.4, 2.6, "not FLAIR: cerebrospinal fluid is not dark"),
        (1.0, 1.1, 1.05, "not FLAIR: cerebrospinal fluid is not dark"),
        (1.0, 0.75, 0.3, "not FLAIR: grey matter is darker than white matter"),
        (1.0, 0.85, 0.35, "not FLAIR: grey matter is darker than white matter"),
        (0.25, 1.0, 0.1, "not FLAIR: white matter is darker than in any FLAIR"),
    ],
    ids=[
        "flair",
        "flair with bright fluid",
        "T2",
        "proton density",
        "T1",
        "T1 spin echo",
        "double inversion",
    ],
)
def test_contrast_is_judged_by_the_pixels(white: float, grey: float, fluid: float, reason: str) -> None:
    reference = template()
    part = (slice(20, 160), slice(10, 225), slice(10, 180))
    grid = Grid(reference.grid.shape_kji, reference.grid.affine).crop(part)
    verdict = check_contrast(scan(white, grey, fluid)[part], reference.brain[part], grid, IN_PLACE)
    assert verdict.reason.startswith(reason)
    assert bool(verdict.reason) == bool(reason)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grey", "fluid", "said"),
    [
        (1.12, 0.78, "cerebrospinal fluid is not dark"),
        (0.93, 0.3, "grey matter is darker than white matter"),
    ],
)
def test_doubt_near_a_limit_is_a_warning_where_the_times_fit(grey: float, fluid: float, said: str) -> None:
    reference, array = template(), scan(1.0, grey, fluid)
    alone, fitting = (
        check_contrast(array, reference.brain, reference.grid, IN_PLACE, protocol=fits)
        for fits in (False, True)
    )
    assert alone.reason.startswith(f"not FLAIR: {said}")
    assert fitting.reason == ""
    assert fitting.warnings[0].startswith(said)
    assert fitting.warnings[0].endswith("since inversion and echo time are those of one")


@pytest.mark.slow
def test_times_do_not_speak_for_a_clear_contradiction() -> None:
    reference = template()
    for grey, fluid in ((1.4, 2.6), (1.1, 1.0), (0.8, 0.3)):
        array = scan(1.0, grey, fluid)
        verdict = check_contrast(array, reference.brain, reference.grid, IN_PLACE, protocol=True)
        assert verdict.reason.startswith("not FLAIR")


@pytest.mark.slow
def test_wide_ventricles_and_disease_of_most_of_the_white_matter_are_flair() -> None:
    reference, array = template(), scan(1.0, 1.08, 0.2)
    white = reference.white > 0.7
    border = np.percentile(np.argwhere(white)[:, 1], 40)
    white[:, : int(border)] = False  # the diseased six tenths remain
    array[white] *= 1.35
    deep = ndimage.binary_erosion(reference.brain, iterations=25) & (reference.grey + reference.white < 0.4)
    array[ndimage.distance_transform_edt(~deep) < 5] = 0.3
    assert check_contrast(array, reference.brain, reference.grid, IN_PLACE).reason == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grey", "lesions", "suits"),
    [(1.08, (1.2, 1.8), True), (0.8, (0.4, 0.8), False)],
    ids=["bright ones, on FLAIR", "dark ones, on T1"],
)
def test_contrast_is_that_of_tissue_without_its_lesions(
    grey: float, lesions: tuple[float, float], suits: bool
) -> None:
    """White matter is lesion in nearly half of the cubes of 12 mm, and cortex there mixed with fluid, as in thick slices."""
    reference, rng = template(), np.random.default_rng(4)
    array = scan(1.0, grey, 0.2)
    size = [-(-n // 12) for n in array.shape]
    changed = rng.random(size) < 0.45
    for region, levels in ((reference.white, lesions), (reference.grey, (0.4, 1.0))):
        drawn = np.where(changed, rng.uniform(*levels, size), 1.0)
        factors = np.kron(drawn, np.ones((12, 12, 12)))[tuple(slice(n) for n in array.shape)]
        array[region > 0.5] *= factors[region > 0.5]
    verdict = check_contrast(array, reference.brain, reference.grid, IN_PLACE)
    assert (verdict.reason == "") == suits


def test_volume_without_ventricles_is_refused() -> None:
    reference = template()
    part = (slice(130, 160), slice(10, 225), slice(10, 180))
    grid = reference.grid.crop(part)
    verdict = check_contrast(scan(1.0, 1.1, 0.2)[part], reference.brain[part], grid, IN_PLACE)
    assert verdict.reason == "ventricles and white matter are not in the volume"
