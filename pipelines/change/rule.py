"""Rule by which a place that has become brighter counts as a new or an enlarging lesion.

A core is a connected place where the images are brighter and the networks see at least a candidate. Its limits are low, so that
it holds the rim of a lesion that has grown; whether it is growth is decided from the evidence on it as a whole
(`pipelines.change.evidence`). Seen from the earlier scan the same rule tells what is smaller or resolved.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.long_axis import long_axis_mm
from pipelines.change.evidence import (
    MASK,
    REACH_MM,
    Box,
    Evidence,
    Scan,
    SpacingMm,
    evidence_of,
    likelihood,
    with_margin,
)
from pipelines.types import BoolArray, FloatArray

LabelArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Asked:
    """Least values that one kind of change is asked for.

    Parameters
    ----------
    sure, possible : float
        Likelihood by the evidence.
    signal : float
        Smoothed difference in its noise, of what is sure.
    volume_mm3 : float
        Of the core of what is sure.
    share, excess : float
        Share of its brightness that the core has gained, and difference to the brightest within a voxel of it before. A bright
        place that the networks took for a lesion only once is no change, whatever they say: the regressions saw too few of
        these.
    """

    sure: float
    possible: float
    signal: float
    volume_mm3: float
    share: float
    excess: float


@dataclass(frozen=True)
class Limits:
    """Limits of the rule; all were fixed on the pairs that the evidence was fitted on, the likelihoods by cross-validation.

    Parameters
    ----------
    candidate, later : float
        Least of both probabilities' larger one, and least later probability, in a core.
    difference : float
        Least smoothed difference over normal white matter in a core: below it, images of one brain differ by shading.
    noise : float
        It counts when it is as many times its noise, too. Low, for the evidence asks how far the whole core stands out.
    contrast, faint_contrast : float
        Least of a core's greatest smoothed difference; what passes the second one alone is possible.
    faint_mm3, voxels : float, int
        Least volume and number of voxels of a core: thick slices have large ones.
    sure_voxels : int
        Least number of voxels of what is sure.
    strong : float
        Share of its greatest smoothed difference from which a voxel belongs to the strong part of a core. Where that leaves the
        earlier mask and a voxel around it free, the lesion is one of its own.
    earlier : float
        A new lesion has a lower probability than this in the earlier scan.
    new, growth : Asked
        New lesions are asked for more than enlarging ones: a false one costs more.
    long_axis_mm : float
        Least long axis of a new lesion, as the criteria of McDonald ask.
    different_mm3 : float
        Least volume of a new lesion between acquisitions of different kinds.
    """

    candidate: float = 0.3
    later: float = 0.2
    difference: float = 0.03
    noise: float = 1.5
    contrast: float = 0.08
    faint_contrast: float = 0.06
    faint_mm3: float = 10.0
    voxels: int = 4
    sure_voxels: int = 8
    strong: float = 0.5
    earlier: float = 0.3
    new: Asked = Asked(sure=0.6, possible=0.35, signal=4.0, volume_mm3=20.0, share=0.35, excess=-0.02)
    growth: Asked = Asked(sure=0.4, possible=0.25, signal=3.0, volume_mm3=30.0, share=0.2, excess=-0.15)
    long_axis_mm: float = 3.0
    different_mm3: float = 100.0


LIMITS = Limits()
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Growth:
    """Place that has become brighter.

    Parameters
    ----------
    is_new : bool
        Else a lesion that is enlarging.
    certain : bool
        False when it is too faint or too small for a headline.
    volume_mm3, earlier_mm3 : float
        Of the lesion in the later and in the earlier scan.
    """

    is_new: bool
    certain: bool
    volume_mm3: float
    earlier_mm3: float


@dataclass(frozen=True)
class Grown:
    """All that has grown: the number of each, from 1, in its voxels, and what it is, number 1 first."""

    labels: LabelArray
    growths: tuple[Growth, ...]


@dataclass(frozen=True)
class Core:
    """Connected place that has become brighter, in its box, the evidence on it, and whether it lies apart from old lesions."""

    inside: BoolArray
    box: Box
    is_apart: bool
    evidence: Evidence


def cores_of(
    later: Scan,
    earlier: Scan,
    smooth: FloatArray,
    noise: float,
    spacing_mm: SpacingMm,
    limits: Limits = LIMITS,
) -> tuple[Core, ...]:
    """Return the places that have become brighter from the earlier to the later scan; see `grown`."""
    now, then = later.probability, earlier.probability
    seen = (np.maximum(now, then) > limits.candidate) & (now > limits.later)
    brighter = seen & (smooth > max(limits.noise * noise, limits.difference))
    if not brighter.any():
        return ()
    labels, count = cc3d.connected_components(brighter, connectivity=18, return_N=True)
    boxes = cc3d.statistics(labels)["bounding_boxes"]
    near_earlier = np.asarray(ndimage.binary_dilation(then >= MASK, _NEIGHBOURS))
    voxel_mm3 = float(np.prod(spacing_mm))
    cores = []
    for number in range(1, count + 1):
        box = boxes[number]
        inside = labels[box] == number
        voxels = int(np.count_nonzero(inside))
        if voxels < limits.voxels or voxels * voxel_mm3 < limits.faint_mm3:
            continue
        evidence = evidence_of(inside, box, later, earlier, smooth, noise, near_earlier, spacing_mm)
        strong = inside & (smooth[box] > limits.strong * float(smooth[box][inside].max()))
        is_apart = not near_earlier[box][strong].any() and bool((then[box][strong] < limits.earlier).all())
        cores.append(Core(inside, box, is_apart, evidence))
    return tuple(cores)


def grown(
    later: Scan,
    earlier: Scan,
    smooth: FloatArray,
    noise: float,
    spacing_mm: SpacingMm,
    limits: Limits = LIMITS,
) -> Grown:
    """Return what has grown from the earlier to the later scan.

    Parameters
    ----------
    later, earlier : Scan
        On the common grid.
    smooth : float32 array, shape (k, j, i)
        Smoothed difference of the later less the earlier image, over normal white matter; 0 outside the brain.
    noise : float
        Its SD in normal tissue.
    spacing_mm : three floats
        Along k, j and i.
    """
    labels = np.zeros(later.probability.shape, dtype=np.int32)
    cores = cores_of(later, earlier, smooth, noise, spacing_mm, limits)
    if not cores:
        return Grown(labels, ())
    lesions = _Lesions(later.probability >= MASK, earlier.probability >= MASK, spacing_mm)
    growths: list[Growth] = []
    for core in cores:
        growth = _judged(core, lesions, spacing_mm, limits)
        if growth is not None:
            growths.append(growth)
            labels[core.box][core.inside] = len(growths)
    return Grown(labels, tuple(growths))


def _judged(core: Core, lesions: _Lesions, spacing_mm: SpacingMm, limits: Limits) -> Growth | None:
    """Return what a core is, None where it is no growth."""
    evidence, is_new = core.evidence, core.is_apart
    asked = limits.new if is_new else limits.growth
    likely = likelihood(evidence)
    if likely < asked.possible or evidence.share < asked.share or evidence.excess < asked.excess:
        return None
    if evidence.difference < limits.faint_contrast:
        return None
    if is_new and long_axis_mm(core.inside, spacing_mm) < limits.long_axis_mm:
        return None
    certain = (
        likely >= asked.sure
        and evidence.signal >= asked.signal
        and evidence.difference >= limits.contrast
        and evidence.volume_mm3 >= asked.volume_mm3
        and int(np.count_nonzero(core.inside)) >= limits.sure_voxels
    )
    volume, earlier_mm3 = lesions.around(core)
    if is_new:
        if earlier_mm3:
            # It has merged with an old lesion: what it added is what is new.
            volume = lesions.added_near(core)
        return Growth(True, certain, max(volume, evidence.volume_mm3), 0.0)
    return Growth(False, certain, volume, earlier_mm3)


class _Lesions:
    """Lesions of both scans, and their volumes around a core."""

    def __init__(self, after: BoolArray, before: BoolArray, spacing_mm: SpacingMm) -> None:
        self._spacing_mm = spacing_mm
        self._voxel_mm3 = float(np.prod(spacing_mm))
        self._after, self._after_mm3 = _labelled(after, self._voxel_mm3)
        self._before, self._before_mm3 = _labelled(before, self._voxel_mm3)

    def _core_in(self, core: Core, margin_mm: float) -> tuple[Box, BoolArray]:
        wide, at = with_margin(core.box, self._after.shape, self._spacing_mm, margin_mm)
        inside = np.zeros([s.stop - s.start for s in wide], dtype=bool)
        inside[at] = core.inside
        return wide, inside

    def around(self, core: Core) -> tuple[float, float]:
        """Return the volumes, later and earlier, of the lesions that a core lies in or touches."""
        wide, inside = self._core_in(core, 0.0)
        touched = ndimage.binary_dilation(inside, _NEIGHBOURS)
        return (
            _sum(self._after_mm3, self._after[wide][touched]),
            _sum(self._before_mm3, self._before[wide][touched]),
        )

    def added_near(self, core: Core) -> float:
        """Return how much more lesion there is near a core."""
        wide, inside = self._core_in(core, REACH_MM)
        reached = ndimage.distance_transform_edt(~inside, sampling=self._spacing_mm) <= REACH_MM
        later, earlier = (np.count_nonzero((of[wide] > 0) & reached) for of in (self._after, self._before))
        return max(0.0, float(later) - float(earlier)) * self._voxel_mm3


def _labelled(mask: BoolArray, voxel_mm3: float) -> tuple[LabelArray, npt.NDArray[np.float64]]:
    labels = np.asarray(cc3d.connected_components(mask, connectivity=26), dtype=np.int32)
    sizes = np.bincount(labels.ravel()).astype(np.float64) * voxel_mm3
    sizes[0] = 0.0
    return labels, sizes


def _sum(sizes: npt.NDArray[np.float64], numbers: LabelArray) -> float:
    return float(sizes[np.unique(numbers)].sum())
