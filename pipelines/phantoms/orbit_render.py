"""Rendering of an orbital phantom, from head, nerves and scan to the series: coarse around, fine in each orbit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.brain.grid import Grid
from pipelines.phantoms.orbit_anatomy import (
    EyeAnatomy,
    OrbitHead,
    Points,
    Tissue,
    Warp,
    interpolation,
)
from pipelines.phantoms.orbit_eye import FINE_MM, EyePainter
from pipelines.phantoms.orbit_noise import acquired
from pipelines.phantoms.orbit_scan import SCANNERS, OrbitScan, Scanner, cover_weights, point_weights
from pipelines.phantoms.orbit_signal import Contrast, NerveState
from pipelines.types import BoolArray, FloatArray, Laterality

PART_MM = 0.75
"""Thickness of the planes that a slice is summed from."""
COARSE_MM = 1.0
ELASTIC_MM = 8.0
MARGIN_MM = 5.0
"""Of fine points around the shapes of an eye."""
GRAIN_MM = 3.5
GRAIN_SD = 0.06
SOFT_FAT = 0.35
"""Mean share of fat between the muscles of the face."""
_FATS = (Tissue.ORBITAL_FAT, Tissue.SUBCUTANEOUS)


@dataclass(frozen=True)
class FatFailure:
    """A patch where fat suppression fails: a Gaussian ball, mm, patient LPS, and how far it fails, 0 to 1."""

    centre: tuple[float, float, float]
    sd_mm: float
    strength: float


@dataclass(frozen=True)
class Rendered:
    """A series without its attributes, and what is nerve and lesion of each side."""

    array: FloatArray
    grid: Grid
    nerve: Mapping[Laterality, BoolArray]
    lesion: Mapping[Laterality, BoolArray]


class _Surroundings:
    """Signal of the head's tissues on planes of the scan, at about 1 mm."""

    def __init__(
        self,
        head: OrbitHead,
        warp: Warp,
        frame: _Frame,
        contrast: Contrast,
        failures: Sequence[FatFailure],
        rng: np.random.Generator,
    ) -> None:
        # a border of air around the map stands for all that lies outside
        self._labels, self._table = np.pad(head.labels, 1), contrast.table
        self._failures = failures
        self._unsuppressed = np.float32(contrast.unsuppressed)
        self._frame = frame
        x, y, z = frame.coarse_x, frame.coarse_y, frame.parts_z
        to_index = np.diag(1.0 / np.diag(head.grid.affine)[:3])
        linear = to_index @ warp.matrix
        middle = to_index @ (warp.middle - head.grid.affine[:3, 3])
        start = middle + linear @ (frame.origin - warp.place) + 1.5
        ways = linear @ frame.axes
        self._by_x = np.stack([ways[a, 0] * x for a in range(3)]).astype(np.float32)
        self._by_y = np.stack([ways[a, 1] * y for a in range(3)]).astype(np.float32)
        self._by_z = (start[:, None] + ways[:, 2:3] * z[None, :]).astype(np.float32)
        knots = [np.arange(line[0], line[-1] + ELASTIC_MM, ELASTIC_MM) for line in (z, y, x)]
        zz, yy, xx = np.meshgrid(*knots, indexing="ij")
        places = np.stack([xx.ravel(), yy.ravel(), zz.ravel()], axis=1) @ frame.axes.T + frame.origin
        moved = (warp.elastic(places) @ to_index.T).reshape(*zz.shape, 3)
        lines = (z, y, x)
        w = [interpolation(len(k), (line - k[0]) / ELASTIC_MM) for k, line in zip(knots, lines, strict=True)]
        self._elastic = np.tensordot(w[0], moved.astype(np.float32), axes=(1, 0))
        self._elastic_y, self._elastic_x = w[1], w[2].T.copy()
        counts = [max(4, int((line[-1] - line[0]) / GRAIN_MM)) for line in lines]
        g = [
            interpolation(n, np.linspace(0.0, n - 1.0, len(line)))
            for n, line in zip(counts, lines, strict=True)
        ]
        grain = rng.standard_normal((2, *counts), dtype=np.float32)
        self._grain = np.moveaxis(np.tensordot(g[0], grain, axes=(1, 1)), 1, 0)
        self._grain_y, self._grain_x = g[1], g[2].T.copy()

    def plane(self, part: int) -> FloatArray:
        """Return the signal of one plane, float32, shape (coarse rows, coarse columns)."""
        nk, nj, ni = self._labels.shape
        index = []
        for axis, size in enumerate((ni, nj, nk)):
            moved = self._elastic_y @ self._elastic[part, :, :, axis] @ self._elastic_x
            moved += self._by_x[axis][None, :]
            moved += (self._by_y[axis] + self._by_z[axis, part])[:, None]
            index.append(np.clip(moved, 0.0, size - 1.0).astype(np.int32))
        labels = self._labels.ravel().take((index[2] * nj + index[1]) * ni + index[0])
        values = self._table.take(labels)
        fine, mixed = (self._grain_y @ self._grain[n, part] @ self._grain_x for n in (0, 1))
        fat = np.isin(labels, _FATS).astype(np.float32)
        share = np.clip(SOFT_FAT + 0.8 * mixed, 0.0, 1.0) * (labels == Tissue.SOFT)
        values += share * (self._table[Tissue.SUBCUTANEOUS] - values)
        if self._failures:
            failing = np.zeros_like(values)
            for failure in self._failures:
                failing = np.maximum(failing, self._frame.blob(failure, part))
            values += failing * (fat + share) * np.maximum(self._unsuppressed - values, 0.0)
        values *= 1.0 + np.float32(GRAIN_SD) * fine
        return np.asarray(values, dtype=np.float32)


