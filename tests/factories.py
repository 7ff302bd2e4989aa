"""Small real DICOM series for tests: ``from factories import mr_series``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_node.series.writer import write_series
from pipelines.comparison import (
    AcquisitionRow,
    Comparability,
    Comparison,
    LesionChange,
    LesionMatch,
    SelfGrade,
    UnchangedLesion,
)
from pipelines.types import ModelCard, Volume

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


CHANGED_BOXES = {
    1: (slice(3, 6), slice(20, 26), slice(30, 38)),
    2: (slice(8, 9), slice(40, 43), slice(20, 22)),
    3: (slice(5, 7), slice(44, 48), slice(38, 43)),
    4: (slice(6, 8), slice(14, 18), slice(22, 26)),
    5: (slice(4, 5), slice(34, 36), slice(14, 17)),
}
"""Voxels (k, j, i) of the changes of `comparison`, by their numbers."""
CHANGE_MODEL = ModelCard(
    "joint", "1.2.0", "sha256:" + "ab" * 32, "1.2.3.4", "synthetic", "lesion segmentation"
)
ACQUISITIONS = (
    AcquisitionRow("field strength", "3 T", "3 T", False),
    AcquisitionRow("slice thickness", "3 mm", "4 mm", True),
    AcquisitionRow("echo time", "100 ms", "128 ms", True),
)


def _unchanged(current: Volume) -> UnchangedLesion:
    x, y, z = current.position_lps((6, 4, 5))
    return UnchangedLesion(6, 84.0, 80.0, (x, y, z), (x, y, z), "juxtacortical", "right")


def comparison(current: Volume, grade: str = "B", **changes: Any) -> Comparison:
    """Two new lesions, one of them possible, one enlarging, one smaller and one resolved, on a volume of 12 slices or so."""
    labels = np.zeros(current.array.shape, np.int32)
    told = []
    for number, (change, possible, then, region) in enumerate(
        (
            ("new", False, 0.0, "periventricular"),
            ("new", True, 0.0, "juxtacortical"),
            ("enlarging", False, 160.0, "deep_white_matter"),
            ("smaller", False, 240.0, "periventricular"),
            ("resolved", False, 14.6, None),
        ),
        start=1,
    ):
        labels[CHANGED_BOXES[number]] = number
        voxels = np.argwhere(labels == number)
        x, y, z = current.position_lps(voxels.mean(axis=0))
        volume_mm3 = 0.0 if change == "resolved" else len(voxels) * current.voxel_volume_mm3
        told.append(
            LesionChange(
                number,
                change,  # type: ignore[arg-type]
                possible,
                volume_mm3,
                then,
                (x, y, z),
                (int(voxels[:, 0].min()), int(voxels[:, 0].max())),
                lesion=None if change == "resolved" else number,
                prior_lesion={3: 1, 4: 2, 5: 3}.get(number),
                region=region,  # type: ignore[arg-type]
                laterality="left" if region else None,
                long_axis_mm=7.2,
            )
        )
    reasons = {"A": (), "D": ("the prior shows another part of the head",)}
    made = Comparison(
        Comparability(grade, reasons.get(grade, ("the slice thickness differs",)), ACQUISITIONS),  # type: ignore[arg-type]
        changes=tuple(told),
        labels=labels,
        matches=(LesionMatch(3, 1, 120.0), LesionMatch(4, 2, 60.0), LesionMatch(6, 4, 70.0)),
        unchanged=(_unchanged(current),),
        volume_mm3=3100.0,
        prior_volume_mm3=2900.0,
        prior_on_current=np.asarray(0.7 * current.array, np.float32),
        current_to_prior=np.eye(4),
        self_grade=SelfGrade(12, 9, 0),
        models=(CHANGE_MODEL,),
    )
    if grade == "D":
        reason = "the prior shows another part of the head"
        made = Comparison(made.comparability, reason, models=made.models)
    return replace(made, **changes)
