"""NIfTI to Volume: from RAS to LPS, and voxels in the order of a scanner."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from dicom_node.errors import GeometryError, UnreadableError
from pipelines.types import Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
ANISOTROPY = 1.2
"""An axis with a spacing this much larger than the others is the slice axis; else the file's third."""

SCANNER_AXES = {2: ((0, 1), (1, 1), (2, 1)), 1: ((0, 1), (2, -1), (1, 1)), 0: ((1, 1), (2, -1), (0, 1))}
"""For slices along patient axis x (0), y (1), z (2): axis and sign in LPS of i, j and k."""


def volume_from_nifti(path: Path) -> Volume:
    """Read a NIfTI volume with its voxels in the order in which a scanner writes them.

    Axes are permuted and flipped, never resampled: axial slices have rows to the left and columns to the
    back, coronal ones rows to the left and columns down, sagittal ones rows to the back and columns down.
    Oblique affines are kept. A mask read in the same way lies on the same voxels as its image.

    Raises
    ------
    UnreadableError
        No NIfTI file.
    GeometryError
        Not three-dimensional, or sheared.
    """
    try:
        image = nibabel.load(path)
        array = np.asarray(image.dataobj, dtype=np.float32)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise UnreadableError(f"{path.name} is no readable NIfTI file: {error}") from error
    array = array.reshape(array.shape[:3]) if array.shape[3:] == (1,) * (array.ndim - 3) else array
    if array.ndim != 3:
        raise GeometryError(f"{path.name} has {array.ndim} dimensions, 3 are needed")
    affine = RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
    return Volume(*in_scanner_order(array, affine))


def in_scanner_order(
    array: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Permute and flip an array, shape (x, y, z), with its affine to LPS; return it with shape (k, j, i).

    Raises
    ------
    GeometryError
        The axes are not perpendicular.
    """
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    units = affine[:3, :3] / lengths
    if np.max(np.abs(units.T @ units - np.eye(3))) > 0.01:
        raise GeometryError("the axes of the volume are not perpendicular")
    patient_axis = _patient_axes(units)
    largest = int(np.argmax(lengths))
    slice_axis = largest if lengths[largest] >= ANISOTROPY * np.sort(lengths)[1] else 2
    wanted = SCANNER_AXES[patient_axis[slice_axis]]
    order = [patient_axis.index(axis) for axis, _ in wanted]
    new_affine = affine[:, [*order, 3]].copy()
    new_array = array.transpose(order)
    for new_axis, (axis, sign) in enumerate(wanted):
        if units[axis, order[new_axis]] * sign < 0:
            new_affine[:3, 3] += new_affine[:3, new_axis] * (new_array.shape[new_axis] - 1)
            new_affine[:3, new_axis] *= -1
            new_array = np.flip(new_array, new_axis)
    return np.ascontiguousarray(new_array.transpose(2, 1, 0)), new_affine


def _patient_axes(units: npt.NDArray[np.float64]) -> list[int]:
    """Return the patient axis nearest to each array axis, each used once."""
    left = np.abs(units)
    found = [-1, -1, -1]
    for _ in range(3):
        row, column = np.unravel_index(int(np.argmax(left)), left.shape)
        found[int(column)] = int(row)
        left[row, :] = left[:, column] = -1
    return found
