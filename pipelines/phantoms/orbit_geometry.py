"""A face and the front of a brain from geometry alone, with the anatomical figures of the orbit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.phantoms.orbit_anatomy import (
    EyeAnatomy,
    OrbitHead,
    Tissue,
    arc_length,
    interpolation,
    sign_of,
    smooth_course,
)
from pipelines.phantoms.orbit_muscles import muscles, vein
from pipelines.types import FloatArray, Laterality

GLOBE_MM = (23.0, 1.2)
"""Length of a globe, mean and SD."""
APART_MM = (57.0, 68.0)
"""Between the globes' centres."""
BEHIND_MM, MEDIAL_MM = 10.1, 4.1
"""Where the nerve leaves, from the globe's centre; carried on to the outer wall of a globe of any size [ours]."""
ANGLE_DEG = 27.0
"""Of the nerve to the sagittal plane."""
_LOW, _HIGH = np.array([-95.0, -48.0, -95.0]), np.array([95.0, 118.0, 122.0])
_SPACING_MM = 1.0


def geometric_head(rng: np.random.Generator) -> OrbitHead:
    """Return a head with two eyes; its midpoint between the globes is the origin."""
    apart = rng.uniform(*APART_MM)
    length = np.clip(rng.normal(*GLOBE_MM), GLOBE_MM[0] - 3 * GLOBE_MM[1], GLOBE_MM[0] + 3 * GLOBE_MM[1])
    eyes = tuple(_eye(side, apart, length / 2.0, rng) for side in ("right", "left"))
    painter = _Painter(rng)
    _paint_head(painter, rng)
    _paint_brain(painter, rng)
    _paint_midface(painter, rng)
    for eye in eyes:
        _paint_orbit(painter, eye, rng)
    return OrbitHead(painter.labels, painter.grid, eyes, "geometric")


def _eye(side: Laterality, apart_mm: float, radius_mm: float, rng: np.random.Generator) -> EyeAnatomy:
    sign = sign_of(side)
    centre = np.array([sign * apart_mm / 2.0, *rng.normal(0.0, 0.6, 2)])
    radius = radius_mm + rng.normal(0.0, 0.15)
    leaving = np.array([-sign * MEDIAL_MM, BEHIND_MM, 0.5]) + rng.normal(0.0, 0.35, 3)
    junction = centre + radius * leaving / np.linalg.norm(leaving)
    angle = np.deg2rad(ANGLE_DEG + rng.normal(0.0, 2.5))
    ahead = np.array([-sign * np.sin(angle), np.cos(angle), rng.normal(0.08, 0.05)])
    ahead /= np.linalg.norm(ahead)
    # the nerve is longer than its orbit and lies in a bend
    aside = np.array([np.cos(angle), sign * np.sin(angle), 0.0])
    up = np.cross(ahead, aside) * np.sign(np.cross(ahead, aside)[2])
    bend = rng.normal(0.0, 1.0, 2)
    reach = rng.uniform(26.0, 31.0)
    knots = [junction]
    for share, swing in ((0.2, 0.75), (0.4, 1.0), (0.6, 0.35), (0.8, -0.35), (1.0, 0.0)):
        knots.append(junction + reach * share * ahead + swing * (bend[0] * aside + bend[1] * up))
    canal = np.array([-sign * 0.58, 0.8, 0.2])
    knots.append(knots[-1] + 7.0 * canal / np.linalg.norm(canal))
    chiasm = np.array(
        [sign * rng.uniform(4.0, 6.0), knots[-1][1] + rng.uniform(9.0, 12.0), knots[-1][2] + 4.5]
    )
    knots.append(chiasm)
    course = smooth_course(np.array(knots))
    gaze = np.array([sign * 0.05, -1.0, 0.0])
    eye = EyeAnatomy(side, centre, np.full(3, radius), course, gaze)
    return replace(eye, tubes=(*muscles(eye, rng), vein(side, centre, course)))


