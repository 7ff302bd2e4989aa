"""Synthetic pairs of scans: one head, lesions that both have, and changes that are known.

Of each head three sessions are made: an earlier one, one without any change, and a later one with new, grown and shrunk
lesions. Heads are label maps with the lesions of MS patients, or real scans. The sessions differ in where the head lies,
slices, contrast, shading and noise, as the grade asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.comparison import Change, Grade
from pipelines.phantoms.painting import PaintedLesion, drawn_lesion, lesion_share, normal_places, paint
from pipelines.training.change.rescan import Session, drawn_pose, rescanned
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.anatomy import Anatomy, Tissue
from pipelines.training.synthetic.artefacts import sample_at
from pipelines.training.synthetic.contrast import paint as paint_head
from pipelines.training.synthetic.generator import deform
from pipelines.training.synthetic.lesions import draw_lesions, places
from pipelines.types import BoolArray, FloatArray, Point, Volume

SIZES_MM3 = (10.0, 500.0)
TOUCHING_SHARE = 0.3
"""Share of the new lesions that lie at an old one."""
GROWTH = (1.3, 3.0)
MOST_NEW, MOST_GROWN, MOST_SHRUNK = 6, 3, 2
MOST_WIDENING_MM = 0.35
"""So far the walls of the ventricles move at most: up to 3 % of their volume."""
SHOWN = 0.25
"""Share of a changed lesion from which a voxel of a session belongs to it."""
SCANNER: dict[str, object] = {
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Synthetic",
    "MagneticFieldStrength": 3.0,
    "MRAcquisitionType": "2D",
    "EchoTime": 90.0,
    "InversionTime": 2500.0,
    "RepetitionTime": 9000.0,
}


@dataclass(frozen=True)
class Base:
    """Head that sessions are made of.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
    brain, suspect : bool arrays, shape (k, j, i)
        The latter where it has lesions.
    grid : Grid
    ventricles : bool array, shape (k, j, i), optional
    """

    image: FloatArray
    brain: BoolArray
    suspect: BoolArray
    grid: Grid
    ventricles: BoolArray | None = None


@dataclass(frozen=True)
class TrueChange:
    """A change that is known: of which kind, and how large the lesion is then and now."""

    change: Change
    volume_mm3: float
    prior_volume_mm3: float


@dataclass(frozen=True)
class Scanned:
    """One session: the volume, and the number of the true change in its voxels."""

    volume: Volume
    labels: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Sessions:
    """Sessions of one head.

    Parameters
    ----------
    grade : "A", "B" or "C"
        Of the earlier session with each of the others.
    prior, unchanged, current : Scanned
    changes : tuple of TrueChange
        From the first two to the last one; number 1 first.
    """

    grade: Grade
    prior: Scanned
    unchanged: Scanned
    current: Scanned
    changes: tuple[TrueChange, ...]


def label_map_base(anatomy: Anatomy, rng: np.random.Generator) -> Base:
    """Return a head of a label map with the lesions of an MS patient, isotropic and without noise."""
    drawn = draw_lesions(anatomy, "MS", places(anatomy), rng)
    head = deform(anatomy, drawn.lesions, rng)
    painted = paint_head(head.labels, head.lesions, rng, 1.0, head.at)
    n = painted.image.shape[0]
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -SPACING_MM * (n - 1) / 2
    image = painted.image
    if not (head.labels >= Tissue.SOFT).any():
        image = image * ndimage.binary_dilation(head.brain, iterations=2)
    return Base(
        np.asarray(image, dtype=np.float32),
        head.brain,
        head.lesions > 0,
        Grid((n, n, n), affine),
        head.labels == Tissue.VENTRICLE,
    )


def _sessions_of(
    grade: Grade, number: int, rng: np.random.Generator
) -> list[tuple[Session, dict[str, object]]]:
    """Return how the three sessions are taken, with their headers."""
    isotropic = number % 2 == 1
    slices, pixel, plane, kind = (1.0, 1.0, "sagittal", "3D") if isotropic else (3.0, 0.9, "axial", "2D")
    spread = {"A": 0.03, "B": 0.10, "C": 0.20}[grade]
    sessions = []
    for turn in range(3):
        attributes: dict[str, object] = {**SCANNER, "MRAcquisitionType": kind}
        own = (slices, pixel, plane)
        if turn and grade == "B":
            attributes["EchoTime"] = 115.0
            if not isotropic:
                own = (4.0, pixel, plane)
        if turn and grade == "C":
            attributes["MagneticFieldStrength"] = 1.5
            own = (3.0, 0.9, "axial") if isotropic else (5.0, 0.9, "axial")
            attributes["MRAcquisitionType"] = "2D"
        session = Session(
            np.eye(4),
            *own,
            gamma=float(np.exp(rng.normal(0, spread))),
            shading=float(rng.uniform(0.02, 0.10)),
            noise=float(rng.uniform(0.015, 0.05)),
            seed=int(rng.integers(2**31)),
        )
        attributes["SliceThickness"] = own[0]
        sessions.append((session, attributes))
    return sessions


def _sizes(count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return np.asarray(np.exp(rng.uniform(np.log(SIZES_MM3[0]), np.log(SIZES_MM3[1]), count)))


def _beside(base: Base, rng: np.random.Generator) -> Point | None:
    """Return a place at the edge of an old lesion; None without any."""
    edge = base.suspect & ~ndimage.binary_erosion(base.suspect)
    inner = ndimage.binary_erosion(base.brain, iterations=4)
    at = np.argwhere(edge & inner)
    if not len(at):
        return None
    x, y, z = (float(c) for c in base.grid.positions_lps(at[rng.integers(len(at))]))
    return x, y, z


def _drawn_changes(
    base: Base, rng: np.random.Generator
) -> tuple[list[TrueChange], list[PaintedLesion | None], list[PaintedLesion | None]]:
    """Return changes with each one's lesion in the earlier and in the later state."""
    counts = (
        int(rng.integers(2, MOST_NEW + 1)),
        int(rng.integers(0, MOST_GROWN + 1)),
        int(rng.integers(0, MOST_SHRUNK + 1)),
    )
    free = normal_places(base.image, base.brain, base.suspect, base.grid, sum(counts), rng)
    changes: list[TrueChange] = []
    then: list[PaintedLesion | None] = []
    now: list[PaintedLesion | None] = []
    for size in _sizes(counts[0], rng):
        place = _beside(base, rng) if rng.random() < TOUCHING_SHARE else None
        if place is None and free:
            place = free.pop()
        if place is None:
            continue
        changes.append(TrueChange("new", float(size), 0.0))
        then.append(None)
        now.append(drawn_lesion(place, float(size), rng))
    for count, change in ((counts[1], "enlarging"), (counts[2], "smaller")):
        for _ in range(count):
            if not free:
                break
            small = float(np.exp(rng.uniform(np.log(40.0), np.log(300.0))))
            factor = float(rng.uniform(*GROWTH))
            one = drawn_lesion(free.pop(), small, rng)
            other = replace(one, volume_mm3=small * factor)
            if change == "enlarging":
                changes.append(TrueChange("enlarging", small * factor, small))
                then.append(one)
                now.append(other)
            else:
                changes.append(TrueChange("smaller", small, small * factor))
                then.append(other)
                now.append(one)
    return changes, then, now


