"""Eyes of phantoms: drawn, cut out and kept on disk, so that a training that was cut off need not make them again."""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataSetError
from pipelines.fatsat.eyes import find_eyes
from pipelines.phantoms.orbit_scan import ScannerName
from pipelines.phantoms.orbits import (
    TEST_HEADS,
    TRAINING_HEADS,
    EyeTruth,
    LabelHeads,
    OrbitPhantom,
    draw_scan,
    geometric_orbits,
)
from pipelines.training.fatsat.crops import EyeSet, KnownEye, cut, joined, load
from pipelines.training.fatsat.dataset import COLUMNS, write_volume
from pipelines.training.results_folder import read_json, write_json
from pipelines.types import Laterality, Point

Located = Literal["displaced", "found"]
Report = Callable[[str], None]
Watch = Callable[[int, int], None]
"""Told how many of how many series are there."""
SIDES: tuple[Laterality, ...] = ("right", "left")
DISPLACED_MM = 1.1
"""Standard deviation along each axis by which a training crop lies beside the true junction: the median error is then 1.7 mm,
as that of the finder [ours]. Asking the finder itself would double the time."""
DRIFT_MM = 1.0
"""Standard deviation by which the course lies beside the true one 24 mm behind the junction, across it [ours]."""
LESION_SHARE = 0.45
"""Of the eyes of a phantom."""
SWING_MM = 2.5
"""SD by which the nerves of those that are learnt from lie beside the label maps' own: these are few, and one that crosses the
slices obliquely looks much like one with a lesion."""
VARIED_SHARE = 0.4
"""Of the series that are learnt from: other spacings, tilts and orders than the scanner's own."""
EYES_APART_MM = 62.0
"""Between the globes' centres, where a phantom has but one."""
PLAN = "plan.json"


@dataclass(frozen=True)
class PhantomPlan:
    """Plan of phantoms: how many, of which heads and scanner, with which lesions.

    Parameters
    ----------
    data : Path or None
        Folder with ``head_labels/``; None: heads from geometry alone.
    heads : tuple of int
        Of the label maps; each is a patient. Phantoms from geometry are a patient each.
    scanner : "A" or "B"
    count : int
    seed : int
        The same seed gives the same series.
    located : "displaced" or "found"
        Crops around the true junction, displaced at random, or around the one that the eye finder finds.
    contrast : float or None
        Lesion over nerve signal; None: drawn by the generator.
    every_eye : bool
        Every eye has a lesion; otherwise each with `LESION_SHARE`.
    varied_share : float
        Of the series, with any grid that the pipeline takes; the others have the scanner's own.
    swing_mm : float
        See `pipelines.phantoms.orbits.LabelHeads.draw`; geometry alone draws every nerve anew.
    """

    data: Path | None
    heads: tuple[int, ...]
    scanner: ScannerName
    count: int
    seed: int
    located: Located = "displaced"
    contrast: float | None = None
    every_eye: bool = False
    varied_share: float = 0.0
    swing_mm: float = 0.0


def training_plan(data: Path | None, count: int, seed: int) -> PhantomPlan:
    """Return the plan of the phantoms that networks learn from: scanner A, heads 1 to 12."""
    return PhantomPlan(data, TRAINING_HEADS, "A", count, seed, varied_share=VARIED_SHARE, swing_mm=SWING_MM)


def test_plan(data: Path | None, count: int, seed: int, contrast: float | None = None) -> PhantomPlan:
    """Return the plan of phantoms that no training saw: scanner B, heads 13 to 15; with the eyes as they are found."""
    # Far from any seed of a training: phantoms from geometry have no heads to tell them apart.
    own = 1_000_000 + seed + (0 if contrast is None else round(1000 * contrast))
    return PhantomPlan(data, TEST_HEADS, "B", count, own, "found", contrast, contrast is not None)


test_plan.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def heads_in(data: Path | None) -> Path | None:
    """Return the folder of label maps in a data folder, if there is one."""
    if data is None:
        return None
    for folder in (data / "head_labels", data):
        if next(folder.glob("head_*.nii.gz"), None) is not None:
            return folder
    return None


@functools.lru_cache(maxsize=2)
def _label_heads(data: Path, heads: tuple[int, ...]) -> LabelHeads:
    folder = heads_in(data)
    if folder is None:
        raise DataSetError(f"no head_labels/head_*.nii.gz in {data}; leave --data out to do without")
    return LabelHeads(folder, heads)


def draw(plan: PhantomPlan, number: int) -> tuple[OrbitPhantom, str]:
    """Return one phantom of a plan, and its patient.

    Raises
    ------
    DataSetError
        The label maps are not there.
    """
    rng = np.random.default_rng((plan.seed, number))
    share = 1.0 if plan.every_eye else LESION_SHARE
    lesions = tuple(side for side in SIDES if rng.random() < share)
    scan = draw_scan(rng, plan.scanner, wide=rng.random() < plan.varied_share)
    if plan.data is None:
        seed = int(rng.integers(2**31))
        return geometric_orbits(seed, lesions=lesions, scan=scan, contrast=plan.contrast), f"geometry{seed}"
    chosen = number % len(plan.heads)
    heads = _label_heads(plan.data, plan.heads)
    phantom = heads.draw(
        rng, lesions=lesions, scan=scan, contrast=plan.contrast, head=chosen, swing_mm=plan.swing_mm
    )
    return phantom, f"head{plan.heads[chosen]:02d}"


