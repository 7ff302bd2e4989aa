"""A hospital's own FAT-SAT series on disk: a folder with an index and NIfTI files.

``index.csv`` has a header and one line for each series:

================  ================================================================================================
case              name of the series, unique
patient           patients are never split between training and test; empty: the case's name
image             NIfTI file, relative to the folder; coronal or nearly so, as it came from the scanner
scanner           any name; the paper trains on one scanner and tests on another; empty or left out: "unknown"
left, right       the patient's eyes: 1 a lesion of the optic nerve, 0 healthy, empty not known or not there
left_x .. left_z  where the nerve leaves the left globe, mm, LPS (+x left, +y posterior, +z superior); may be empty
                  or left out: the eye finder is asked
right_x, ...      the same of the right eye
origin            real or synthetic; empty or left out: real. Figures of both are never mixed
================  ================================================================================================

Further columns are ignored.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from pipelines.errors import DataSetError, PipelineError
from pipelines.fatsat.eyes import find_eyes
from pipelines.training.data_sets.cases import checked_origin
from pipelines.training.data_sets.index_file import INDEX, case_rows, check_once
from pipelines.training.fatsat.crops import EyeSet, KnownEye, cut, joined, load
from pipelines.types import Laterality, Point, Volume

COLUMNS = (
    "case",
    "patient",
    "image",
    "scanner",
    "left",
    "right",
    *(f"{side}_{axis}" for side in ("left", "right") for axis in "xyz"),
    "origin",
)
NO_SCANNER = "unknown"
_NEEDED = ("case", "image", "left", "right")
_SIDES: tuple[Laterality, ...] = get_args(Laterality)
_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
Report = Callable[[str], None]
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One line of an index; the image exists.

    Parameters
    ----------
    labels : mapping of side to 0 or 1
        Of the eyes that are known.
    points : mapping of side to mm, LPS
        Where a person saw the nerve leave the globe.
    """

    case: str
    patient: str
    image: Path
    scanner: str
    labels: dict[Laterality, int]
    points: dict[Laterality, Point] = field(default_factory=dict)
    origin: str = "real"


def read_index(folder: Path) -> list[Entry]:
    """Read and check ``index.csv``.

    Raises
    ------
    DataSetError
        There is no index, a column or an image is missing, a value is not as documented, or a case stands twice.
    """
    path = folder / INDEX
    rows = case_rows(folder, _NEEDED, COLUMNS)
    entries = [_entry(folder, row, f"{path} line {number}") for number, row in enumerate(rows, start=2)]
    check_once(path, (entry.case for entry in entries))
    if not any(entry.labels for entry in entries):
        raise DataSetError(f"{path} labels no eye; give 0 or 1 in the columns left and right")
    return entries


def _entry(folder: Path, row: dict[str, str], where: str) -> Entry:
    def text_of(column: str) -> str:
        return (row.get(column) or "").strip()

    case, image = text_of("case"), text_of("image")
    if not case or not image:
        raise DataSetError(f"{where}: case and image must be given")
    if not (folder / image).is_file():
        raise DataSetError(f"{where}: image {image} is not there")
    labels: dict[Laterality, int] = {}
    points: dict[Laterality, Point] = {}
    for side in _SIDES:
        label = text_of(side)
        if label not in ("", "0", "1"):
            raise DataSetError(f"{where}: {side} {label!r} is not 0, 1 or empty")
        if label:
            labels[side] = int(label)
        given = [text_of(f"{side}_{axis}") for axis in "xyz"]
        if any(given):
            points[side] = _point(given, f"{where}: {side}_x, {side}_y, {side}_z")
    return Entry(
        case=case,
        patient=text_of("patient") or case,
        image=folder / image,
        scanner=text_of("scanner") or NO_SCANNER,
        labels=labels,
        points=points,
        origin=checked_origin(text_of("origin"), where),
    )


def _point(given: list[str], where: str) -> Point:
    try:
        x, y, z = (float(text) for text in given)
    except ValueError:
        x = y = z = math.nan
    if not all(map(math.isfinite, (x, y, z))):
        raise DataSetError(
            f"{where} must be three numbers, mm in LPS, or all empty, not {', '.join(given)!r}"
        )
    return x, y, z


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file into the DICOM patient frame.

    Raises
    ------
    DataSetError
        It is no NIfTI file, damaged, not of three axes, or has voxels that are not numbers.
    """
    try:
        image = nib.load(path)
        array = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise DataSetError(f"{path} is not a readable NIfTI file ({error})") from error
    if array.ndim != 3:
        raise DataSetError(f"{path} has {array.ndim} axes, not 3")
    if not np.isfinite(array).all():
        raise DataSetError(f"{path} has voxels that are not numbers; set them to 0")
    return Volume(np.ascontiguousarray(array.T), _LPS_OF_RAS @ np.asarray(image.affine, dtype=np.float64))


def write_volume(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI."""
    nib.save(nib.Nifti1Image(np.ascontiguousarray(volume.array.T), _LPS_OF_RAS @ volume.affine), path)


def data_set_eyes(
    folder: Path, cache: Path, report: Report, *, leave_out: tuple[str, ...] = (), watch: Watch | None = None
) -> tuple[EyeSet, str]:
    """Return the labelled eyes of a data set, and whether they are real, synthetic or both.

    An eye that is not found is left out, with a line that says so. What was cut out before lies in ``cache``.

    Raises
    ------
    DataSetError
        The data set is not as documented, or no eye is left.
    """
    entries = [entry for entry in read_index(folder) if entry.patient not in leave_out]
    parts = []
    for number, entry in enumerate(entries, start=1):
        told = repr((entry, entry.image.stat().st_size, entry.image.stat().st_mtime_ns))
        path = cache / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            _eyes_of(entry, report).save(path)
        parts.append(load(path))
        if watch:
            watch(number, len(entries))
    origins = sorted({entry.origin for entry in entries if entry.labels})
    return joined(parts), " and ".join(origins)


def _eyes_of(entry: Entry, report: Report) -> EyeSet:
    volume = read_volume(entry.image)
    eyes = find_eyes(volume, entry.points or None)
    known = []
    for side, label in entry.labels.items():
        eye = eyes.of(side)
        if eye is None:
            why = eyes.missing.get(side, "not found")
            report(f"{entry.case}: no {side} eye ({why}); give {side}_x, {side}_y, {side}_z to have it used")
            continue
        known.append(
            KnownEye(
                side, eye.junction_lps, np.asarray(eye.course_lps, dtype=np.float64), eyes.midpoint_lps, label
            )
        )
    try:
        return cut(volume, known, case=entry.case, patient=entry.patient, scanner=entry.scanner)
    except PipelineError as error:
        raise DataSetError(f"{entry.case}: {error}") from error
