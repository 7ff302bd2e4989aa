"""Rule by which a place that has become brighter counts as a new or an enlarging lesion.

A core is a connected place where both the images and the networks say so: the difference of the images passes its noise and a
least contrast, one of both probabilities is that of a candidate, and the later one is not that of normal tissue. Seen from
the earlier scan the same rule tells what is smaller or resolved.
"""

from __future__ import annotations

from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.long_axis import long_axis_mm
from pipelines.types import BoolArray, FloatArray

LabelArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Limits:
    """Limits of the rule.

    Parameters
    ----------
    candidate, later : float
        Least of both probabilities' larger one, and least later probability, in a core.
    earlier : float
        A new lesion's core has a lower probability than this in the earlier scan.
    mask : float
        Probability from which a voxel belongs to a lesion.
    contrast, faint_contrast : float
        Least difference over normal white matter in a core; what passes the second one alone is possible.
    noise : float
        A difference counts when it is as many times the noise.
    gained, growth_gained : float
        Least share of what the core is brighter than white matter now that it was not before, for a new and for an enlarging
        lesion.
    new_share : float
        Least share of a new lesion that is core: the whole of it was not bright before.
    new_excess, growth_excess : float
        Least difference of a core to the brightest that was within a voxel of it, for a new and for an enlarging lesion.
    volume_mm3, faint_mm3 : float
        Least volume of a core; what passes the second one alone is possible.
    voxels : int
        Least number of voxels of a core: thick slices have large ones.
    long_axis_mm : float
        Least long axis of a new lesion.
    sure_voxels : int
        As many of them pass the full contrast, or the change is possible.
    growth_mm3 : float
        Least volume of the core of an enlarging lesion.
    small_growth, growth : float
        Relative growth, near the core, of a lesion below and from `small_mm3` on.
    near_mm : float
        So far from the core growth is measured: a confluent lesion grows at one end.
    small_mm3 : float
    different_mm3 : float
        Least volume of a new lesion between acquisitions of different kinds.
    """

    candidate: float = 0.3
    later: float = 0.2
    earlier: float = 0.3
    mask: float = 0.5
    contrast: float = 0.15
    faint_contrast: float = 0.10
    noise: float = 4.0
    gained: float = 0.5
    growth_gained: float = 0.5
    new_share: float = 0.25
    new_excess: float = 0.0
    growth_excess: float = -0.05
    volume_mm3: float = 20.0
    faint_mm3: float = 10.0
    voxels: int = 4
    sure_voxels: int = 8
    long_axis_mm: float = 3.0
    growth_mm3: float = 30.0
    small_growth: float = 0.5
    growth: float = 0.25
    small_mm3: float = 200.0
    near_mm: float = 4.0
    different_mm3: float = 100.0


LIMITS = Limits()
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Scan:
    """One scan on the common grid, shape (k, j, i).

    Parameters
    ----------
    probability : float32 array
        Of a lesion.
    image : float32 array
        Over normal white matter.
    """

    probability: FloatArray
    image: FloatArray


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


def grown(
    later: Scan,
    earlier: Scan,
    difference: FloatArray,
    noise: float,
    spacing_mm: tuple[float, float, float],
    limits: Limits = LIMITS,
) -> Grown:
    """Return what has grown from the earlier to the later scan.

    Parameters
    ----------
    later, earlier : Scan
        On the common grid.
    difference : float32 array, shape (k, j, i)
        Later less earlier image, over normal white matter; 0 outside the brain.
    noise : float
        Its SD in normal tissue.
    spacing_mm : three floats
        Along k, j and i.
    """
    voxel_mm3 = float(np.prod(spacing_mm))
    floor = limits.noise * noise
    now, then = later.probability, earlier.probability
    seen = (np.maximum(now, then) > limits.candidate) & (now > limits.later)
    faint = seen & (difference > max(floor, limits.faint_contrast))
    labels = np.zeros(now.shape, dtype=np.int32)
    if not faint.any():
        return Grown(labels, ())
    strong = faint & (difference > max(floor, limits.contrast))
    cores, count = cc3d.connected_components(faint, connectivity=18, return_N=True)
    boxes = cc3d.statistics(cores)["bounding_boxes"]
    masks = _Masks(then >= limits.mask, now >= limits.mask, voxel_mm3)
    growths: list[Growth] = []
    for number in range(1, count + 1):
        box = boxes[number]
        inside = cores[box] == number
        voxels = int(np.count_nonzero(inside))
        if voxels < limits.voxels or voxels * voxel_mm3 < limits.faint_mm3:
            continue
        core = _Core(inside, box, int(np.count_nonzero(inside & strong[box])), later, earlier, spacing_mm)
        is_new = not masks.near_earlier[box][inside].any()
        growth = (_new if is_new else _enlarging)(core, masks, limits)
        if growth is not None:
            growths.append(growth)
            labels[box][inside] = len(growths)
    return Grown(labels, tuple(growths))