class _Painter:
    """Labels on an upright grid, painted shape over shape inside their bounding boxes."""

    def __init__(self, rng: np.random.Generator) -> None:
        counts = np.round((_HIGH - _LOW) / _SPACING_MM).astype(int) + 1
        affine = np.diag([_SPACING_MM] * 3 + [1.0])
        affine[:3, 3] = _LOW
        self.grid = Grid((int(counts[2]), int(counts[1]), int(counts[0])), affine)
        self.labels = np.zeros(self.grid.shape_kji, dtype=np.uint8)
        self._lines = [
            _LOW[axis] + _SPACING_MM * np.arange(counts[axis], dtype=np.float32) for axis in range(3)
        ]
        self.below_skin = np.zeros(self.grid.shape_kji, dtype=bool)
        self.rough = self.noise(9.0, rng)

    def noise(self, grain_mm: float, rng: np.random.Generator) -> FloatArray:
        """Return smooth noise of about unit SD on the grid."""
        counts = [max(3, int(n * _SPACING_MM / grain_mm)) for n in self.grid.shape_kji]
        field = ndimage.gaussian_filter(rng.normal(size=counts).astype(np.float32), 0.5)
        for axis, n in enumerate(self.grid.shape_kji):
            weights = interpolation(counts[axis], np.linspace(0.0, counts[axis] - 1.0, n))
            field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
        return np.asarray(field / field.std(), dtype=np.float32)

    def ball(
        self, centre: tuple[float, float, float], radii: tuple[float, float, float], rough: float = 0.0
    ) -> tuple[tuple[slice, slice, slice], FloatArray]:
        """Return the box around an ellipsoid and, in it, the distance from its centre in radii, roughened."""
        grow = 1.0 + 3.0 * rough
        box = []
        square: npt.NDArray[np.float32] | float = 0.0
        for axis, (line, at, radius) in enumerate(zip(self._lines, centre, radii, strict=True)):
            start, stop = np.searchsorted(line, [at - radius * grow, at + radius * grow])
            box.append(slice(int(start), int(stop)))
            shape = [1, 1, 1]
            shape[2 - axis] = -1
            square = square + (((line[start:stop] - np.float32(at)) / np.float32(radius)) ** 2).reshape(shape)
        where = (box[2], box[1], box[0])
        distance = np.sqrt(square)
        if rough:
            distance = distance + np.float32(rough) * self.rough[where]
        return where, np.asarray(distance, dtype=np.float32)

    def paint(
        self,
        tissue: Tissue,
        centre: tuple[float, float, float],
        radii: tuple[float, float, float],
        rough: float = 0.0,
    ) -> None:
        """Paint an ellipsoid."""
        where, distance = self.ball(centre, radii, rough)
        self.labels[where][distance < 1.0] = tissue


def _paint_head(painter: _Painter, rng: np.random.Generator) -> None:
    """Paint the cranium, the face, the neck's front and the nose, from outside in."""
    width, height = rng.uniform(0.97, 1.05, 2)
    shapes = (
        ((0.0, 66.0, 32.0 * height), (80.0 * width, 92.0, 78.0 * height)),
        ((0.0, 42.0, -36.0), (66.0 * width, 62.0, 72.0)),
        ((0.0, 62.0, -6.0), (71.0 * width, 72.0, 66.0)),
        ((0.0, -16.0, -24.0), (15.0, 24.0, 22.0)),
    )
    for layer, inset in ((Tissue.SKIN, 0.0), (Tissue.SUBCUTANEOUS, 2.0), (Tissue.SOFT, 6.0)):
        for centre, radii in shapes:
            painter.paint(layer, centre, (radii[0] - inset, radii[1] - inset, radii[2] - inset))
    for sign in (-1.0, 1.0):
        where, distance = painter.ball((sign * 40.0, 2.0, -48.0), (20.0, 14.0, 26.0), 0.08)
        painter.labels[where][(distance < 1.0) & (painter.labels[where] == Tissue.SOFT)] = Tissue.SUBCUTANEOUS
    painter.below_skin = painter.labels > Tissue.SKIN


