"""One eye drawn finely on planes through its orbit: globe, nerve in its sheath, lesion, muscles and vessels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.phantoms.orbit_anatomy import (
    NERVE_MM,
    ORBITAL_MM,
    SCLERA_MM,
    SHEATH_MM,
    EyeAnatomy,
    Points,
    Tissue,
    arc_length,
    calibre_mm,
)
from pipelines.phantoms.orbit_signal import Contrast, NerveState
from pipelines.types import FloatArray

FINE_MM = 0.25
DURA_MM = 0.4
CANAL_MM = 8.0
"""Length of the optic canal, behind which the nerve has no sheath of its own."""
LENS_MM = (2.1, 4.6)
"""Half of its thickness and its radius."""
_AHEAD_MM = 4.0
_SOFT_MM = 0.6
"""Width of a lesion's ends."""


def _cover(depth_mm: FloatArray) -> FloatArray:
    """Return which share of a point lies inside a border, from its depth under it."""
    return np.asarray(np.clip(depth_mm / np.float32(FINE_MM) + 0.5, 0.0, 1.0))


def _over(values: FloatArray, alpha: FloatArray, signal: float | FloatArray) -> None:
    values += alpha * (signal - values)


@dataclass(frozen=True)
class PlaneTruth:
    """Truth on one plane of the nerve: shares in [0, 1], float32, in a window of the plane (rows, columns)."""

    window: tuple[slice, slice]
    nerve: FloatArray
    lesion: FloatArray


