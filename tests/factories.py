"""Small real DICOM series for tests: ``from factories import mr_series``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_node.series.writer import write_series
from pipelines.types import Volume

ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "oblique": (
        (0.9800665778412416, 0.0, -0.19866933079506122),
        (0.05871080169382652, 0.955336489125606, 0.28962947762551555),
    ),
}
"""Row direction and column direction, LPS. Oblique: turned by 0.2 rad, then tilted by 0.3 rad."""


def affine_for(
    orientation: str = "axial",
    spacing: tuple[float, float, float] = (3.0, 0.9, 0.9),
    origin: tuple[float, float, float] = (-28.0, -30.0, -16.5),
) -> npt.NDArray[np.float64]:
    """Affine (i, j, k, 1) to LPS mm; spacing along k, j, i, origin of voxel (0, 0, 0)."""
    row, column = (np.asarray(axis, dtype=np.float64) for axis in ORIENTATIONS[orientation])
    affine = np.eye(4)
    affine[:3, 0] = row * spacing[2]
    affine[:3, 1] = column * spacing[1]
    affine[:3, 2] = np.cross(row, column) * spacing[0]
    affine[:3, 3] = origin
    return affine


def phantom_array(shape: tuple[int, int, int] = (12, 64, 64)) -> npt.NDArray[np.float32]:
    """An ellipsoid with a ramp along each axis, so that flips and swaps of axes show; integers, 0 to 1023."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = k**2 + j**2 + i**2 < 0.9
    return np.rint(np.where(inside, 500 + 200 * k + 150 * j + 100 * i, 0)).astype(np.float32)


def volume(
    shape: tuple[int, int, int] = (12, 64, 64),
    orientation: str = "axial",
    spacing: tuple[float, float, float] = (3.0, 0.9, 0.9),
    **attributes: Any,
) -> Volume:
    """A small phantom on a grid of the given orientation and spacing (k, j, i)."""
    return Volume(phantom_array(shape), affine_for(orientation, spacing), attributes)


def mr_series(
    out: Path,
    *,
    shape: tuple[int, int, int] = (12, 64, 64),
    orientation: str = "axial",
    spacing: tuple[float, float, float] = (3.0, 0.9, 0.9),
    feet_first: bool = False,
    reversed: bool = False,
    interleaved: bool = False,
    enhanced: bool = False,
    wrong_spacing_between_slices: float | None = None,
    transfer_syntax: str = "1.2.840.10008.1.2.1",
    series_number: int = 1,
    seed: object = "factory",
    images_in_acquisition: bool = False,
    **tags: Any,
) -> list[Path]:
    """Write a small MR series (by default axial FLAIR) and return its files.

    `reversed` numbers the images from the top; `feet_first` turns the patient (k runs to the feet); `tags`
    are DICOM keywords over all defaults, None leaves one out. The same `seed` gives the same UIDs.
    """
    made = volume(shape, orientation, spacing)
    if feet_first:
        affine = made.affine @ np.diag([-1.0, 1.0, -1.0, 1.0])
        made = Volume(made.array, affine)
        tags.setdefault("PatientPosition", "FFS")
    if wrong_spacing_between_slices is not None:
        tags["SpacingBetweenSlices"] = wrong_spacing_between_slices
    attributes = {
        "SeriesDescription": "t2_tirm_tra_dark-fluid",
        "ScanningSequence": ["SE", "IR"],
        "InversionTime": 2500.0,
        **tags,
    }
    return write_series(
        made,
        out,
        attributes=attributes,
        series_number=series_number,
        enhanced=enhanced,
        interleaved=interleaved,
        numbering="reversed" if reversed else "spatial",
        images_in_acquisition=images_in_acquisition,
        transfer_syntax=transfer_syntax,
        seed=seed,
    )