def _paint_brain(painter: _Painter, rng: np.random.Generator) -> None:
    """Paint skull, fluid, folded cortex and white matter: frontal lobes above, temporal poles beside and behind."""
    fold = painter.noise(6.0, rng)
    frontal = ((0.0, 70.0, 44.0), (63.0, 78.0, 45.0))
    poles = tuple(((s * 42.0, 66.0, 0.0), (23.0, 34.0, 21.0)) for s in (-1.0, 1.0))
    for layer, grow in ((Tissue.BONE, 8.0), (Tissue.MARROW, 5.5), (Tissue.BONE, 3.5), (Tissue.FLUID, 2.0)):
        painter.paint(layer, frontal[0], tuple(r + grow for r in frontal[1]))  # type: ignore[arg-type]
        for centre, radii in poles:
            painter.paint(layer, centre, tuple(r + 0.5 * grow for r in radii))  # type: ignore[arg-type]
    for centre, radii in (frontal, *poles):
        where, distance = painter.ball(centre, radii)
        depth_mm = (1.0 - distance) * np.float32(min(radii))
        labels, folds = painter.labels[where], fold[where]
        inside = depth_mm > 0.0
        labels[inside] = Tissue.GREY
        labels[inside & (depth_mm > 3.0) & (np.abs(folds) > 0.6)] = Tissue.WHITE
        labels[inside & (depth_mm > 18.0 + 4.0 * folds)] = Tissue.WHITE
        labels[inside & (depth_mm < 16.0) & (np.abs(folds) < 0.17)] = Tissue.FLUID
    where, distance = painter.ball((0.0, 60.0, 50.0), (1.6, 90.0, 52.0))
    inside = (distance < 1.0) & np.isin(painter.labels[where], (Tissue.GREY, Tissue.WHITE))
    painter.labels[where][inside] = Tissue.FLUID
    for sign in (-1.0, 1.0):
        painter.paint(Tissue.FLUID, (sign * 9.0, 66.0, 52.0), (6.0, 26.0, 7.0))
        painter.paint(Tissue.FLUID, (sign * 4.0, 58.0, 7.0), (13.0, 14.0, 6.0))


def _paint_midface(painter: _Painter, rng: np.random.Generator) -> None:
    """Paint the bone between and below the orbits with its air and mucosa."""
    painter.paint(Tissue.BONE, (0.0, 22.0, -4.0), (21.0, 40.0, 24.0))
    for sign in (-1.0, 1.0):
        painter.paint(Tissue.BONE, (sign * 27.0, 8.0, -34.0), (19.0, 24.0, 20.0))
        painter.paint(Tissue.BONE, (sign * 46.0, 2.0, -18.0), (8.0, 14.0, 7.0))
        thick = rng.uniform(0.6, 2.5) if rng.random() < 0.8 else rng.uniform(3.0, 8.0)
        for tissue, inset in ((Tissue.MUCOSA, 1.6), (Tissue.AIR, 1.6 + thick)):
            size = (17.0 - inset, 22.0 - inset, 17.0 - inset)
            painter.paint(tissue, (sign * 27.0, 8.0, -35.0), size, 0.06)
    cells = painter.noise(6.0, rng)
    for centre, radii in (
        ((0.0, 14.0, 0.0), (12.5, 30.0, 14.0)),
        ((0.0, 10.0, -28.0), (12.0, 34.0, 22.0)),
        ((0.0, 50.0, -12.0), (14.0, 12.0, 11.0)),
    ):
        where, distance = painter.ball(centre, radii)
        inside, labels, field = distance < 1.0, painter.labels[where], cells[where]
        mucosa = rng.uniform(0.35, 0.9)
        labels[inside] = Tissue.AIR
        labels[inside & (np.abs(field) < mucosa)] = Tissue.MUCOSA
        labels[inside & (np.abs(field) < 0.12)] = Tissue.BONE
    for sign in (-1.0, 1.0):
        painter.paint(Tissue.MUCOSA, (sign * 8.0, 12.0, -32.0), (4.2, 26.0, 8.0), 0.1)
    painter.paint(Tissue.BONE, (0.0, 12.0, -24.0), (1.2, 34.0, 24.0))
    if rng.random() < 0.7:
        for sign in (-1.0, 1.0):
            painter.paint(Tissue.AIR, (sign * 11.0, -14.0, 26.0), (9.0, 5.0, 10.0), 0.15)


