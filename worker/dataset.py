"""A folder of DICOM studies with expert lesion masks as a data set that networks can be trained on.

``studies.csv`` in the folder has a header and one line for each FLAIR:

=========  ========================================================================================================
study      StudyInstanceUID, SeriesInstanceUID of the FLAIR, or a folder below this one
patient    alias: letters, digits, hyphen, underscore, at most 40; never a name
label      MS, NMOSD or none (none: not known)
age, sex   years; M, F or O; both may be empty
=========  ========================================================================================================

Lesions are the segments of the study's Segmentation objects whose label or type says "lesion", on the grid of the FLAIR;
without any the lesions are unknown. What comes out is described in `pipelines.training.cases`; of the DICOM headers nothing
is kept but the geometry, and files are named after the alias.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.routing.match import decide
from dicom_node.routing.rules import built_in_rules
from dicom_node.series.functional_groups import frame_geometry, frame_items, group_item
from dicom_node.series.headers import ImageHeader, read_header
from dicom_node.series.reading import BAD_FILE_ERRORS, tolerant, why
from dicom_node.series.volume import LoadedSeries, load_series
from pipelines.errors import DataSetError
from pipelines.flair.preprocess import find_brain, without_bias
from pipelines.training.cases import COLUMNS, checked_age, checked_label, checked_sex
from pipelines.training.index_file import read_rows
from pipelines.types import BoolArray, Volume

INDEX = "studies.csv"
INDEX_COLUMNS = ("study", "patient", "label", "age", "sex")
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
GRID_TOLERANCE = 0.1
"""Voxels by which the planes of a mask may lie beside those of the FLAIR."""
ORIENTATION_TOLERANCE = 1e-3
"""By which direction cosines may differ."""
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,40}")
Report = Callable[[str], None]


@dataclass(frozen=True)
class _Row:
    """One line of ``studies.csv``, and how to name it in an error."""

    where: str
    study: str
    patient: str
    label: str
    age: str
    sex: str


@dataclass(frozen=True)
class _File:
    path: Path
    header: ImageHeader


def import_dicom(folder: Path, out: Path, progress: Report | None = None) -> list[str]:
    """Turn a folder of studies into a data set: FLAIR without bias field, brain mask, lesions, ``index.csv``.

    Parameters
    ----------
    folder : Path
        Holds ``studies.csv`` and, anywhere below, DICOM files; other files are passed over.
    out : Path
        Made when it is missing; an ``index.csv`` in it is an error.
    progress : callable, optional
        Takes a line for each case.

    Returns
    -------
    list of str
        The names of the cases: the patient's alias and a number.

    Raises
    ------
    DataSetError
        The index or a study is not as documented; a study has no FLAIR, or two; a mask lies in another frame of reference or on
        another grid; there is no brain. The message names the line of the index.
    """
    rows = _read_rows(folder)
    if (out / "index.csv").exists():
        raise DataSetError(f"{out} holds a data set already; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {out}: {error.strerror}") from error
    files = _scan(folder)
    lines: list[list[str]] = []
    names: list[str] = []
    for row in rows:
        name = f"{row.patient}-{1 + sum(other.rsplit('-', 1)[0] == row.patient for other in names)}"
        try:
            volume, lesions = _study(row, folder, files)
        except NodeError as error:
            raise DataSetError(f"{row.where}: {error}") from error
        written = _write_case(name, volume, lesions, out, row.where)
        names.append(name)
        entry = {
            "case": name,
            "patient": row.patient,
            "label": row.label,
            "age": row.age,
            "sex": row.sex,
            "origin": "real",
        }
        lines.append([{**entry, **written}.get(column, "") for column in COLUMNS])
        if progress:
            known = "lesions unknown" if lesions is None else f"{_ml(lesions, volume):.1f} mL of lesions"
            progress(f"{name}: {row.label}, {known}")
    with (out / "index.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *lines])
    return names


def _ml(lesions: BoolArray, volume: Volume) -> float:
    return float(lesions.sum() * volume.voxel_volume_mm3 / 1000)


def _read_rows(folder: Path) -> list[_Row]:
    path = folder / INDEX
    lines = read_rows(
        path,
        ("study", "patient"),
        what="studies",
        missing=f"it has a line for each study, of {', '.join(INDEX_COLUMNS)}",
    )
    rows = []
    for number, line in enumerate(lines, start=2):
        where = f"{path} line {number}"
        study, patient, label, age, sex = ((line.get(name) or "").strip() for name in INDEX_COLUMNS)
        if not study:
            raise DataSetError(f"{where}: no study")
        if not _ALIAS.fullmatch(patient):
            raise DataSetError(f"{where}: the patient's alias has letters, digits, - and _, 1 to 40 of them")
        checked_age(age, where)
        checked_sex(sex, where)
        rows.append(_Row(where, study, patient, checked_label(label, where), age, sex))
    return rows


def _scan(folder: Path) -> list[_File]:
    """Read the headers of all DICOM files below a folder, in the order of their paths."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found.append(_File(path, read_header(path)))
        except UnreadableError:
            # Notes, pictures and DICOMDIRs lie in such folders; a slice that is lost here is missed by load_series.
            continue
    return found


