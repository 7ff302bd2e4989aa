"""Suitability of a series as coronal fat-suppressed T2 of the orbits, judged before the network sees it.

Each check returns a `Verdict`: a reason to refuse, in one line, or warnings, or neither. A missing attribute only warns,
because the pixels are judged as well.

References
----------
DICOM PS3.3 C.8.3.1 (EchoTime), C.7.6.2.1.1 (orientation); NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.stages import Verdict, attribute
from pipelines.types import FloatArray, Point, Volume

if TYPE_CHECKING:
    from pipelines.fatsat.eyes import Eye

ECHO_TIME_MS = (60.0, 120.0)
TILT_MAX_DEG = 30.0
IN_PLANE_MAX_MM = 0.8
SLICE_MM = (2.0, 4.0)
SLICE_WARN_MM = 3.5
SLICES = (12, 40)
TOLERANCE_MM = 0.05
TOLERANCE_DEG = 0.5
BEHIND_MIN_MM = 24.0
"""Of the series, behind the point where a nerve leaves its globe."""
VITREOUS_MIN = 1.5
"""Median of the vitreous over that of what surrounds the globe: T2 above 2.5, T1 and FLAIR below 1."""
INNER, OUTER = 1.25, 2.0
"""The surroundings of a globe, in its radii."""


def check_protocol(attributes: Mapping[str, object]) -> Verdict:
    """Judge the echo time where it is given."""
    low, high = ECHO_TIME_MS
    echo_ms = attribute(attributes, "EchoTime")
    if echo_ms is None:
        return Verdict(warnings=("echo time not given",))
    if not low <= echo_ms <= high:
        return Verdict(f"not T2 of the orbits: echo time {echo_ms:g} ms is outside {low:g} to {high:g} ms")
    return Verdict()


def check_geometry(volume: Volume) -> Verdict:
    """Judge plane, resolution and number of slices."""
    shape = volume.array.shape
    if volume.array.ndim != 3 or min(shape) < 2:
        return Verdict(f"not a volume: shape {'x'.join(str(n) for n in shape)}")
    between, *in_plane = volume.spacing_mm
    if not np.isfinite([between, *in_plane]).all() or min(volume.spacing_mm) <= 0.0:
        return Verdict("not a volume: the distance between voxels is zero or not a number")
    reason = _wrong_plane(coronal_tilt_deg(volume)) or _wrong_grid(shape[0], between, max(in_plane))
    if reason:
        return Verdict(reason)
    if between > SLICE_WARN_MM + TOLERANCE_MM:
        return Verdict(warnings=(f"slices are {between:.1f} mm apart: a short lesion may be missed",))
    return Verdict()


def _wrong_plane(tilt_deg: float) -> str:
    if tilt_deg <= TILT_MAX_DEG + TOLERANCE_DEG:
        return ""
    return f"not coronal: the slices are tilted by {tilt_deg:.0f} degrees, more than {TILT_MAX_DEG:g}"


def _wrong_grid(slices: int, between_mm: float, in_plane_mm: float) -> str:
    if in_plane_mm > IN_PLANE_MAX_MM + TOLERANCE_MM:
        return f"pixels are {in_plane_mm:.2f} mm wide; at most {IN_PLANE_MAX_MM:g} mm can be analysed"
    low, high = SLICE_MM
    if not low - TOLERANCE_MM <= between_mm <= high + TOLERANCE_MM:
        return f"slices are {between_mm:.1f} mm apart; {low:g} to {high:g} mm can be analysed"
    if not SLICES[0] <= slices <= SLICES[1]:
        return f"{slices} slices; {SLICES[0]} to {SLICES[1]} can be analysed"
    return ""


def check_contrast(volume: Volume, eyes: Sequence[Eye]) -> Verdict:
    """Judge by the pixels whether the vitreous is bright, as on T2 alone.

    Parameters
    ----------
    eyes : sequence of Eye
        Those that were found; without any there is nothing to judge. Where a person gave all of them, and the echo time is that
        of T2, dark ones only warn.
    """
    vitreous, around = [], []
    for eye in eyes:
        inside, outside = _around_globe(volume, eye.centre_lps, eye.radius_mm)
        vitreous.append(inside)
        around.append(outside)
    if not eyes or min(part.size for part in (*vitreous, *around)) < 20:
        return Verdict()
    ratios = [
        float(np.median(a)) / max(float(np.median(b)), 1e-6) for a, b in zip(vitreous, around, strict=True)
    ]
    # the brighter eye decides: a bleeding or an oil filling darkens one
    if max(ratios) >= VITREOUS_MIN:
        return Verdict()
    dark = f"the vitreous is not bright ({max(ratios):.1f} times what surrounds the globe)"
    by_hand = all(eye.source == "manual" for eye in eyes)
    if by_hand and attribute(volume.attributes, "EchoTime") is not None:
        # a prosthesis or a filling is dark, too: who gave the points has seen it, and the echo time has been judged
        return Verdict(warnings=(f"{dark}: taken for T2 because of the points that were given",))
    return Verdict(f"not fat-suppressed T2: {dark}")


def coronal_tilt_deg(volume: Volume) -> float:
    """Return the angle, in degrees, between the slices and the coronal plane."""
    return float(np.degrees(np.arccos(np.clip(abs(_backward(volume)[1]), 0.0, 1.0))))


def reach_behind_mm(volume: Volume, point: Point) -> float:
    """Return how far the series reaches behind a point, along the slices' normal, in mm."""
    backward = _backward(volume)
    ends = [volume.position_lps((k, 0, 0)) for k in (0, len(volume.array) - 1)]
    last = max(float(end @ backward) for end in ends) + volume.spacing_mm[0] / 2
    return last - float(np.asarray(point) @ backward)


def _backward(volume: Volume) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the unit normal of the slices, LPS, that points to the back of the head."""
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    return np.asarray(normal if normal[1] >= 0 else -normal)


def _around_globe(volume: Volume, centre: Point, radius_mm: float) -> tuple[FloatArray, FloatArray]:
    """Return the intensities well inside a globe, and those of a shell around it without its dark air and bone."""
    index = np.linalg.solve(volume.affine[:3, :3], np.asarray(centre) - volume.affine[:3, 3])[::-1]
    reach = OUTER * radius_mm / np.array(volume.spacing_mm) + 1
    low = np.maximum(np.floor(index - reach).astype(int), 0)
    high = np.minimum(np.ceil(index + reach).astype(int) + 1, volume.array.shape)
    if (low >= high).any():
        return np.empty(0, np.float32), np.empty(0, np.float32)
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    grid = np.stack(
        np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij"), axis=-1
    )
    away = np.linalg.norm(volume.position_lps(grid) - np.asarray(centre), axis=-1) / radius_mm
    values = volume.array[box]
    inside = values[away < 0.7]
    shell = values[(away > INNER) & (away < OUTER)]
    if inside.size and shell.size:
        shell = shell[shell > 0.1 * np.median(inside)]
    return inside, shell
