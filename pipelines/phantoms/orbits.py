"""Coronal fat-suppressed T2 series of synthetic orbits with known globes, nerves and lesions.

Two kinds of heads: `geometric_orbits` needs nothing but a seed, `LabelHeads` takes real head shapes from label maps. Every
signal, lesion and artefact is drawn at random within the figures of `pipelines.phantoms.orbit_signal`; the same seed and
the same arguments give the same phantom, and the anatomy does not depend on the scan.

Everything here is synthetic: no real fat-suppressed orbit went into it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataSetError
from pipelines.phantoms.orbit_anatomy import (
    EyeAnatomy,
    OrbitHead,
    Points,
    Warp,
    arc_length,
    random_warp,
    swung,
)
from pipelines.phantoms.orbit_geometry import geometric_head
from pipelines.phantoms.orbit_heads import label_head
from pipelines.phantoms.orbit_render import FatFailure, render
from pipelines.phantoms.orbit_scan import SCANNERS, OrbitScan, ScannerName, draw_scan
from pipelines.phantoms.orbit_signal import GlobeKind, NerveState, draw_contrast, draw_nerve
from pipelines.types import BoolArray, Laterality, Point, Volume

__all__ = [
    "TEST_HEADS",
    "TRAINING_HEADS",
    "EyeTruth",
    "LabelHeads",
    "OrbitPhantom",
    "OrbitScan",
    "draw_scan",
    "geometric_orbits",
]

TRAINING_HEADS = tuple(range(1, 13))
TEST_HEADS = (13, 14, 15)
SIDES: tuple[Laterality, ...] = ("right", "left")
LESION_CHANCE = 0.35
"""Of each eye, where lesions are drawn at random."""
FAILURE_CHANCE = 0.35
"""Of a series in which fat suppression fails somewhere."""


@dataclass(frozen=True)
class EyeTruth:
    """Truth about one eye.

    Parameters
    ----------
    side : "left" or "right"
        The patient's.
    centre_lps, radius_mm : three floats, float
        Of the globe, mm; the radius of a ball of its volume, sclera included.
    junction_lps : three floats
        Where the nerve's axis leaves the globe's outer surface, mm.
    course_lps : float64 array, shape (n, 3), mm, LPS
        The nerve's axis from the junction backwards, every 0.5 mm, as far as it lies inside the series.
    nerve, lesion : bool arrays, shape (k, j, i)
        Voxels of which at least half is nerve; those of them of whose nerve at least half is lesion.
    lesion_contrast : float
        Lesion over nerve; 1 where there is none.
    state : NerveState
        All that was drawn of this eye.
    """

    side: Laterality
    centre_lps: Point
    radius_mm: float
    junction_lps: Point
    course_lps: npt.NDArray[np.float64]
    nerve: BoolArray
    lesion: BoolArray
    lesion_contrast: float
    state: NerveState


@dataclass(frozen=True)
class OrbitPhantom:
    """A synthetic series and its truth: the eyes that are there, the right one first."""

    volume: Volume
    eyes: tuple[EyeTruth, ...]
    scanner: ScannerName
    head: str

    def eye(self, side: Laterality) -> EyeTruth | None:
        """Return an eye, None where it is missing."""
        return next((eye for eye in self.eyes if eye.side == side), None)


def geometric_orbits(
    seed: int | np.random.Generator,
    *,
    lesions: tuple[Laterality, ...] | None = None,
    scan: OrbitScan | None = None,
    contrast: float | None = None,
    missing: tuple[Laterality, ...] = (),
    operated: tuple[Laterality, ...] = (),
) -> OrbitPhantom:
    """Return a series of a head from geometry alone.

    Parameters
    ----------
    seed : int or numpy Generator
    lesions : tuple of sides, optional
        Which nerves have one; drawn at random when absent, () for a healthy pair.
    scan : OrbitScan, optional
        Scanner A as published, placed and tilted a little at random (`draw_scan`), when absent.
    contrast : float, optional
        Lesion over nerve; from 1.3 to 2 at random when absent.
    missing : tuple of sides
        Eyes that were taken out; they are no part of the truth.
    operated : tuple of sides
        Globes filled with silicone oil.
    """
    rng = np.random.default_rng(seed)
    head = geometric_head(rng)
    warp = random_warp(head.middle, rng, scale_sd=0.0, elastic_mm=1.0, mirror=False)
    return _phantom(head, warp, rng, lesions, scan, contrast, missing, operated)


class LabelHeads:
    """Heads of real shape, drawn from whole-head label maps; each is read when it is first drawn, and kept.

    Parameters
    ----------
    folder : Path
        Holds ``head_01.nii.gz`` and so on.
    heads : sequence of int
        Which of them: `TRAINING_HEADS`, `TEST_HEADS`.

    Raises
    ------
    DataSetError
        One of them is not there.
    """

    def __init__(self, folder: Path, heads: Sequence[int]) -> None:
        self._paths = [folder / f"head_{number:02d}.nii.gz" for number in heads]
        absent = [path.name for path in self._paths if not path.is_file()]
        if absent or not self._paths:
            raise DataSetError(f"{folder} has no {', '.join(absent) or 'head chosen'}")
        self._read = functools.lru_cache(maxsize=None)(label_head)

    def __len__(self) -> int:
        return len(self._paths)

    def draw(
        self,
        rng: np.random.Generator,
        *,
        lesions: tuple[Laterality, ...] | None = None,
        scan: OrbitScan | None = None,
        contrast: float | None = None,
        missing: tuple[Laterality, ...] = (),
        operated: tuple[Laterality, ...] = (),
        head: int | None = None,
        swing_mm: float = 0.0,
    ) -> OrbitPhantom:
        """Return a series of one head, turned, scaled, bent and perhaps mirrored at random.

        Parameters
        ----------
        rng : numpy Generator
        lesions, scan, contrast, missing, operated
            As in `geometric_orbits`.
        head : int, optional
            Which of the heads chosen, from 0; at random when absent.
        swing_mm : float
            SD by which each nerve lies beside the head's own, across it, in the middle of its orbit and at its apex.
        """
        drawn = int(rng.integers(len(self._paths)))
        chosen = self._read(self._paths[drawn if head is None else head])
        if swing_mm > 0.0:
            chosen = replace(chosen, eyes=tuple(swung(eye, swing_mm, rng) for eye in chosen.eyes))
        warp = random_warp(chosen.middle, rng, scale_sd=0.03, elastic_mm=2.5, mirror=True)
        return _phantom(chosen, warp, rng, lesions, scan, contrast, missing, operated)


def _phantom(
    head: OrbitHead,
    warp: Warp,
    rng: np.random.Generator,
    lesions: tuple[Laterality, ...] | None,
    scan: OrbitScan | None,
    contrast: float | None,
    missing: tuple[Laterality, ...],
    operated: tuple[Laterality, ...],
) -> OrbitPhantom:
    drawn = tuple(side for side in SIDES if rng.random() < LESION_CHANCE)
    placed = draw_scan(rng)
    failures = _failures(warp.place, rng)
    wanted = drawn if lesions is None else lesions
    used = placed if scan is None else scan
    signals = draw_contrast(rng, SCANNERS[used.scanner].dampened)
    grid = used.grid(warp.place)
    eyes = []
    for eye in sorted((warp.eye(eye) for eye in head.eyes), key=lambda e: SIDES.index(e.side)):
        kind: GlobeKind = "normal"
        if eye.side in missing or eye.side in operated:
            kind = "missing" if eye.side in missing else "silicone oil"
        reach = float(arc_length(_seen(eye.course, used, grid.affine))[-1])
        sick = eye.side in wanted and eye.side not in missing
        eyes.append((eye, draw_nerve(rng, lesion=sick, reach_mm=reach, contrast=contrast, globe=kind)))
    made = render(head, warp, eyes, used, signals, failures, rng)
    truths = tuple(
        _truth(eye, state, used, made.grid.affine, made.nerve[eye.side], made.lesion[eye.side])
        for eye, state in eyes
        if eye.side not in missing
    )
    volume = Volume(made.array, made.grid.affine, used.dicom_attributes())
    return OrbitPhantom(volume, truths, used.scanner, head.name)


def _failures(place: Points, rng: np.random.Generator) -> list[FatFailure]:
    """Return patches of failed fat suppression, mostly below and in front of the orbits, near the sinuses' air."""
    count = 0 if rng.random() >= FAILURE_CHANCE else int(rng.integers(1, 4))
    patches = []
    for _ in range(count):
        away = np.array(
            [rng.choice([-1, 1]) * rng.uniform(10.0, 50.0), rng.uniform(-15, 30), rng.normal(-12, 14)]
        )
        x, y, z = (float(v) for v in place + away)
        patches.append(FatFailure((x, y, z), float(rng.uniform(6.0, 14.0)), float(rng.uniform(0.4, 1.0))))
    return patches


def _seen(course: Points, scan: OrbitScan, affine: Points) -> Points:
    """Return the first stretch of a course that lies inside the series; its first two points at least."""
    ijk = (course - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    inside = ((ijk > -0.5) & (ijk < np.array(scan.shape_kji[::-1]) - 0.5)).all(axis=1)
    end = len(course) if inside.all() else int(np.argmin(inside))
    return course[: max(end, 2)]


def _truth(
    eye: EyeAnatomy, state: NerveState, scan: OrbitScan, affine: Points, nerve: BoolArray, lesion: BoolArray
) -> EyeTruth:
    cx, cy, cz = (float(v) for v in eye.centre)
    jx, jy, jz = (float(v) for v in eye.course[0])
    contrast = state.lesion.contrast if state.lesion is not None else 1.0
    course = _seen(eye.course, scan, affine)
    return EyeTruth(
        eye.side, (cx, cy, cz), eye.radius_mm, (jx, jy, jz), course, nerve, lesion, contrast, state
    )
