"""Data sets on disk: a folder with an index and NIfTI files.

``index.csv`` has a header and one line for each case:

=========  ========================================================================================================
case       name of the case, unique
patient    patients are never split between training and test; empty: the case's name
flair      NIfTI file, relative to the folder; brain-extracted (0 outside), or with a ``brain`` mask; bias-corrected
brain      NIfTI mask on the same grid, may be empty or left out
lesions    NIfTI mask on the same grid, may be empty where the lesions are unknown
ignore     NIfTI mask on the same grid of voxels whose truth is unknown: nothing is learnt there; may be empty or left out
label      MS, NMOSD or none (none: not known, or no lesions)
t1         NIfTI file on the same grid, may be empty or left out; the networks here take FLAIR alone
age        years at the scan, 0 to 120, may be empty or left out
sex        M, F or O, may be empty or left out
origin     real, synthetic, or pseudo-labelled (a real scan whose lesions a network has drawn: learnt from, never tested
           on); empty or left out: real. Figures are never mixed
=========  ========================================================================================================

Further columns are ignored. Heads must be upright within some 20 degrees: the axes of the file are taken as they are.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from scipy import ndimage

from pipelines.brain.cube import on_cube
from pipelines.brain.grid import Grid
from pipelines.errors import DataSetError
from pipelines.flair.intensity import normalise
from pipelines.training.data_sets.cube import SPACING_MM, cube_grid, lps_affine, to_cube
from pipelines.training.data_sets.index_file import INDEX, case_rows, check_once
from pipelines.training.data_sets.sample import CLASSES, Sample, target_of
from pipelines.types import BoolArray, FloatArray

COLUMNS = ("case", "patient", "flair", "brain", "lesions", "label", "t1", "age", "sex", "origin", "ignore")
PSEUDO_LABELLED = "pseudo-labelled"
ORIGINS = ("real", "synthetic", PSEUDO_LABELLED)
SEXES = ("M", "F", "O")
AGES_YEARS = (0.0, 120.0)
_NEEDED = ("case", "flair")
_STRIPPED_SHARE = 0.3
"""A brain-extracted FLAIR has at least this share of zeros; many a scanner sets what lies around a head to 0 as well."""
_LARGEST_BRAIN_ML = 2200.0
"""Most that is not zero in a brain-extracted FLAIR: with the fluid around it a brain fills 1.1 to 1.9 litres, a head 2.7
and more."""


@dataclass(frozen=True)
class Entry:
    """One line of an index; paths are absolute and exist."""

    case: str
    patient: str
    flair: Path
    brain: Path | None
    lesions: Path | None
    label: str
    t1: Path | None = None
    age: float | None = None
    sex: str | None = None
    origin: str = "real"
    ignore: Path | None = None


def checked_label(text: str, where: str) -> str:
    """Return MS, NMOSD or none; nothing is none.

    Raises
    ------
    DataSetError
        It is something else; ``where`` begins the message.
    """
    label = text or "none"
    if label not in (*CLASSES, "none"):
        raise DataSetError(f"{where}: label {label!r} is not MS, NMOSD or none")
    return label


def checked_age(text: str, where: str) -> float | None:
    """Return an age in years, or None when there is none.

    Raises
    ------
    DataSetError
        No number from 0 to 120; ``where`` begins the message.
    """
    if not text:
        return None
    try:
        age = float(text)
    except ValueError:
        age = float("nan")
    low, high = AGES_YEARS
    if not low <= age <= high:
        raise DataSetError(f"{where}: age {text!r} is not a number of years from {low:g} to {high:g}")
    return age


def checked_sex(text: str, where: str) -> str | None:
    """Return M, F or O, or None when there is none.

    Raises
    ------
    DataSetError
        It is something else; ``where`` begins the message.
    """
    if text and text not in SEXES:
        raise DataSetError(f"{where}: sex {text!r} is not {', '.join(SEXES)}")
    return text or None


def checked_origin(text: str, where: str) -> str:
    """Return real, synthetic or pseudo-labelled; nothing is real.

    Raises
    ------
    DataSetError
        It is something else; ``where`` begins the message.
    """
    if text and text not in ORIGINS:
        raise DataSetError(f"{where}: origin {text!r} is not {', '.join(ORIGINS[:-1])} or {ORIGINS[-1]}")
    return text or ORIGINS[0]


def read_index(folder: Path) -> list[Entry]:
    """Read and check ``index.csv``.

    Raises
    ------
    DataSetError
        There is no index, a column or a file is missing, a label, age, sex or origin is not as documented, or a case stands
        twice.
    """
    path = folder / INDEX
    rows = case_rows(folder, _NEEDED, COLUMNS)
    entries = [_entry(folder, row, number) for number, row in enumerate(rows, start=2)]
    check_once(path, (entry.case for entry in entries))
    return entries


def _entry(folder: Path, row: dict[str, str], number: int) -> Entry:
    def file_of(column: str) -> Path | None:
        text = (row.get(column) or "").strip()
        if not text:
            return None
        path = folder / text
        if not path.is_file():
            raise DataSetError(f"{folder / 'index.csv'} line {number}: {column} {text} is not there")
        return path

    def text_of(column: str) -> str:
        return (row.get(column) or "").strip()

    where = f"{folder / 'index.csv'} line {number}"
    flair, name = file_of("flair"), text_of("case")
    if flair is None or not name:
        raise DataSetError(f"{where}: case and flair must be given")
    return Entry(
        case=name,
        patient=text_of("patient") or name,
        flair=flair,
        brain=file_of("brain"),
        lesions=file_of("lesions"),
        label=checked_label(text_of("label"), where),
        t1=file_of("t1"),
        age=checked_age(text_of("age"), where),
        sex=checked_sex(text_of("sex"), where),
        origin=checked_origin(text_of("origin"), where),
        ignore=file_of("ignore"),
    )


@dataclass(frozen=True)
class LoadedCase:
    """A case on the cube: float32 image as read, bool brain, bool lesions and voxels to ignore or None; all (k, j, i)."""

    image: FloatArray
    brain: BoolArray
    lesions: BoolArray | None
    ignore: BoolArray | None = None

    def sample(self, label: str) -> Sample:
        """Return the case as the network takes it."""
        lesions = np.zeros(self.brain.shape, bool) if self.lesions is None else self.lesions
        return Sample(normalise(self.image, self.brain), lesions, target_of(label), self.ignore)


def read_nifti(path: Path) -> nib.nifti1.Nifti1Image:
    """Open a volume.

    Raises
    ------
    DataSetError
        It is no NIfTI file, or has not three axes.
    """
    try:
        image = nib.load(path)
    except (OSError, ImageFileError) as error:
        raise DataSetError(f"{path} is not a readable NIfTI file ({error})") from error
    if len(image.shape) != 3:
        raise DataSetError(f"{path} has {len(image.shape)} axes, not 3")
    return image


def nifti_values(image: nib.nifti1.Nifti1Image, path: Path) -> FloatArray:
    """Return the values of a volume that was read from ``path``, shape (x, y, z).

    Raises
    ------
    DataSetError
        The file is cut off, or has voxels that are not numbers.
    """
    try:
        array = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataSetError(f"{path} is damaged or cut off ({error})") from error
    if not np.isfinite(array).all():
        raise DataSetError(f"{path} has voxels that are not numbers; set them to 0")
    return array


def read_on_grid(path: Path, flair: nib.nifti1.Nifti1Image, of: Path) -> nib.nifti1.Nifti1Image:
    """Open a volume that must have the grid of a FLAIR, which was read from ``of``.

    Raises
    ------
    DataSetError
        It is no NIfTI file, or has another grid.
    """
    image = read_nifti(path)
    if image.shape != flair.shape or not np.allclose(image.affine, flair.affine, atol=1e-2):
        raise DataSetError(f"{path} is not on the grid of {of.name}")
    return image


def load_case(entry: Entry) -> LoadedCase:
    """Bring a case to the cube around its brain.

    Raises
    ------
    DataSetError
        A file is unreadable or has voxels that are not numbers; a mask or the T1 has another grid;
        the FLAIR is neither brain-extracted nor has a mask.
    """
    flair = read_nifti(entry.flair)
    array = nifti_values(flair, entry.flair)
    masks: dict[str, npt.NDArray[np.float32]] = {}
    for name, path in (
        ("brain", entry.brain),
        ("lesions", entry.lesions),
        ("ignore", entry.ignore),
        ("t1", entry.t1),
    ):
        if path is not None:
            image = read_on_grid(path, flair, entry.flair)
            if name != "t1":
                masks[name] = (nifti_values(image, path) > 0).astype(np.float32)
    if "brain" not in masks:
        if not _extracted(array, flair.affine):
            raise DataSetError(
                f"{entry.flair} is not brain-extracted; give its brain mask in the column brain, or let "
                "'dicom-node models import-nifti' find it"
            )
        masks["brain"] = ndimage.binary_fill_holes(array > 0).astype(np.float32)
    lps = lps_affine(flair.affine)
    inside = np.argwhere(masks["brain"] > 0)
    if not len(inside):
        raise DataSetError(f"{entry.brain or entry.flair} marks no brain")
    middle = (np.percentile(inside, 0.5, axis=0) + np.percentile(inside, 99.5, axis=0)) / 2
    centre = lps[:3, :3] @ middle + lps[:3, 3]

    def mask(name: str) -> BoolArray | None:
        # Cut at half of what straight lines give, small lesions would lose a seventh of their volume.
        return np.asarray(to_cube(masks[name], lps, centre, 3) > 0.5) if name in masks else None

    brain = to_cube(masks["brain"], lps, centre, 1) > 0.5
    values = on_cube(array.T, Grid(array.T.shape, lps), cube_grid(centre), masks["brain"].T > 0)
    return LoadedCase(values, brain, mask("lesions"), mask("ignore"))


def _extracted(array: FloatArray, affine: npt.NDArray[np.float64]) -> bool:
    """Tell whether all but a brain is 0 in a FLAIR."""
    filled_ml = np.count_nonzero(array) * abs(np.linalg.det(affine[:3, :3])) / 1000
    return bool((array == 0).mean() >= _STRIPPED_SHARE and filled_ml <= _LARGEST_BRAIN_ML)


def write_cube(array: npt.NDArray[np.generic], path: Path) -> None:
    """Write an array (k, j, i) on the cube as NIfTI, centred on the origin."""
    shape = np.array(array.shape[::-1])
    affine = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), affine), path)
