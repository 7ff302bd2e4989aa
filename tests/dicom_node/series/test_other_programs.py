"""Series as programs that are not ours write and read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from factories import affine_for, mr_series, phantom_array

from dicom_node.series.headers import read_header
from dicom_node.series.volume import load_series

SHAPE = (7, 40, 32)


@pytest.fixture
def dcmcjpeg() -> str:
    program = shutil.which("dcmcjpeg")
    if program is None and not os.environ.get("CI"):
        pytest.skip("dcmcjpeg (Debian: dcmtk) is not installed")
    assert program, "dcmcjpeg (Debian: dcmtk) is not installed"
    return program


@pytest.mark.integration
@pytest.mark.parametrize(("option", "tolerance"), [("+e1", 0), ("+el", 0), ("+ee", 20)])
def test_jpeg_of_dcmtk_is_decoded(tmp_path: Path, dcmcjpeg: str, option: str, tolerance: int) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    paths = []
    for path in mr_series(tmp_path / "plain", shape=SHAPE):
        subprocess.run([dcmcjpeg, option, str(path), str(packed / path.name)], check=True, timeout=60)
        paths.append(packed / path.name)
    assert read_header(paths[0]).is_image
    loaded = load_series(paths)
    assert loaded.volume is not None
    assert np.abs(loaded.volume.array - phantom_array(SHAPE)).max() <= tolerance


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_simpleitk_sees_the_same_voxels_at_the_same_places(tmp_path: Path, orientation: str) -> None:
    spacing = (3.0, 0.8, 1.1)
    mr_series(tmp_path, shape=SHAPE, spacing=spacing, orientation=orientation, interleaved=True)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), phantom_array(SHAPE))
    affine = affine_for(orientation, spacing)
    assert image.GetOrigin() == pytest.approx(tuple(affine[:3, 3]), abs=1e-6)
    assert image.GetSpacing() == pytest.approx((1.1, 0.8, 3.0), abs=1e-6)
    directions = np.reshape(image.GetDirection(), (3, 3))
    np.testing.assert_allclose(directions * image.GetSpacing(), affine[:3, :3], atol=1e-6)