class EyePainter:
    """Draws one eye on planes of a scan.

    Parameters
    ----------
    eye : EyeAnatomy
        In the patient's frame.
    state : NerveState
    contrast : Contrast
    axes : float64 array, shape (3, 3)
        Unit vectors of i, j and of the way to the back as columns, LPS.
    origin : float64 array, shape (3,), mm, LPS
        From where positions along the axes are counted.
    rng : numpy Generator
        For the nerve's own unevenness and the implant.
    """

    def __init__(
        self,
        eye: EyeAnatomy,
        state: NerveState,
        contrast: Contrast,
        axes: Points,
        origin: Points,
        rng: np.random.Generator,
    ) -> None:
        self.eye, self.state, self.contrast, self.axes = eye, state, contrast, axes
        self.centre = (eye.centre - origin) @ axes
        course = (eye.course - origin) @ axes
        along = arc_length(course)
        first = course[0] - _AHEAD_MM * (course[4] - course[0]) / np.linalg.norm(course[4] - course[0])
        self._course = np.concatenate([first[None], course])
        self._along = np.concatenate([[-_AHEAD_MM], along])
        self._depth = np.maximum.accumulate(self._course[:, 2] + 1e-6 * np.arange(len(self._course)))
        self._tangent = np.gradient(self._course, self._along, axis=0)
        self._tangent /= np.linalg.norm(self._tangent, axis=1, keepdims=True)
        self._grain = 1.0 + state.grain * np.interp(
            self._along, np.arange(0.0, 80.0, 4.0), rng.normal(size=20)
        )
        self._implant = float(rng.uniform(0.02, 0.10))
        self._oil = float(rng.uniform(0.15, 0.45))
        self._tubes = []
        for tube in eye.tubes:
            order = np.argsort((tube.course - origin) @ axes[:, 2], kind="stable")
            self._tubes.append((tube.tissue, ((tube.course - origin) @ axes)[order], tube.half_mm[order]))

    def extent(self, margin_mm: float) -> tuple[Points, Points]:
        """Return the lowest and the highest position of the orbit's contents along the axes, shape (3,), mm."""
        reach = float(self.eye.radii_mm.max())
        points = np.concatenate(
            [self._course, self.centre[None] - reach, self.centre[None] + reach]
            + [course for _, course, _ in self._tubes]
        )
        return points.min(axis=0) - margin_mm, points.max(axis=0) + margin_mm

    def paint(self, values: FloatArray, x: FloatArray, y: FloatArray, z: float) -> PlaneTruth | None:
        """Draw one plane.

        Parameters
        ----------
        values : float32 array, shape (rows, columns)
            Signal of what surrounds the eye; changed in place.
        x, y : float32 arrays, shape (columns,), (rows,), mm
            Positions along i and j.
        z : float
            Position along the way to the back, mm.
        """
        for tissue, course, half in self._tubes:
            self._paint_tube(values, x, y, z, tissue, course, half)
        truth = self._paint_nerve(values, x, y, z)
        hidden = self._paint_globe(values, x, y, z)
        if truth is not None and hidden is not None:
            seen = 1.0 - hidden[truth.window]
            truth = PlaneTruth(truth.window, truth.nerve * seen, truth.lesion * seen)
        return truth

    def _paint_tube(
        self,
        values: FloatArray,
        x: FloatArray,
        y: FloatArray,
        z: float,
        tissue: Tissue,
        course: Points,
        half: Points,
    ) -> None:
        depth = course[:, 2]
        if not depth[0] <= z <= depth[-1]:
            return
        at = [float(np.interp(z, depth, course[:, axis])) for axis in (0, 1)]
        thick, broad = (float(np.interp(z, depth, half[:, n])) for n in (0, 1))
        hub = [float(np.interp(z, self._depth, self._course[:, axis])) for axis in (0, 1)]
        if z < self._depth[1]:
            share = float(np.clip((self._depth[1] - z) / 6.0, 0.0, 1.0))
            hub = [h + share * (float(c) - h) for h, c in zip(hub, self.centre[:2], strict=True)]
        away = np.array(at) - hub
        away /= max(float(np.linalg.norm(away)), 1e-6)
        window = _window(x, y, at, broad + thick + 1.0)
        dx, dy = x[window[1]][None, :] - np.float32(at[0]), y[window[0]][:, None] - np.float32(at[1])
        along, across = dx * away[0] + dy * away[1], dy * away[0] - dx * away[1]
        distance = np.sqrt((along / thick) ** 2 + (across / broad) ** 2)
        _over(values[window], _cover((1.0 - distance) * np.float32(thick)), self.contrast.of(tissue))

    def _paint_nerve(self, values: FloatArray, x: FloatArray, y: FloatArray, z: float) -> PlaneTruth | None:
        if not self._depth[0] <= z <= self._depth[-1]:
            return None
        state, signal = self.state, self.contrast
        at = [float(np.interp(z, self._depth, self._course[:, axis])) for axis in (0, 1)]
        tangent = [float(np.interp(z, self._depth, self._tangent[:, axis])) for axis in (0, 1)]
        window = _window(x, y, at, 7.0)
        dx, dy = x[window[1]][None, :] - np.float32(at[0]), y[window[0]][:, None] - np.float32(at[1])
        step = dx * np.float32(tangent[0]) + dy * np.float32(tangent[1])
        along = np.float32(np.interp(z, self._depth, self._along)) + step
        distance = np.sqrt(np.maximum(dx**2 + dy**2 - step**2, 0.0))
        shown = np.clip(along / np.float32(FINE_MM) + 0.5, 0.0, 1.0)
        grown = 0.6 if state.globe == "missing" else 1.0
        radius = calibre_mm(along, NERVE_MM) / 2.0 * state.size * grown
        fluid_mm = (calibre_mm(along, SHEATH_MM) - calibre_mm(along, NERVE_MM)) / 2.0 * state.sheath
        bright = np.zeros_like(along)
        if state.lesion is not None:
            lesion = state.lesion
            past, left = along - lesion.start_mm, lesion.start_mm + lesion.length_mm - along
            bright = np.clip(np.minimum(past, left) / _SOFT_MM + 0.5, 0.0, 1.0)
            radius = radius * (1.0 + lesion.swelling * bright)
        sheathed = shown * np.clip((ORBITAL_MM + CANAL_MM - along) / 2.0, 0.0, 1.0)
        box = values[window]
        outer = (radius + fluid_mm).astype(np.float32)
        _over(box, _cover(outer + DURA_MM - distance) * sheathed, signal.sclera)
        _over(box, _cover(outer - distance) * sheathed, state.fluid * signal.of(Tissue.FLUID))
        nerve = _cover(radius.astype(np.float32) - distance) * shown
        own = (signal.nerve * np.interp(along, self._along, self._grain)).astype(np.float32)
        if state.vessel is not None:
            dot = _cover(np.float32(state.vessel) - distance) * (along < state.vessel_mm[1])
            own *= 1.0 - (1.0 - state.vessel_signal) * dot
        if state.lesion is not None:
            ox, oy = (np.float32(o * 1.5) for o in state.lesion.offset)
            ahead = (dx - ox) * np.float32(tangent[0]) + (dy - oy) * np.float32(tangent[1])
            apart = np.sqrt(np.maximum((dx - ox) ** 2 + (dy - oy) ** 2 - ahead**2, 0.0))
            bright = bright * _cover((radius * state.lesion.share).astype(np.float32) - apart)
            own *= 1.0 + (state.lesion.contrast - 1.0) * bright
        _over(box, nerve, own)
        return PlaneTruth(window, nerve.astype(np.float32), (nerve * bright).astype(np.float32))

    def _paint_globe(self, values: FloatArray, x: FloatArray, y: FloatArray, z: float) -> FloatArray | None:
        """Draw the globe; returns where it hides what was there."""
        dz = z - self.centre[2]
        if abs(dz) > self.eye.radii_mm.max() + 0.5:
            return None
        dx, dy = x[None, :] - np.float32(self.centre[0]), y[:, None] - np.float32(self.centre[1])
        # components along L, P and S
        parts = [
            np.float32(self.axes[a, 0]) * dx
            + np.float32(self.axes[a, 1]) * dy
            + np.float32(self.axes[a, 2] * dz)
            for a in range(3)
        ]
        if self.state.globe == "missing":
            alpha = _cover(np.float32(8.5) - np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2))
            _over(values, alpha, self._implant)
            return None
        radii = self.eye.radii_mm.astype(np.float32)
        square = (parts[0] / radii[0]) ** 2 + (parts[1] / radii[1]) ** 2 + (parts[2] / radii[2]) ** 2
        depth = (1.0 - np.sqrt(square)) * np.float32(self.eye.radius_mm)
        wall, inner = _cover(depth), _cover(depth - np.float32(SCLERA_MM))
        _over(values, wall, self.contrast.sclera)
        filling: float | FloatArray = 1.0
        if self.state.globe == "silicone oil":
            filling = np.where(parts[2] > -0.55 * radii[2], np.float32(self._oil), np.float32(1.0)).astype(
                np.float32
            )
        _over(values, inner, filling)
        gaze = self.eye.gaze.astype(np.float32)
        ahead = parts[0] * gaze[0] + parts[1] * gaze[1] + parts[2] * gaze[2]
        aside = np.maximum(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2 - ahead**2, 0.0)
        front = np.float32(self.eye.radius_mm)
        if float(ahead.max()) > front - 12.0:
            _over(values, inner * _cover(3.3 - front + ahead), self.contrast.aqueous)
            iris = _cover(0.35 - np.abs(ahead - (front - 3.3))) * _cover(np.sqrt(aside) - 1.8)
            _over(values, inner * iris, 0.3)
            shape = np.sqrt(((ahead - (front - 5.8)) / LENS_MM[0]) ** 2 + aside / LENS_MM[1] ** 2)
            if self.state.globe == "normal":
                _over(values, inner * _cover((1.0 - shape) * np.float32(LENS_MM[0])), self.contrast.lens)
        return wall


def _window(x: FloatArray, y: FloatArray, at: list[float], reach_mm: float) -> tuple[slice, slice]:
    """Return the rows and columns within reach of a place."""
    i = np.searchsorted(x, [at[0] - reach_mm, at[0] + reach_mm])
    j = np.searchsorted(y, [at[1] - reach_mm, at[1] + reach_mm])
    return slice(int(j[0]), int(j[1])), slice(int(i[0]), int(i[1]))