def _paint_orbit(painter: _Painter, eye: EyeAnatomy, rng: np.random.Generator) -> None:
    """Paint the bony cone with its fat under the skin, the lacrimal gland above and beside the globe, and the lids."""
    grid, sign = painter.grid, sign_of(eye.side)
    left, posterior, superior = (
        (grid.affine[axis, 3] + _SPACING_MM * np.arange(n)).astype(np.float32)
        for axis, n in enumerate(grid.shape_kji[::-1])
    )
    along = arc_length(eye.course)
    apex = eye.course[min(int(np.searchsorted(along, 31.0)), len(eye.course) - 1)]
    planes = np.flatnonzero((posterior > eye.centre[1] - 14.0) & (posterior < apex[1] + 5.0))
    share = np.clip((posterior[planes] - eye.centre[1] + 2.0) / (apex[1] - eye.centre[1] + 2.0), 0.0, 1.0)
    x = eye.centre[0] + share * (apex[0] - eye.centre[0]) + sign * 1.5 * (1.0 - share)
    z = eye.centre[2] + share * (apex[2] - eye.centre[2])
    size = rng.uniform(0.95, 1.05)
    breadth = size * np.interp(share, [0.0, 0.4, 1.0], [20.5, 17.0, 5.0])
    height = size * np.interp(share, [0.0, 0.4, 1.0], [18.0, 16.0, 5.0])
    wall_mm = rng.uniform(1.6, 2.6)
    across = left[None, None, :] - x[None, :, None].astype(np.float32)
    upright = superior[:, None, None] - z[None, :, None].astype(np.float32)
    labels, below_skin = painter.labels[:, planes], painter.below_skin[:, planes]
    bone, fat = (
        # flatter than an ellipse above and below, as orbits are
        (
            np.abs(across / (breadth + extra)[None, :, None]) ** 2.5
            + np.abs(upright / (height + extra)[None, :, None]) ** 2.5
        )
        < 1.0
        for extra in (wall_mm, 0.0)
    )
    labels[bone & below_skin & (labels != Tissue.AIR)] = Tissue.BONE
    labels[fat & below_skin] = Tissue.ORBITAL_FAT
    painter.labels[:, planes] = labels
    x_mm, y_mm, z_mm = (float(v) for v in eye.centre)
    lid = float(eye.radii_mm[1])
    for tissue, thick in ((Tissue.SKIN, rng.uniform(2.5, 4.0)), (Tissue.SOFT, 1.5)):
        where, distance = painter.ball((x_mm, y_mm, z_mm), (lid + thick,) * 3)
        outside = ~painter.below_skin[where]
        painter.labels[where][(distance < 1.0) & outside] = tissue
    size = rng.uniform(0.8, 1.15)
    gland = (x_mm + sign * 13.0, y_mm - 1.0, z_mm + 9.0)
    where, distance = painter.ball(gland, (4.0 * size, 7.0 * size, 5.0 * size), 0.08)
    painter.labels[where][(distance < 1.0) & (painter.labels[where] == Tissue.ORBITAL_FAT)] = Tissue.GLAND
