"""Raw FLAIR scans as cases that can be learnt from: the node's own brain mask, and no bias field."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from pipelines.errors import DataSetError
from pipelines.flair.preprocess import find_brain, without_bias
from pipelines.training.data_sets.cases import (
    COLUMNS,
    Entry,
    nifti_values,
    read_index,
    read_nifti,
    read_on_grid,
)
from pipelines.training.data_sets.cube import lps_affine
from pipelines.training.data_sets.index_file import INDEX
from pipelines.types import BoolArray, Volume


def write_extracted(
    name: str, volume: Volume, lesions: BoolArray | None, out: Path, where: str
) -> dict[str, str]:
    """Write a FLAIR without its bias field, the mask of its brain, and its lesions, as NIfTI on its own grid.

    Parameters
    ----------
    name : str
        Of the case; the files' names begin with it.
    volume : Volume
        As scanned.
    lesions : bool array, shape (k, j, i), optional
    out : Path
        An existing folder.
    where : str
        Begins the message of the error.

    Returns
    -------
    dict of column to file name
        See `pipelines.training.data_sets.cases`.

    Raises
    ------
    DataSetError
        There is no brain.
    """
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


def import_nifti(data: Path, out: Path, progress: Callable[[str], None] | None = None) -> list[str]:
    """Turn a folder of raw FLAIR scans in NIfTI into a data set: brain masks, FLAIR without bias field, ``index.csv``.

    Parameters
    ----------
    data : Path
        Folder with an ``index.csv`` as that of a data set (see `pipelines.training.data_sets.cases`), the FLAIR as the
        scanner gave them. Brain masks that are named there are not used.
    out : Path
        Made when it is missing; an ``index.csv`` in it is an error.
    progress : callable, optional
        Takes a line for each case.

    Returns
    -------
    list of str
        The names of the cases.

    Raises
    ------
    DataSetError
        The index is not as documented, a file cannot be read, a mask lies on another grid, or there is no brain.
    """
    entries = read_index(data)
    if (out / INDEX).exists():
        raise DataSetError(f"{out} holds a data set already; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {out}: {error.strerror}; give another folder") from error
    rows = []
    for entry in entries:
        rows.append(_extracted(entry, out))
        if progress:
            progress(f"{entry.case}: brain found")
    with (out / INDEX).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return [entry.case for entry in entries]


def _extracted(entry: Entry, out: Path) -> dict[str, str]:
    """Write the files of a case and return its line of the index."""
    image = read_nifti(entry.flair)
    volume = Volume(np.ascontiguousarray(nifti_values(image, entry.flair).T), lps_affine(image.affine))
    row = {"case": entry.case, "patient": entry.patient, "label": entry.label, "origin": entry.origin}
    row["age"] = "" if entry.age is None else f"{entry.age:g}"
    row["sex"] = entry.sex or ""
    row |= write_extracted(entry.case, volume, None, out, str(entry.flair))
    for part, path in (("lesions", entry.lesions), ("ignore", entry.ignore), ("t1", entry.t1)):
        if path is not None:
            read_on_grid(path, image, entry.flair)
            row[part] = (
                f"{entry.case}_{part}{''.join(path.suffixes[-2:]) if path.suffix == '.gz' else path.suffix}"
            )
            shutil.copyfile(path, out / row[part])
    return row