class _Frame:
    """Positions along a scan's own axes, counted from the first voxel of its most anterior slice, in mm."""

    def __init__(self, scan: OrbitScan, grid: Grid) -> None:
        self.axes = scan.axes
        slices, rows, columns = scan.shape_kji
        thick, high, wide = scan.spacing_mm
        first = [slices - 1, 0, 0] if scan.order == "posterior-first" else [0, 0, 0]
        self.origin = grid.positions_lps(first)
        self.per_slice = max(2, round(thick / PART_MM))
        share = (np.arange(self.per_slice) + 0.5) / self.per_slice - 0.5
        self.parts_z = (thick * (np.arange(slices)[:, None] + share)).ravel()
        self.pixels_x, self.pixels_y = wide * np.arange(columns), high * np.arange(rows)
        self.coarse_x = np.arange(-2.0, self.pixels_x[-1] + 3.0, COARSE_MM)
        self.coarse_y = np.arange(-2.0, self.pixels_y[-1] + 3.0, COARSE_MM)

    def blob(self, failure: FatFailure, part: int) -> FloatArray:
        """Return a Gaussian ball on a coarse plane."""
        at = (np.array(failure.centre) - self.origin) @ self.axes
        x = np.exp(-0.5 * ((self.coarse_x - at[0]) / failure.sd_mm) ** 2)
        y = np.exp(-0.5 * ((self.coarse_y - at[1]) / failure.sd_mm) ** 2)
        z = np.exp(-0.5 * ((self.parts_z[part] - at[2]) / failure.sd_mm) ** 2)
        return np.asarray(np.outer(failure.strength * z * y, x), dtype=np.float32)