def _study(row: _Row, folder: Path, files: Sequence[_File]) -> tuple[Volume, BoolArray | None]:
    """Return the FLAIR of a line and its lesions."""
    below = (folder / row.study).resolve()
    inside = below.is_dir() and below.is_relative_to(folder.resolve())
    chosen = [
        file
        for file in files
        if (inside and file.path.resolve().is_relative_to(below))
        or row.study in (file.header.study_uid, file.header.series_uid)
    ]
    if not chosen:
        raise DataSetError(f"{row.where}: no DICOM files of study {row.study}")
    flair = _flair(row, chosen)
    study_uid = flair[0].header.study_uid
    masks = [
        file
        for file in files
        if file.header.sop_class_uid == SEGMENTATION and file.header.study_uid == study_uid
    ]
    series = load_series([file.path for file in flair])
    assert series.volume is not None, "load_series reads the pixels"
    return series.volume, read_lesions([file.path for file in masks], series, row.where)


def _flair(row: _Row, files: Sequence[_File]) -> list[_File]:
    """Return the images of the one FLAIR series; a series that the index names itself is taken as it is."""
    by_series: dict[str, list[_File]] = {}
    for file in files:
        by_series.setdefault(file.header.series_uid, []).append(file)
    if row.study in by_series:
        return by_series[row.study]
    rules = built_in_rules()
    found = {
        uid: images
        for uid, images in by_series.items()
        if decide([image.header for image in images], rules).pipeline == "flair"
    }
    if not found:
        raise DataSetError(f"{row.where}: no FLAIR series; give its SeriesInstanceUID in the column study")
    if len(found) > 1:
        raise DataSetError(
            f"{row.where}: {len(found)} FLAIR series ({', '.join(found)}); give the UID of one in the column study"
        )
    return next(iter(found.values()))


def read_lesions(paths: Sequence[Path], series: LoadedSeries, where: str) -> BoolArray | None:
    """Read the lesion segments of Segmentation objects onto a series' grid; several are joined.

    Parameters
    ----------
    paths : sequence of Path
        Segmentations of the study; those of other frames of reference are passed over as long as one is of this.
    series : LoadedSeries
    where : str
        How errors name the line.

    Returns
    -------
    bool array, shape (k, j, i), or None
        None when there are no Segmentations: the lesions are unknown.

    Raises
    ------
    DataSetError
        All lie in another frame of reference; none has a segment of lesions; a plane is not one of the series.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20.2, C.7.6.16.2.3
    """
    if not paths or series.volume is None:
        return None
    frame_of_reference = str(series.datasets[0].get("FrameOfReferenceUID", ""))
    objects = [_read_segmentation(path) for path in paths]
    here = [ds for ds in objects if str(ds.get("FrameOfReferenceUID", "")) == frame_of_reference]
    if not here:
        raise DataSetError(f"{where}: the Segmentation lies in another frame of reference than the FLAIR")
    lesions = np.zeros(series.volume.array.shape, bool)
    known = False
    for ds in here:
        numbers = _lesion_segments(ds)
        if numbers:
            known = True
            _add_frames(ds, numbers, lesions, series.volume, where)
    if not known:
        raise DataSetError(
            f"{where}: no segment of the Segmentation has a label or type with the word lesion"
        )
    return lesions


