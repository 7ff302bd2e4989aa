"""Lesions that a network draws in scans without a mask, to learn from where it is sure and to leave out where it is not.

[ours] Real scans with masks are few and real scans without are many. A network that was trained on synthetic cases draws
their lesions; only what it is sure of, and what also looks like a lesion, is kept as one. What it merely suspects, and the
border of what is kept, is ignored in the training. Everything else is taken as normal tissue: that is what is learnt of
real scans here, the more so the fewer lesions they have.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cc3d
import numpy as np
from scipy import ndimage

from pipelines.device import resolve_device
from pipelines.errors import DataSetError
from pipelines.flair.intensity import BACKGROUND, SCALE, normalise
from pipelines.flair.segmenter import MaskModel
from pipelines.training.data_sets.cases import (
    COLUMNS,
    PSEUDO_LABELLED,
    Entry,
    load_case,
    read_index,
    write_cube,
)
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.mixing import local_white
from pipelines.types import BoolArray, FloatArray
from pipelines.weights import FOLDER

SURE = 0.5
"""Probability from which voxels may be lesion."""
PEAK = 0.9
"""Probability that a lesion reaches somewhere."""
SUSPECTED = 0.2
"""Probability from which they are no normal tissue either."""
LEAST_VOXELS = 6
BRIGHTER = 1.15
"""A lesion's mean over the white matter around it."""
FLUID = -2.5
"""Darker than this on the normalised scale is fluid or no signal."""
LARGEST_FLUID_SHARE = 0.45
"""Of the shell of 2 voxels around a lesion: more of it, and it is choroid plexus or septum rather than a lesion."""
RIM_VOXELS = 2
"""Ignored around what is kept."""
DEPTH_MM = 6.0
"""Least depth at which a suspected lesion is ignored, below the brain's surface; above it, it is bright cortex."""


def pseudo_labels(image: FloatArray, probability: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Return the lesions to learn and the voxels to ignore.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
        Normalised; see `pipelines.flair.intensity`.
    probability : float32 array, shape (k, j, i)
        Of lesion, by a network.

    Returns
    -------
    lesions, ignore : bool arrays, shape (k, j, i)
        They share no voxel.
    """
    brain = image > BACKGROUND
    if not brain.any():
        return np.zeros_like(brain), np.zeros_like(brain)
    signal = 1 + np.float32(SCALE) * image
    ratio = signal / local_white(signal, brain & (probability < SUSPECTED))
    numbered = cc3d.connected_components(probability > SURE, connectivity=26)
    lesions = np.zeros_like(brain)
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        # The shell reaches two voxels beyond the box.
        wide = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
        inside = numbered[wide] == number
        shell = ndimage.binary_dilation(inside, iterations=2) & ~inside
        if inside.sum() < LEAST_VOXELS or probability[wide][inside].max() < PEAK:
            continue
        if ratio[wide][inside].mean() < BRIGHTER:
            continue
        if (image[wide][shell] < FLUID).mean() < LARGEST_FLUID_SHARE:
            lesions[wide] |= inside
    depth_mm = ndimage.distance_transform_edt(brain) * SPACING_MM
    rim = ndimage.binary_dilation(lesions, iterations=RIM_VOXELS)
    return lesions, (rim | ((probability > SUSPECTED) & (depth_mm > DEPTH_MM))) & ~lesions


def label_cases(
    data: Path,
    out: Path,
    *,
    weights: Path = FOLDER,
    device: str = "auto",
    progress: Callable[[str], None] = print,
) -> int:
    """Write a data set with all cases of another, lesions drawn by the mask's network where they are not known.

    Parameters
    ----------
    data : Path
        Folder with ``index.csv``.
    out : Path
        Folder for the new one, on the cube of 1.2 mm; made if it is not there.
    weights : Path
        Folder with the weights of the mask's networks.
    device : str
    progress : callable
        Takes a line for each case.

    Returns
    -------
    int
        How many were drawn.

    Raises
    ------
    DataSetError
        The data set is not as documented, or ``out`` cannot be written or is the same folder.
    PipelineError
        The weights are missing or damaged.
    """
    entries = read_index(data)
    if out.resolve() == data.resolve():
        raise DataSetError(f"{out} is the data set itself; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {out}: {error.strerror}; give another folder") from error
    model = MaskModel(resolve_device(device), weights)
    rows = [_row(entry, out, model, progress) for entry in entries]
    with (out / "index.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return sum(row["origin"] == PSEUDO_LABELLED for row in rows)


def _row(entry: Entry, out: Path, model: MaskModel, progress: Callable[[str], None]) -> dict[str, str]:
    """Write the files of a case and return its line of the index."""
    case = load_case(entry)
    arrays = {"brain": case.brain, "lesions": case.lesions, "ignore": case.ignore}
    origin = entry.origin
    if case.lesions is None:
        image = normalise(case.image, case.brain)
        arrays["lesions"], arrays["ignore"] = pseudo_labels(image, model(image, flips=True).probability)
        origin = PSEUDO_LABELLED
        lesions, ignored = (arrays[name].sum() * SPACING_MM**3 / 1000 for name in ("lesions", "ignore"))  # type: ignore[union-attr]
        progress(f"{entry.case}: {lesions:.1f} mL of lesions drawn, {ignored:.1f} mL ignored")
    else:
        progress(f"{entry.case}: lesions are known")
    row = {"case": entry.case, "patient": entry.patient, "label": entry.label, "origin": origin}
    row["age"] = "" if entry.age is None else f"{entry.age:g}"
    row["sex"] = entry.sex or ""
    write_cube(np.where(case.brain, case.image, 0).astype(np.float32), out / f"{entry.case}_flair.nii.gz")
    row["flair"] = f"{entry.case}_flair.nii.gz"
    for name, array in arrays.items():
        if array is not None:
            row[name] = f"{entry.case}_{name}.nii.gz"
            write_cube(array.astype(np.uint8), out / row[name])
    return row
