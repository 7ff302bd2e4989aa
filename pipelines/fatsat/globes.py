"""Globes as bright balls of 23 mm: found on a coarse grid, then fitted by their walls on the series' own slices.

The coarse search is a ball filter minus its shell; the fit takes, along rays from a first centre, the steepest fall of the
signal as the wall, so that it depends neither on the level of the fat nor on the coil's shading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

from pipelines.brain.grid import Grid, resample
from pipelines.types import FloatArray, Volume

Floats = npt.NDArray[np.float64]

COARSE_MM = 3.0
BALL_MM = 11.5
SHELL_MM = 18.0
"""Radius of the mean globe (length 23 mm, SD 1.2) and of the ball minus which its surroundings are taken."""
COVERED_MIN = 0.42
"""Share of the ball that must lie inside the series."""
LEVEL_MIN = 0.3
"""Signal of a ball, over the 99th percentile of the series: vitreous is among the brightest in T2."""
CONTRAST_MIN = 0.2
"""How much brighter than its shell, over its own signal, a ball must be."""
CANDIDATES = 24
RAYS = 240
STEP_MM = 0.75
WALL_MM = (7.5, 16.0)
"""Where along a ray the wall is looked for."""
FALL_MIN, FALL_MAX = 0.2, 1.2
"""Least and greatest fall of the signal at the wall, over the signal inside: a bright ball cannot lose more than it has, a
dark cavity with a bright lining (a sinus) can."""
RADIUS_MM = (9.5, 14.5)
INLIER_MM = 1.5
FRONT_COSINE = 0.5
"""Rays nearer than 60 degrees to straight forward meet lens, chamber and lids, and are left out."""
_ROUNDS = 7


@dataclass(frozen=True)
class Globe:
    """A ball that was fitted to walls.

    Parameters
    ----------
    centre : float64 array, shape (3,), mm, LPS
    radius_mm : float
    level : float
        Median signal inside.
    walls : float
        Share of the rays, not forward and inside the series, that meet the wall within `INLIER_MM` of the ball.
    fall : float
        Median fall of the signal at those walls, over the signal inside.
    evenness : float
        1 minus the interquartile range of the signal inside, over its median; 1 is perfectly even.
    score : float
        In [0, 1]: all three together.
    """

    centre: Floats
    radius_mm: float
    level: float
    walls: float
    fall: float
    evenness: float
    score: float


def fine(volume: Volume) -> Volume:
    """Return the series with pixels averaged in blocks to about 1 mm in plane; slices are left as they are."""
    _, row_mm, column_mm = volume.spacing_mm
    by = [max(1, int(1.0 / mm + 0.25)) for mm in (row_mm, column_mm)]
    array = np.asarray(volume.array, dtype=np.float32)
    if by == [1, 1]:
        return Volume(array, volume.affine)
    k, j, i = array.shape
    rows, columns = j // by[0], i // by[1]
    cut = array[:, : rows * by[0], : columns * by[1]]
    blocks = cut.reshape(k, rows, by[0], columns, by[1]).mean(axis=(2, 4), dtype=np.float32)
    affine = volume.affine.astype(np.float64).copy()
    affine[:3, 3] = volume.position_lps((0, (by[0] - 1) / 2, (by[1] - 1) / 2))
    affine[:3, 0] *= by[1]
    affine[:3, 1] *= by[0]
    return Volume(np.ascontiguousarray(blocks), affine)


def values_at(volume: Volume, points: Floats) -> FloatArray:
    """Return the signal at points, shape (..., 3), mm, LPS, by linear interpolation; NaN outside of the series."""
    inverse = np.linalg.inv(volume.affine)
    kji = (points @ inverse[:3, :3].T + inverse[:3, 3])[..., ::-1]
    last = np.array(volume.array.shape) - 1
    inside = ((kji >= -0.5) & (kji <= last + 0.5)).all(axis=-1)
    values = ndimage.map_coordinates(volume.array, np.moveaxis(kji, -1, 0), order=1, mode="nearest")
    return np.where(inside, values, np.float32(np.nan))


def coarse(volume: Volume) -> tuple[FloatArray, FloatArray, Grid]:
    """Return the series on a grid of 3 mm along the patient's axes, the share of each voxel inside it, and the grid.

    A point outside of the series has the value and the share 0.
    """
    shape = np.array(volume.array.shape)
    corners = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    low, high = (f(volume.position_lps(corners), axis=0) for f in (np.min, np.max))
    count = np.maximum(1, np.ceil((high - low) / COARSE_MM).astype(int))
    affine = np.diag([COARSE_MM] * 3 + [1.0])
    affine[:3, 3] = (low + high) / 2 - (count - 1) / 2 * COARSE_MM
    grid = Grid((int(count[2]), int(count[1]), int(count[0])), affine)
    source = Grid((int(shape[0]), int(shape[1]), int(shape[2])), volume.affine)
    sigma = [max(0.0, (COARSE_MM / mm) ** 2 - 1.0) ** 0.5 / 2.355 for mm in volume.spacing_mm]
    blurred = ndimage.gaussian_filter(volume.array, sigma, mode="nearest", truncate=3.0)
    # the edge slices stand for half a slice more on each side
    padded = np.pad(blurred, 1, mode="edge")
    wide = Grid(tuple(int(n) + 2 for n in shape), volume.affine.copy())  # type: ignore[arg-type]
    wide.affine[:3, 3] = volume.position_lps((-1, -1, -1))
    inside = resample(np.ones(source.shape_kji, np.float32), source, grid, order=0)
    return resample(padded, wide, grid) * inside, inside, grid


def candidates(volume: Volume) -> Floats:
    """Return where balls brighter than their shell may lie, shape (n, 3), mm, LPS, the best first.

    Parameters
    ----------
    volume : Volume
        From `fine`.
    """
    values, inside, grid = coarse(volume)
    if not inside.any():
        return np.empty((0, 3))
    top = float(np.percentile(values[inside > 0], 99.0))
    if not top > 0.0:
        return np.empty((0, 3))
    reach = int(np.ceil(SHELL_MM / COARSE_MM))
    offset = np.arange(-reach, reach + 1) * COARSE_MM
    away = np.sqrt(offset[:, None, None] ** 2 + offset[None, :, None] ** 2 + offset[None, None, :] ** 2)
    ball = (away <= BALL_MM).astype(np.float32)
    shell = ((away > BALL_MM + 1.0) & (away <= SHELL_MM)).astype(np.float32)
    means, covered = [], []
    for kernel in (ball, shell):
        weight = np.maximum(signal.fftconvolve(inside, kernel, mode="same"), 0.0)
        total = signal.fftconvolve(values, kernel, mode="same")
        means.append(np.where(weight > 0.5, total / np.maximum(weight, 0.5), 0.0))
        covered.append(weight / kernel.sum())
    contrast = (means[0] - means[1]) / np.maximum(means[0], 1e-6 * top)
    good = (covered[0] >= COVERED_MIN) & (means[0] >= LEVEL_MIN * top) & (contrast >= CONTRAST_MIN)
    rank = np.where(good, contrast * np.sqrt(np.clip(means[0] / top, 0.0, 1.0)), 0.0)
    peaks = (rank == ndimage.maximum_filter(rank, size=5, mode="constant")) & good
    found = np.argwhere(peaks)
    order = np.argsort(-rank[peaks], kind="stable")[:CANDIDATES]
    return grid.positions_lps(found[order])


def _directions() -> Floats:
    """Return evenly spread unit vectors, shape (RAYS, 3) (golden-angle spiral)."""
    n = np.arange(RAYS) + 0.5
    height = 1.0 - 2.0 * n / RAYS
    turn = np.pi * (1.0 + 5.0**0.5) * n
    wide = np.sqrt(1.0 - height**2)
    return np.stack([np.cos(turn) * wide, height, np.sin(turn) * wide], axis=1)


_RAYS = _directions()
_RADII = np.arange(0.0, WALL_MM[1] + 4.0, STEP_MM)


def _walls(profiles: FloatArray, expected_mm: float, slack_mm: float) -> tuple[Floats, Floats]:
    """Return where each ray's signal falls most steeply and by how much.

    Parameters
    ----------
    profiles : float array, shape (rays, radii)
        Signal over that inside; NaN outside of the series.

    Returns
    -------
    radius : float64 array, shape (rays,), mm
        NaN where the ray leaves the series before.
    fall : float64 array, shape (rays,)
    """
    inner = (profiles[:, :-4] + profiles[:, 1:-3]) / 2
    outer = (profiles[:, 3:-1] + profiles[:, 4:]) / 2
    falls = inner - outer
    at = _RADII[2:-2]
    low, high = max(WALL_MM[0], expected_mm - slack_mm), min(WALL_MM[1], expected_mm + slack_mm)
    looked = (at >= low) & (at <= high)
    known = np.isfinite(falls[:, looked]).all(axis=1)
    falls = np.where(looked, np.nan_to_num(falls, nan=-9.0), -9.0)
    best = np.clip(falls.argmax(axis=1), 1, falls.shape[1] - 2)
    rows = np.arange(len(falls))
    before, peak, after = (falls[rows, best + d] for d in (-1, 0, 1))
    bend = before - 2.0 * peak + after
    usable = (bend < -1e-6) & (before > -8.0) & (after > -8.0)
    shift = np.where(usable, 0.5 * (before - after) / np.where(usable, bend, 1.0), 0.0)
    radius = at[best] + STEP_MM * np.clip(shift, -0.5, 0.5)
    return np.where(known, radius, np.nan), np.where(known, peak, 0.0)


def fit_globe(volume: Volume, start: Floats) -> Globe | None:
    """Fit a ball to the walls around a first centre.

    Parameters
    ----------
    volume : Volume
        From `fine`.
    start : float64 array, shape (3,), mm, LPS

    Returns
    -------
    Globe or None
        None where no ball of a globe's size fits.
    """
    centre, radius = np.array(start, dtype=np.float64), BALL_MM
    globe = None
    for number in range(_ROUNDS):
        profiles = values_at(volume, centre + _RADII[:, None] * _RAYS[:, None, :])
        core = profiles[:, 0.6 * radius > _RADII]
        if np.isfinite(core).mean() < COVERED_MIN:
            return None
        level = float(np.nanmedian(core))
        if not level > 0.0:
            return None
        profiles = profiles / level
        at, fall = _walls(profiles, radius, 4.5 if number < 3 else 3.0)
        usable = np.isfinite(at) & (_RAYS[:, 1] > -FRONT_COSINE)
        solid = usable & (fall > FALL_MIN) & (fall < FALL_MAX)
        if usable.sum() < RAYS // 5 or solid.sum() < RAYS // 8:
            return None
        inlier = solid & (np.abs(at - radius) < INLIER_MM)
        globe = _judged(centre, radius, level, core / level, usable, inlier, fall)
        if number == _ROUNDS - 1:
            break
        centre, radius = _moved(centre, radius, at, fall, solid, tight=number >= 2)
        if np.linalg.norm(centre - start) > 12.0:
            return None
    return globe


def _moved(
    centre: Floats, radius: float, at: Floats, fall: Floats, solid: npt.NDArray[np.bool_], *, tight: bool
) -> tuple[Floats, float]:
    """Return centre and radius after one robust least-squares step on the walls."""
    walls = centre + at[solid, None] * _RAYS[solid]
    weight = np.minimum(fall[solid], 0.6)
    for _ in range(4):
        away = walls - centre
        distance = np.linalg.norm(away, axis=1)
        residual = distance - radius
        scale = 1.0 if tight else max(1.0, 1.5 * float(np.median(np.abs(residual))))
        w = weight / (1.0 + (residual / scale) ** 2) ** 2
        jacobian = np.concatenate([away / distance[:, None], np.ones((len(away), 1))], axis=1)
        # held near the mean radius, and the centre where nothing speaks (a globe at the edge of the series)
        left = jacobian.T @ (w[:, None] * jacobian) + np.diag([0.2, 0.2, 0.2, 0.02 * w.sum()])
        right = jacobian.T @ (w * residual) + np.array([0, 0, 0, 0.02 * w.sum() * (BALL_MM - radius)])
        step = np.linalg.solve(left, right)
        centre = centre + np.clip(step[:3], -3.0, 3.0)
        radius = float(np.clip(radius + step[3], *RADIUS_MM))
    return centre, radius


def _judged(
    centre: Floats,
    radius: float,
    level: float,
    core: FloatArray,
    usable: npt.NDArray[np.bool_],
    inlier: npt.NDArray[np.bool_],
    fall: Floats,
) -> Globe:
    walls = float(inlier.sum() / usable.sum())
    depth = float(np.median(fall[inlier])) if inlier.any() else 0.0
    low, high = np.nanpercentile(core, [25, 75])
    evenness = float(np.clip(1.0 - (high - low), 0.0, 1.0))
    score = walls * min(1.0, depth / 0.45) ** 0.5 * evenness**0.5
    return Globe(centre, radius, level, walls, depth, evenness, float(score))


def find_globes(volume: Volume) -> list[Globe]:
    """Return balls that may be globes, the best first, no two within 15 mm.

    Parameters
    ----------
    volume : Volume
        From `fine`.
    """
    fitted = [globe for start in candidates(volume) if (globe := fit_globe(volume, start)) is not None]
    fitted.sort(key=lambda globe: -globe.score)
    kept: list[Globe] = []
    for globe in fitted:
        if all(np.linalg.norm(globe.centre - other.centre) > 15.0 for other in kept):
            kept.append(globe)
    return kept
