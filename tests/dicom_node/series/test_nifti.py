from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from dicom_node.errors import GeometryError, UnreadableError
from dicom_node.series.nifti import volume_from_nifti

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ARRAY = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)


def write(path: Path, affine: np.ndarray, array: np.ndarray = ARRAY) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def affine_of(spacing: tuple[float, float, float], axes: str) -> np.ndarray:
    """Affine to RAS of an array whose axes run as the letters say, e.g. "LAS"."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, letter in enumerate(axes):
        row = "RAS".find(letter) if letter in "RAS" else "LPI".find(letter)
        affine[row, column] = spacing[column] * (1 if letter in "RAS" else -1)
    affine[:3, 3] = (11.0, -7.0, 3.0)
    return affine


@pytest.mark.parametrize(
    ("axes", "spacing", "directions"),
    [
        ("RAS", (1.0, 1.0, 3.0), "LPS"),  # axial: i to the left, j to the back, k up
        ("LAS", (1.0, 1.0, 1.0), "LPS"),
        ("PSR", (1.0, 1.0, 4.0), "PIL"),  # sagittal: i to the back, j down
        ("RAS", (4.0, 1.0, 1.0), "PIL"),  # sagittal slices along the first axis
        ("RAS", (1.0, 4.0, 1.0), "LIP"),  # coronal: i to the left, j down
        ("RSA", (0.5, 0.5, 4.0), "LIP"),
    ],
)
def test_voxels_are_in_scanner_order_at_their_places(
    tmp_path: Path, axes: str, spacing: tuple[float, float, float], directions: str
) -> None:
    affine = affine_of(spacing, axes)
    volume = volume_from_nifti(write(tmp_path / "x.nii.gz", affine))
    signs = {"L": (0, 1), "P": (1, 1), "S": (2, 1), "I": (2, -1)}
    for column, letter in enumerate(directions):
        row, sign = signs[letter]
        assert np.sign(volume.affine[row, column]) == sign
        assert np.count_nonzero(np.abs(volume.affine[:3, column]) > 1e-9) == 1
    to_index = np.linalg.inv(RAS_TO_LPS @ affine)
    for kji in [(0, 0, 0), (1, 2, 3), tuple(n - 1 for n in volume.array.shape)]:
        x, y, z = np.rint((to_index @ [*volume.position_lps(kji), 1])[:3]).astype(int)
        assert volume.array[kji] == ARRAY[x, y, z]


def test_oblique_affine_is_kept(tmp_path: Path) -> None:
    angle = 0.3
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine_of((0.9, 0.9, 3.0), "LPS")
    volume = volume_from_nifti(write(tmp_path / "x.nii", affine))
    np.testing.assert_allclose(volume.affine, RAS_TO_LPS @ affine, atol=1e-5)
    assert volume.spacing_mm == pytest.approx((3.0, 0.9, 0.9), rel=1e-5)
    np.testing.assert_array_equal(volume.array, ARRAY.transpose(2, 1, 0))


def test_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    volume = volume_from_nifti(write(tmp_path / "x.nii", np.diag([-1.0, -1, 1, 1]), ARRAY[..., None]))
    assert volume.array.shape == (6, 5, 4)


def test_time_series_and_shear_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="4 dimensions"):
        volume_from_nifti(write(tmp_path / "t.nii", np.eye(4), np.zeros((3, 3, 3, 2), np.float32)))
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    with pytest.raises(GeometryError, match="not perpendicular"):
        volume_from_nifti(write(tmp_path / "s.nii", sheared))


def test_other_files_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"no NIfTI")
    with pytest.raises(UnreadableError, match=r"x\.nii\.gz is no readable NIfTI file"):
        volume_from_nifti(tmp_path / "x.nii.gz")
    with pytest.raises(UnreadableError):
        volume_from_nifti(tmp_path / "absent.nii.gz")