def _read_segmentation(path: Path) -> Dataset:
    try:
        with tolerant():
            return dcmread(path)
    except BAD_FILE_ERRORS as error:
        raise UnreadableError(f"{path.name}: {why(error)}") from error


def _lesion_segments(ds: Dataset) -> set[int]:
    """Return the numbers of the segments whose SegmentLabel or type (PS3.3 C.8.20.4) has the word lesion."""
    numbers = set()
    for segment in ds.get("SegmentSequence") or ():
        types = segment.get("SegmentedPropertyTypeCodeSequence") or ()
        texts = [segment.get("SegmentLabel", ""), *(code.get("CodeMeaning", "") for code in types)]
        if any("lesion" in str(text).lower() for text in texts):
            numbers.add(int(segment.SegmentNumber))
    return numbers


def _add_frames(ds: Dataset, numbers: set[int], lesions: BoolArray, volume: Volume, where: str) -> None:
    """Set the voxels of a Segmentation's frames in ``lesions``, each plane at its place."""
    frames = frame_items(ds)
    geometry = frame_geometry(ds, len(frames))
    if not geometry.positions or geometry.pixel_spacing is None:
        raise DataSetError(f"{where}: the Segmentation has frames without a position")
    try:
        with tolerant():
            stored = np.asarray(pixel_array(ds)).reshape(len(frames), int(ds.Rows), int(ds.Columns))
    except (*BAD_FILE_ERRORS, RuntimeError) as error:
        raise DataSetError(f"{where}: the Segmentation's pixels can't be decoded") from error
    # FRACTIONAL: half of the greatest value or more is lesion (PS3.3 C.8.20.2.3).
    least = int(ds.get("MaximumFractionalValue", 1)) / 2
    _check_axes(geometry.orientations[0], geometry.pixel_spacing, stored.shape[1:], volume, where)
    inverse = np.linalg.inv(volume.affine)
    for frame, position, pixels in zip(frames, geometry.positions, stored, strict=True):
        identification = group_item(ds, frame, "SegmentIdentificationSequence")
        if identification is None or int(identification.ReferencedSegmentNumber) not in numbers:
            continue
        index = (inverse @ [*position, 1.0])[:3]
        nearest = np.rint(index)
        k = int(nearest[2])
        off = np.abs(index - nearest).max() > GRID_TOLERANCE or bool(nearest[:2].any())
        if off or not 0 <= k < len(lesions):
            raise DataSetError(f"{where}: a plane of the Segmentation is not one of the FLAIR's")
        lesions[k] |= pixels >= max(least, 1)


def _check_axes(
    orientation: Sequence[float],
    pixel_spacing: tuple[float, float],
    shape: tuple[int, ...],
    volume: Volume,
    where: str,
) -> None:
    """Compare orientation, spacing and size of a mask's planes with those of the volume."""
    rows, columns = volume.affine[:3, 0], volume.affine[:3, 1]
    steps = np.array([np.linalg.norm(columns), np.linalg.norm(rows)])
    axes = np.concatenate([rows / steps[1], columns / steps[0]])
    same = (
        np.allclose(orientation, axes, atol=ORIENTATION_TOLERANCE)
        and np.allclose(pixel_spacing, steps, rtol=1e-3)
        and tuple(shape) == volume.array.shape[1:]
    )
    if not same:
        raise DataSetError(f"{where}: the Segmentation is not on the grid of the FLAIR; resample it first")


def _write_case(
    name: str, volume: Volume, lesions: BoolArray | None, out: Path, where: str
) -> dict[str, str]:
    """Write FLAIR, brain and lesions as NIfTI; return the files of the columns."""
    brain = find_brain(volume)
    if brain is None:
        raise DataSetError(f"{where}: there is no brain in the FLAIR")
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "flair": brain.on_whole(without_bias(brain)),
        "brain": brain.on_whole(brain.mask.astype(np.float32)).astype(np.uint8),
    }
    if lesions is not None:
        arrays["lesions"] = lesions.astype(np.uint8)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    written = {}
    for part, array in arrays.items():
        written[part] = f"{name}_{part}.nii.gz"
        nib.save(nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), ras), out / written[part])
    return written