def _widened(base: Base, image: FloatArray, widening_mm: float) -> FloatArray:
    """Return an image with the walls of the ventricles moved outwards."""
    if base.ventricles is None or not base.ventricles.any():
        return image
    distance = ndimage.distance_transform_edt(~base.ventricles, sampling=SPACING_MM).astype(np.float32)
    away = np.gradient(ndimage.gaussian_filter(distance, 1.0))
    move = np.float32(widening_mm / SPACING_MM) * np.exp(-distance / np.float32(12))
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in image.shape], indexing="ij", sparse=True)
    return sample_at(
        np.ascontiguousarray(image),
        [axis - move * slope / np.float32(SPACING_MM) for axis, slope in zip(axes, away, strict=True)],
    )


def sessions_of(base: Base, grade: Grade, number: int, rng: np.random.Generator) -> Sessions:
    """Return three sessions of a head; see the module.

    Parameters
    ----------
    number : int
        Odd ones are isotropic and sagittal, even ones have slices of 3 mm.
    """
    changes, then, now = _drawn_changes(base, rng)
    before = paint(base.image, base.brain, base.grid, [one for one in then if one is not None]).array
    after = paint(base.image, base.brain, base.grid, [one for one in now if one is not None]).array
    after = _widened(base, after, float(rng.uniform(0, MOST_WIDENING_MM)))
    centre = base.grid.positions_lps(np.argwhere(base.brain).mean(axis=0))
    scans = []
    for image, lesions, (session, attributes) in zip(
        (before, before, after), (then, then, now), _sessions_of(grade, number, rng), strict=True
    ):
        posed = replace(session, pose=drawn_pose(np.asarray(centre), rng))
        volume = rescanned(Volume(image, base.grid.affine, attributes), base.brain, posed)
        scans.append(Scanned(volume, _truth(lesions, then, now, volume, posed)))
    return Sessions(grade, scans[0], scans[1], scans[2], tuple(changes))


def _truth(
    lesions: Sequence[PaintedLesion | None],
    then: Sequence[PaintedLesion | None],
    now: Sequence[PaintedLesion | None],
    volume: Volume,
    session: Session,
) -> npt.NDArray[np.int32]:
    """Return the numbers of the changes in a session's voxels; where a lesion is not there (yet), its place."""
    k, j, i = volume.array.shape
    grid = Grid((k, j, i), volume.affine)
    labels = np.zeros(grid.shape_kji, dtype=np.int32)
    # The head lies otherwise: so do its lesions.
    back = np.linalg.inv(session.pose)
    for number, own in enumerate(zip(lesions, then, now, strict=True), start=1):
        shown = own[0] or own[1] or own[2]
        if shown is None:
            continue
        x, y, z = (float(c) for c in back[:3, :3] @ np.array(shown.centre_lps) + back[:3, 3])
        ax, ay, az = (float(c) for c in back[:3, :3] @ np.array(shown.axis))
        box, share = lesion_share(replace(shown, centre_lps=(x, y, z), axis=(ax, ay, az)), grid)
        labels[box][share > min(SHOWN, 0.5 * float(share.max(initial=0.0)))] = number
    return labels


def label_maps(data: Path) -> list[Path]:
    """Return the label maps that pairs are made of."""
    return sorted((data / "head_labels").glob("*.nii.gz"))
