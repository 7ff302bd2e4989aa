"""A folder of DICOM studies with expert lesion masks as a data set that networks can be trained on.

``studies.csv`` in the folder has a header and one line for each FLAIR:

=========  ========================================================================================================
study      StudyInstanceUID, SeriesInstanceUID of the FLAIR, or a folder below this one
patient    alias: letters, digits, hyphen, underscore, at most 40; never a name
label      MS, NMOSD or none (none: not known)
age, sex   years; M, F or O; both may be empty
=========  ========================================================================================================

Lesions are the segments of the study's Segmentation objects whose label or type says "lesion", on the grid of the FLAIR;
without any the lesions are unknown. What comes out is described in `pipelines.training.data_sets.cases`; of the DICOM headers
nothing is kept but the geometry, and files are named after the alias.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.routing.match import decide
from dicom_node.routing.rules import built_in_rules
from dicom_node.series.headers import ImageHeader, read_header
from dicom_node.series.volume import load_series
from pipelines.errors import DataSetError
from pipelines.training.data_sets.cases import COLUMNS, checked_age, checked_label, checked_sex
from pipelines.training.data_sets.extraction import write_extracted
from pipelines.training.data_sets.index_file import read_rows
from pipelines.types import BoolArray, Volume
from worker.segmentations import SEGMENTATION, read_lesions

INDEX = "studies.csv"
INDEX_COLUMNS = ("study", "patient", "label", "age", "sex")
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
        written = write_extracted(name, volume, lesions, out, row.where)
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