@dataclass(frozen=True)
class _Core:
    """Core in its box, how many of its voxels pass the full contrast, and both scans."""

    inside: BoolArray
    box: tuple[slice, ...]
    strong: int
    later: Scan
    earlier: Scan
    spacing_mm: tuple[float, float, float]

    @property
    def voxel_mm3(self) -> float:
        return float(np.prod(self.spacing_mm))

    @property
    def volume_mm3(self) -> float:
        return float(np.count_nonzero(self.inside)) * self.voxel_mm3

    def was_dark(self, gained: float, excess: float) -> bool:
        """Tell whether a share of what is brighter than white matter was not so before, there and within a voxel of it.

        Parameters
        ----------
        gained : float
            The share.
        excess : float
            Least difference to the brightest that was within a voxel: alignment may err by as much.
        """
        now, then = (float(np.median(of.image[self.box][self.inside])) for of in (self.later, self.earlier))
        if now - then < gained * (now - 1):
            return False
        wide, inner = _margin(self.box, self.later.image.shape)
        brightest = ndimage.maximum_filter(self.earlier.image[wide], size=3)[inner]
        return float(np.median((self.later.image[self.box] - brightest)[self.inside])) >= excess

    def is_certain(self, volume_mm3: float, limits: Limits) -> bool:
        return self.strong >= limits.sure_voxels and self.strong * self.voxel_mm3 >= volume_mm3


def _new(core: _Core, masks: _Masks, limits: Limits) -> Growth | None:
    """Return a new lesion, None where the core is none: it was bright before, or is a part of what was there."""
    if float(core.earlier.probability[core.box][core.inside].max()) >= limits.earlier:
        return None
    volume = max(core.volume_mm3, masks.later_mm3(core.box, core.inside))
    if core.volume_mm3 < limits.new_share * volume or not core.was_dark(limits.gained, limits.new_excess):
        return None
    if long_axis_mm(core.inside, core.spacing_mm) < limits.long_axis_mm:
        return None
    return Growth(True, core.is_certain(limits.volume_mm3, limits), volume, 0.0)


def _enlarging(core: _Core, masks: _Masks, limits: Limits) -> Growth | None:
    """Return a lesion that grows at the core, None where it does not grow enough."""
    before = core.earlier.probability[core.box][core.inside]
    if core.volume_mm3 < limits.growth_mm3 or float(np.median(before)) >= limits.earlier:
        return None
    if not core.was_dark(limits.growth_gained, limits.growth_excess):
        return None
    volume, earlier_mm3 = masks.around(core.box, core.inside)
    least = limits.small_growth if earlier_mm3 < limits.small_mm3 else limits.growth
    near_mm3, earlier_near_mm3 = masks.near(core.box, core.inside, core.spacing_mm, limits.near_mm)
    if near_mm3 < (1 + least) * earlier_near_mm3:
        return None
    return Growth(False, core.is_certain(limits.growth_mm3, limits), volume, earlier_mm3)


def _margin(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return a box with a voxel around it, and where the box lies in it."""
    wide = tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, shape, strict=True))
    inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
    return wide, inner


class _Masks:
    """Lesions of both scans, and their volumes around a core."""

    def __init__(self, before: BoolArray, after: BoolArray, voxel_mm3: float) -> None:
        self.near_earlier = np.asarray(ndimage.binary_dilation(before, _NEIGHBOURS))
        self._before, self._before_mm3 = _labelled(before, voxel_mm3)
        self._after, self._after_mm3 = _labelled(after, voxel_mm3)

    def near(
        self, box: tuple[slice, ...], core: BoolArray, spacing_mm: tuple[float, float, float], reach_mm: float
    ) -> tuple[float, float]:
        """Return the volumes, later and earlier, of what is lesion within a reach of a core."""
        margins = [int(np.ceil(reach_mm / mm)) for mm in spacing_mm]
        wide = tuple(
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n, margin in zip(box, self._before.shape, margins, strict=True)
        )
        outside = np.ones([w.stop - w.start for w in wide], dtype=bool)
        outside[
            tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
        ] = ~core
        reached = ndimage.distance_transform_edt(outside, sampling=spacing_mm) <= reach_mm
        voxel_mm3 = float(np.prod(spacing_mm))
        later, earlier = (
            float(np.count_nonzero((of[wide] > 0) & reached)) * voxel_mm3
            for of in (self._after, self._before)
        )
        return later, earlier

    def later_mm3(self, box: tuple[slice, ...], core: BoolArray) -> float:
        """Return the volume of the later lesions that a core lies in."""
        return _sum(self._after_mm3, self._after[box][core])

    def around(self, box: tuple[slice, ...], core: BoolArray) -> tuple[float, float]:
        """Return the volumes, later and earlier, of the lesions that a core lies in or touches."""
        wide, inner = _margin(box, self._before.shape)
        touched = np.zeros([w.stop - w.start for w in wide], dtype=bool)
        touched[inner] = core
        touched = ndimage.binary_dilation(touched, _NEIGHBOURS)
        return (
            _sum(self._after_mm3, self._after[wide][touched]),
            _sum(self._before_mm3, self._before[wide][touched]),
        )


def _labelled(mask: BoolArray, voxel_mm3: float) -> tuple[LabelArray, npt.NDArray[np.float64]]:
    labels = np.asarray(cc3d.connected_components(mask, connectivity=26), dtype=np.int32)
    sizes = np.bincount(labels.ravel()).astype(np.float64) * voxel_mm3
    sizes[0] = 0.0
    return labels, sizes


def _sum(sizes: npt.NDArray[np.float64], numbers: LabelArray) -> float:
    return float(sizes[np.unique(numbers)].sum())