def phantom_eyes(plan: PhantomPlan, folder: Path, watch: Watch | None = None) -> EyeSet:
    """Return the eyes of a plan's phantoms; those that lie in the folder are not made again.

    Raises
    ------
    DataSetError
        The folder holds those of another plan.
    """
    told = {**asdict(plan), "data": None if plan.data is None else str(plan.data), "heads": list(plan.heads)}
    told.pop("count")
    if (folder / PLAN).exists() and read_json(folder / PLAN) != told:
        raise DataSetError(f"{folder} holds phantoms of another training; give another folder, or remove it")
    write_json(folder / PLAN, told)
    parts = []
    for number in range(plan.count):
        path = folder / f"series{number:05d}.npz"
        if not path.exists():
            _eyes_of(plan, number).save(path)
        parts.append(load(path))
        if watch:
            watch(number + 1, plan.count)
    return joined(parts)


def _eyes_of(plan: PhantomPlan, number: int) -> EyeSet:
    phantom, patient = draw(plan, number)
    known = _displaced(phantom, plan, number) if plan.located == "displaced" else _found(phantom)
    return cut(phantom.volume, known, case=f"phantom{number:05d}", patient=patient, scanner=plan.scanner)


def _displaced(phantom: OrbitPhantom, plan: PhantomPlan, number: int) -> list[KnownEye]:
    rng = np.random.default_rng((plan.seed, number, 5))
    known = []
    for eye in phantom.eyes:
        by = rng.normal(0, DISPLACED_MM, 3)
        drift = rng.normal(0, DRIFT_MM, 3) * (1, 0, 1)
        way = np.linalg.norm(eye.course_lps - eye.course_lps[0], axis=1)[:, None] / 24.0
        known.append(
            replace(
                _true(phantom, eye),
                junction_lps=_point(np.asarray(eye.junction_lps) + by),
                course_lps=eye.course_lps + by + way * drift,
                error_mm=float(np.linalg.norm(by)),
            )
        )
    return known


def _found(phantom: OrbitPhantom) -> list[KnownEye]:
    """Return the eyes as the finder sees them; one that it misses has an endless error and lies where it truly is."""
    eyes = find_eyes(phantom.volume)
    known = []
    for truth in phantom.eyes:
        eye = eyes.of(truth.side)
        if eye is None:
            known.append(replace(_true(phantom, truth), error_mm=math.inf))
            continue
        known.append(
            replace(
                _true(phantom, truth),
                junction_lps=eye.junction_lps,
                course_lps=np.asarray(eye.course_lps, dtype=np.float64),
                midpoint_lps=eyes.midpoint_lps,
                error_mm=math.dist(eye.junction_lps, truth.junction_lps),
            )
        )
    return known


def _true(phantom: OrbitPhantom, eye: EyeTruth) -> KnownEye:
    return KnownEye(
        side=eye.side,
        junction_lps=eye.junction_lps,
        course_lps=eye.course_lps,
        midpoint_lps=_midpoint(phantom),
        label=int(eye.lesion.any()),
        contrast=eye.lesion_contrast,
    )


def _midpoint(phantom: OrbitPhantom) -> Point:
    centres = [np.asarray(eye.centre_lps) for eye in phantom.eyes]
    if len(centres) == 1:
        lateral = 1 if phantom.eyes[0].side == "left" else -1
        centres.append(centres[0] - (lateral * EYES_APART_MM, 0, 0))
    return _point(np.mean(centres, axis=0))


def _point(values: npt.NDArray[np.float64]) -> Point:
    return float(values[0]), float(values[1]), float(values[2])


def phantom_cases(
    out: Path, count: int, seed: int = 0, data: Path | None = None, progress: Report | None = None
) -> list[Path]:
    """Write FAT-SAT phantoms with their lesions as a data set (see `pipelines.training.fatsat.dataset`).

    Parameters
    ----------
    out : Path
        Folder for ``index.csv`` and the NIfTI files; made if it is not there.
    count : int
        Series, of the scanners A and B in turn.
    seed : int
        The same seed gives the same series.
    data : Path, optional
        Folder with ``head_labels/``; without it heads are made from geometry alone.
    progress : callable, optional
        Takes a line for each series.

    Returns
    -------
    list of Path
        The images.

    Raises
    ------
    DataSetError
        The folder cannot be written, or ``data`` holds no label maps.
    """
    if data is not None and heads_in(data) is None:
        raise DataSetError(f"no head_labels/head_*.nii.gz in {data}; leave --data out to do without")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {out}: {error.strerror}") from error
    rows: list[Sequence[object]] = []
    written = []
    for number in range(count):
        plan = PhantomPlan(data, (*TRAINING_HEADS, *TEST_HEADS), "B" if number % 2 else "A", count, seed)
        phantom, patient = draw(plan, number)
        case = f"phantom{number:04d}"
        lesions = np.zeros(phantom.volume.array.shape, dtype=np.float32)
        for eye in phantom.eyes:
            lesions += eye.lesion
        write_volume(phantom.volume, out / f"{case}.nii.gz")
        write_volume(replace(phantom.volume, array=lesions), out / f"{case}_lesions.nii.gz")
        known = {eye.side: eye for eye in phantom.eyes}
        labels = [int(known[side].lesion.any()) if side in known else "" for side in ("left", "right")]
        points = [
            f"{value:.2f}" if eye else ""
            for eye in (known.get("left"), known.get("right"))
            for value in (eye.junction_lps if eye else (0.0, 0.0, 0.0))
        ]
        rows.append([case, f"{patient}", f"{case}.nii.gz", plan.scanner, *labels, *points, "synthetic"])
        written.append(out / f"{case}.nii.gz")
        if progress:
            ill = [side for side in ("left", "right") if side in known and known[side].lesion.any()]
            progress(f"{case}: scanner {plan.scanner}, lesion {' and '.join(ill) or 'none'}, {patient}")
    with (out / "index.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return written
