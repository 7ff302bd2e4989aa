"""The phantom is a head, its lesions are where its truth says, and it is the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.phantoms.flair import AXIAL_2D, SAGITTAL_3D, Acquisition, FlairPhantom, flair_phantom
from pipelines.phantoms.lesions import NO_LESIONS, LesionLoad, _separate

COARSE = Acquisition((48, 120, 120), (3.0, 1.9, 1.9), "axial", dict(AXIAL_2D.attributes))


@pytest.fixture(scope="module")
def phantom() -> FlairPhantom:
    return flair_phantom(11, COARSE)


def volume_ml(phantom: FlairPhantom, mask: np.ndarray) -> float:
    return float(np.count_nonzero(mask) * phantom.volume.voxel_volume_mm3 / 1000.0)


@pytest.mark.slow
def test_same_seed_gives_the_same_phantom_and_another_seed_another(phantom: FlairPhantom) -> None:
    again = flair_phantom(11, COARSE)
    np.testing.assert_array_equal(again.volume.array, phantom.volume.array)
    np.testing.assert_array_equal(again.lesions, phantom.lesions)
    assert not np.array_equal(flair_phantom(12, COARSE).volume.array, phantom.volume.array)


@pytest.mark.slow
def test_lesions_have_about_the_volume_asked_for_and_lie_in_the_brain(phantom: FlairPhantom) -> None:
    assert 8.0 < volume_ml(phantom, phantom.lesions) < 14.0
    assert not (phantom.lesions & ~phantom.brain).any()
    assert 1100.0 < volume_ml(phantom, phantom.brain) < 1800.0


@pytest.mark.slow
def test_lesions_are_brighter_than_the_brain_and_fluid_is_dark(phantom: FlairPhantom) -> None:
    array = phantom.volume.array
    tissue = np.median(array[phantom.brain & ~phantom.lesions])
    assert 1.15 < np.median(array[phantom.lesions]) / tissue < 1.5
    assert np.percentile(array[phantom.brain], 1) / tissue < 0.5


@pytest.mark.slow
def test_healthy_phantom_has_no_lesion() -> None:
    assert not flair_phantom(11, COARSE, NO_LESIONS).lesions.any()


@pytest.mark.slow
def test_lesion_load_is_a_choice() -> None:
    few = flair_phantom(4, COARSE, LesionLoad(count=6, volume_ml=3.0))
    assert 1.5 < volume_ml(few, few.lesions) < 4.0
    with pytest.raises(ValueError, match="no negative count"):
        LesionLoad(count=-1)


@pytest.mark.slow
def test_pixels_are_whole_numbers_that_a_scanner_could_store(phantom: FlairPhantom) -> None:
    array = phantom.volume.array
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.rint(array))
    assert array.min() >= 0.0
    assert array.max() < 4096.0


@pytest.mark.slow
@pytest.mark.parametrize("acquisition", [AXIAL_2D, SAGITTAL_3D])
def test_attributes_are_those_of_a_flair_of_that_geometry(acquisition: Acquisition) -> None:
    attributes = acquisition.attributes
    assert 1500.0 <= float(str(attributes["InversionTime"])) <= 2900.0
    assert attributes["SliceThickness"] == acquisition.spacing_mm[0]
    assert np.linalg.det(acquisition.axes) == pytest.approx(1.0)


@pytest.mark.slow
def test_truth_follows_the_pose(phantom: FlairPhantom) -> None:
    # the template's brain is centred at (0, 18, 10) in LPS, to a few mm
    expected = phantom.mni_to_patient @ [0.0, 19.0, 10.0, 1.0]
    centre = phantom.volume.position_lps(np.argwhere(phantom.brain)).mean(axis=0)
    np.testing.assert_allclose(centre, expected[:3], atol=6.0)


def test_lesions_that_an_earlier_day_lacks_are_of_middle_size_and_stand_alone() -> None:
    axis = np.array([1.0, 0.0, 0.0])
    at = (0, 3, 60, 160, 260)  # mm along a line: two that touch, and three apart
    placed = [(np.array([k, 0, 0]), axis) for k in at]
    volumes_mm3 = np.array([3000.0, 500.0, 400.0, 300.0, 40.0])
    assert _separate(placed, volumes_mm3) == [3, 2, 1]