class _Box:
    """The fine points of one eye in the scan's plane, and how pixels see them."""

    def __init__(
        self, painter: EyePainter, frame: _Frame, scan: OrbitScan, scanner: Scanner, width_mm: float
    ) -> None:
        low, high = painter.extent(MARGIN_MM)
        self.painter = painter
        self.parts = np.flatnonzero((frame.parts_z >= low[2]) & (frame.parts_z <= high[2]))
        self.pixels: list[slice] = []
        self.see: list[FloatArray] = []
        self.cover: list[FloatArray] = []
        self.coarse: list[slice] = []
        self.upsample: list[FloatArray] = []
        self.fine: list[FloatArray] = []
        lines = ((frame.pixels_x, frame.coarse_x, 2), (frame.pixels_y, frame.coarse_y, 1))
        for axis, (pixels, coarse, spacing_axis) in enumerate(lines):
            inside = np.flatnonzero((pixels >= low[axis]) & (pixels <= high[axis]))
            chosen = slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
            at = pixels[chosen]
            edge = 2.5
            start, stop = (at[0] - edge, at[-1] + edge) if len(at) else (0.0, 1.0)
            fine = np.arange(start, stop, FINE_MM)
            part = slice(
                max(0, int((start - coarse[0]) / COARSE_MM) - 1), int((stop - coarse[0]) / COARSE_MM) + 2
            )
            motion = painter.state.motion_mm if scanner.phase == "ij"[axis] else 0.0
            self.pixels.append(chosen)
            self.fine.append(fine.astype(np.float32))
            self.coarse.append(part)
            self.upsample.append(interpolation(len(coarse[part]), (fine - coarse[part][0]) / COARSE_MM))
            see = point_weights(at, fine, width_mm, ringing=scanner.ringing, motion_mm=motion)
            self.see.append(see)
            self.cover.append(cover_weights(at, scan.spacing_mm[spacing_axis], fine))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of its pixels."""
        return self.see[1].shape[0], self.see[0].shape[0]

    def surroundings(self, plane: FloatArray) -> FloatArray:
        """Return a coarse plane at the fine points."""
        return np.asarray(self.upsample[1] @ plane[self.coarse[1], self.coarse[0]] @ self.upsample[0].T)


def render(
    head: OrbitHead,
    warp: Warp,
    eyes: Sequence[tuple[EyeAnatomy, NerveState]],
    scan: OrbitScan,
    contrast: Contrast,
    failures: Sequence[FatFailure],
    rng: np.random.Generator,
) -> Rendered:
    """Return the series of a head.

    Planes of 0.75 mm are summed to slices; in the orbits their points are 0.25 mm apart.

    Parameters
    ----------
    head : OrbitHead
        Its tissues; its eyes are not used.
    warp : Warp
    eyes : sequence of EyeAnatomy and NerveState
        In the patient's frame.
    scan : OrbitScan
    contrast : Contrast
    failures : sequence of FatFailure
    rng : numpy Generator
    """
    scanner = SCANNERS[scan.scanner]
    grid = scan.grid(warp.place)
    frame = _Frame(scan, grid)
    width_mm = max(scanner.resolution_mm, 1.1 * max(scan.spacing_mm[1:]))
    around = _Surroundings(head, warp, frame, contrast, failures, rng)
    painters = [EyePainter(eye, state, contrast, frame.axes, frame.origin, rng) for eye, state in eyes]
    boxes = [_Box(painter, frame, scan, scanner, width_mm) for painter in painters]
    see = [
        point_weights(pixels, fine, width_mm, ringing=scanner.ringing)
        @ interpolation(len(coarse), (fine - coarse[0]) / COARSE_MM)
        for pixels, coarse, fine in (
            (p, c, np.arange(p[0] - 2.0, p[-1] + 2.0, FINE_MM))
            for p, c in ((frame.pixels_x, frame.coarse_x), (frame.pixels_y, frame.coarse_y))
        )
    ]
    share = np.full(frame.per_slice, 1.0)
    if scanner.rounded_profile:
        share = 0.5 + np.sin(np.pi * (np.arange(frame.per_slice) + 0.5) / frame.per_slice)
    share /= share.sum()
    array = np.empty(scan.shape_kji, dtype=np.float32)
    nerves = {eye.side: np.zeros(scan.shape_kji, dtype=bool) for eye, _ in eyes}
    lesions = {eye.side: np.zeros(scan.shape_kji, dtype=bool) for eye, _ in eyes}
    for n in range(scan.shape_kji[0]):
        k = scan.shape_kji[0] - 1 - n if scan.order == "posterior-first" else n
        parts = range(n * frame.per_slice, (n + 1) * frame.per_slice)
        planes = [around.plane(part) for part in parts]
        whole = np.sum([s * plane for s, plane in zip(share, planes, strict=True)], axis=0, dtype=np.float32)
        array[k] = see[1] @ whole @ see[0].T
        for box in boxes:
            if 0 in box.shape or not np.isin(parts, box.parts).any():
                continue
            values, nerve, lesion = _slice_of(box, planes, frame.parts_z[parts.start : parts.stop], share)
            where = (k, box.pixels[1], box.pixels[0])
            array[where] = values
            side = box.painter.eye.side
            nerves[side][where] = nerve >= 0.5
            lesions[side][where] = (nerve >= 0.5) & (lesion >= 0.5 * nerve)
    _add_ghosts(array, boxes, scanner, rng)
    return Rendered(acquired(array, scan, scanner, rng), grid, nerves, lesions)


def _slice_of(
    box: _Box, planes: Sequence[FloatArray], parts_z: Points, share: Points
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a slice's signal, share of nerve and share of lesion in a box's pixels."""
    shape = box.fine[1].size, box.fine[0].size
    signal, nerve, lesion = (np.zeros(shape, dtype=np.float32) for _ in range(3))
    for z, plane, weight in zip(parts_z, planes, share, strict=True):
        values = box.surroundings(plane)
        truth = box.painter.paint(values, box.fine[0], box.fine[1], float(z))
        signal += np.float32(weight) * values
        if truth is not None:
            nerve[truth.window] += truth.nerve / np.float32(len(planes))
            lesion[truth.window] += truth.lesion / np.float32(len(planes))
    return (
        np.asarray(box.see[1] @ signal @ box.see[0].T, dtype=np.float32),
        np.asarray(box.cover[1] @ nerve @ box.cover[0].T, dtype=np.float32),
        np.asarray(box.cover[1] @ lesion @ box.cover[0].T, dtype=np.float32),
    )


def _add_ghosts(array: FloatArray, boxes: Sequence[_Box], scanner: Scanner, rng: np.random.Generator) -> None:
    """Add faint copies of moving orbits along the phase direction."""
    axis = 1 if scanner.phase == "j" else 2
    for box in boxes:
        amount, shift = rng.uniform(0.02, 0.05), rng.uniform(0.15, 0.45)
        if box.painter.state.motion_mm == 0.0 or 0 in box.shape:
            continue
        moving = np.zeros_like(array)
        where = (slice(None), box.pixels[1], box.pixels[0])
        moving[where] = array[where]
        pixels = int(shift * array.shape[axis])
        array += np.float32(amount * box.painter.state.motion_mm) * (
            np.roll(moving, pixels, axis) + np.roll(moving, -pixels, axis)
        )
