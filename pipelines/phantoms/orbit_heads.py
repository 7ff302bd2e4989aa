"""Real head shapes for orbital phantoms, from whole-head label maps in FreeSurfer numbering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage
from scipy.interpolate import UnivariateSpline

from pipelines.brain.grid import Grid
from pipelines.errors import DataSetError
from pipelines.phantoms.orbit_anatomy import (
    STEP_MM,
    EyeAnatomy,
    OrbitHead,
    Points,
    Tissue,
    arc_length,
    sign_of,
    smooth_course,
)
from pipelines.phantoms.orbit_muscles import vein
from pipelines.types import BoolArray, Laterality

GLOBE, MUSCLES, NERVE = 506, 508, 530
_TISSUES: dict[Tissue, tuple[int, ...]] = {
    Tissue.SUBCUTANEOUS: (511,),
    Tissue.BONE: (515,),
    Tissue.MARROW: (516,),
    Tissue.MUCOSA: (509,),
    Tissue.FLUID: (4, 5, 14, 15, 24, 25, 43, 44, 57, 72),
    Tissue.GREY: (3, 8, 10, 11, 12, 13, 17, 18, 26, 30, 42, 47, 49, 50, 51, 52, 53, 54, 58, 62),
    Tissue.WHITE: (2, 7, 16, 28, 41, 46, 60, 85, 136, 137, 163, 164),
    Tissue.VESSEL: (502, 514),
    Tissue.MUSCLE: (MUSCLES,),
    Tissue.ORBITAL_FAT: (GLOBE, NERVE),
}
"""Everything else inside the head is soft tissue."""
REACH_MM = ((110, 110), (70, 125), (115, 125))
"""What is kept around the midpoint between the globes: right and left, in front and behind, below and above."""
RADII_MM = (10.4, 13.0)
"""A globe of the label maps is brought within this."""
_SAMPLES_MM = 3.0


def label_head(path: Path) -> OrbitHead:
    """Read a label map: tissues around the eyes, its globes as balls, its nerves as smooth courses.

    The map's nerves are one to four voxels thick and broken; their course is kept and their thickness drawn anew [ours].

    Raises
    ------
    DataSetError
        It cannot be read, or shows no two globes with nerves.
    """
    try:
        image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    except RuntimeError as error:
        raise DataSetError(f"{path.name} cannot be read as an image") from error
    raw = np.rint(sitk.GetArrayFromImage(image)).astype(np.int16)
    affine = np.eye(4)
    affine[:3, :3] = np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    whole = Grid((raw.shape[0], raw.shape[1], raw.shape[2]), affine)
    found = np.argwhere(raw == GLOBE)
    if len(found) < 2000:
        raise DataSetError(f"{path.name} has no globes under number {GLOBE}")
    middle = found.mean(axis=0)
    box = tuple(
        slice(max(0, int(at - below)), min(size, int(at + above) + 1))
        for at, (below, above), size in zip(middle, REACH_MM[::-1], raw.shape, strict=True)
    )
    raw, grid = raw[box], whole.crop((box[0], box[1], box[2]))
    eyes = tuple(_eye(raw, grid, side, path.name) for side in ("right", "left"))
    return OrbitHead(_tissues(raw, grid, eyes), grid, eyes, path.name.split(".")[0])


def _tissues(raw: npt.NDArray[np.int16], grid: Grid, eyes: tuple[EyeAnatomy, ...]) -> npt.NDArray[np.uint8]:
    table = np.full(600, Tissue.SOFT, dtype=np.uint8)
    table[0] = Tissue.AIR
    for tissue, numbers in _TISSUES.items():
        table[list(numbers)] = tissue
    labels = np.asarray(table[np.clip(raw, 0, 599)])
    skin = (raw == 511) & ndimage.binary_dilation(raw == 0, iterations=2)
    labels[skin] = Tissue.SKIN
    for eye in eyes:
        labels[(labels == Tissue.SOFT) & _orbit(grid, eye)] = Tissue.ORBITAL_FAT
    return labels


def _orbit(grid: Grid, eye: EyeAnatomy) -> BoolArray:
    """Return a cone around the nerve that ends in front of the globe; bone bounds it in the map."""
    k, j, i = (np.arange(n) for n in grid.shape_kji)
    left, posterior, superior = (
        grid.affine[axis, 3] + grid.affine[axis, axis] * index for axis, index in enumerate((i, j, k))
    )
    axis_y = np.concatenate([[eye.centre[1] - 14.0, eye.centre[1]], eye.course[:, 1]])
    axis_x = np.concatenate([[eye.centre[0]] * 2, eye.course[:, 0]])
    axis_z = np.concatenate([[eye.centre[2]] * 2, eye.course[:, 2]])
    order = np.argsort(axis_y, kind="stable")
    x, z = (np.interp(posterior, axis_y[order], values[order]) for values in (axis_x, axis_z))
    behind = posterior - eye.centre[1]
    reach = np.interp(behind, [-16.0, -15.9, 0.0, 14.0, 45.0, 45.1], [0.0, 20.0, 21.0, 19.0, 7.0, 0.0])
    square = (left[None, None, :] - x[None, :, None]) ** 2 + (superior[:, None, None] - z[None, :, None]) ** 2
    return np.asarray(square < reach[None, :, None] ** 2)


def _eye(raw: npt.NDArray[np.int16], grid: Grid, side: Laterality, name: str) -> EyeAnatomy:
    """Fit a ball to a globe and a smooth course to its nerve.

    The labels end in front at the lens or the lid, so the ball is fixed by its breadth, its height and its posterior wall.
    """
    sign = sign_of(side)
    globes = grid.positions_lps(np.argwhere(raw == GLOBE))
    between = globes[:, 0].mean()
    own = globes[(globes[:, 0] - between) * sign > 0]
    middle = np.median(own, axis=0)
    own = own[np.linalg.norm(own - middle, axis=1) < 15.0]
    if len(own) < 1000:
        raise DataSetError(f"{name} shows no {side} globe")
    half_mm = np.sqrt(5.0 * own.var(axis=0))
    by_volume = float(np.cbrt(len(own) * grid.voxel_volume_mm3 * 0.75 / np.pi))
    radius = float(np.clip((half_mm[0] + half_mm[2] + 2.0 * by_volume) / 4.0, *RADII_MM))
    centre = own.mean(axis=0)
    centre[1] += half_mm[1] - radius
    nerve = grid.positions_lps(np.argwhere(raw == NERVE))
    nerve = nerve[(nerve[:, 0] - between) * sign > 4.0]
    course = _course(nerve, centre, radius, f"{name}: {side}")
    gaze = np.array([0.0, -1.0, 0.0])
    return EyeAnatomy(side, centre, np.full(3, radius), course, gaze, (vein(side, centre, course),))


def _course(nerve: Points, centre: Points, radius_mm: float, what: str) -> Points:
    """Smooth the centres of the nerve's voxels plane by plane, and start on the globe's wall."""
    planes, inverse, counts = np.unique(np.round(nerve[:, 1]), return_inverse=True, return_counts=True)
    if len(planes) < 20:
        raise DataSetError(f"{what}: too little of the nerve (number {NERVE})")
    x, z = (np.bincount(inverse, nerve[:, axis]) / counts for axis in (0, 2))
    weights = np.sqrt(np.minimum(counts, 8))
    at = np.arange(planes[0], planes[-1], _SAMPLES_MM)
    smooth = [UnivariateSpline(planes, values, weights, k=3, s=len(planes) * 2.0)(at) for values in (x, z)]
    rough = smooth_course(np.stack([smooth[0], at, smooth[1]], axis=1), 0.25)
    outside = np.flatnonzero(np.linalg.norm(rough - centre, axis=1) > radius_mm + 2.0)
    if len(outside) == 0:
        raise DataSetError(f"{what}: the nerve does not leave the globe")
    rest = rough[outside[0] :]
    # the wall's point from which the nerve's first direction is followed, drawn a little towards the centre's radius
    ahead = rest[0] - 3.0 * (rest[min(16, len(rest) - 1)] - rest[0]) / 4.0
    direction = ahead - centre
    direction[1] = max(direction[1], 0.75 * radius_mm)
    junction = centre + radius_mm * direction / np.linalg.norm(direction)
    knots = np.concatenate([junction[None], rest[:: round(_SAMPLES_MM / 0.25)][1:]])
    course = smooth_course(knots, STEP_MM)
    return np.asarray(course[arc_length(course) < 60.0])
